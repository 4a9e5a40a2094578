"""One table by dlt's `rest_api` source into a new DuckDB file; run by the interpreter of dlt's own environment.

It prints the seconds, without start-up and imports, and the rows. Its settings stand in `.dlt/config.toml`.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dlt
import duckdb
from dlt.sources.rest_api import RESTAPIConfig, rest_api_source


def main(endpoints: str, entity_set: str, select: str, prefer: str, directory: str) -> None:
    systems = json.loads(Path(endpoints).read_text(encoding="utf-8"))
    os.environ["REQUESTS_CA_BUNDLE"] = systems["ca_bundle"]
    file = Path(directory) / "dlt.duckdb"
    started = time.perf_counter()
    pipeline = dlt.pipeline(
        "yardstick",
        pipelines_dir=directory,
        destination=dlt.destinations.duckdb(str(file)),
        dataset_name="dynamics",
    )
    source = rest_api_source(_configuration(systems, entity_set, select, prefer), max_table_nesting=0)
    pipeline.run(source, loader_file_format="parquet", write_disposition="append").raise_on_failed_jobs()
    took = time.perf_counter() - started
    with duckdb.connect(str(file), read_only=True) as connection:
        rows = connection.execute(f'select count(*) from dynamics."{entity_set}"').fetchall()[0][0]
    print(json.dumps({"seconds": took, "rows": rows}))


def _configuration(systems: Mapping[str, Any], entity_set: str, select: str, prefer: str) -> RESTAPIConfig:
    secrets = systems["credentials"]["dataverse"]
    return {
        "client": {
            "base_url": f"{systems['dataverse']}/api/data/v9.2/",
            "headers": {"Accept": "application/json", "Prefer": prefer},
            "auth": {
                "type": "oauth2_client_credentials",
                "access_token_url": systems["dataverse_token_url"],
                "client_id": secrets["client_id"],
                "client_secret": secrets["client_secret"],
                "access_token_request_data": {"scope": secrets["scope"]},
            },
            # The name has a dot in it.
            "paginator": {"type": "json_link", "next_url_path": "['@odata.nextLink']"},
        },
        "resources": [
            {
                "name": entity_set,
                "endpoint": {"path": entity_set, "params": {"$select": select}, "data_selector": "value"},
            }
        ],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
