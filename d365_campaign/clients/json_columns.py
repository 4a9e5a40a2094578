"""JSON straight from bytes to columns: no record of a page ever becomes a Python object."""

from collections.abc import Mapping

import polars as pl

from d365_campaign.errors import ConfigurationError, RetriableError

Types = Mapping[str, pl.DataType | type[pl.DataType]]


def read_object(body: bytes, types: Types, subject: str) -> pl.DataFrame:
    """The named members of a JSON object as one row; others are skipped, missing ones null.

    Raises RetriableError for a body that was cut or is no object, ConfigurationError for a value of another type.
    Neither quotes anything of the body; *subject* says what was read.
    """
    try:
        # Polars also takes other JSON than an object, and then blames a value's type.
        found = pl.read_json(body, schema=dict(types)) if body.lstrip()[:1] == b"{" else pl.DataFrame()
    except pl.exceptions.PolarsError as error:
        if "error deserializing value" in str(error):
            raise wrong_type(subject) from None
        raise RetriableError(f"{subject}: an answer that is no complete JSON.") from None
    if found.height != 1:
        raise RetriableError(f"{subject}: an answer that is something else than a page.")
    return found


def wrong_type(subject: str) -> ConfigurationError:
    """The error for a value that metadata doesn't lead one to expect."""
    return ConfigurationError(
        f"{subject}: a value has another type than the metadata tells. Was a column replaced by one of another type?"
    )


def items(found: pl.DataFrame, member: str) -> pl.Series:
    """What a list holds, typed even where that is nothing."""
    return found[member].explode(empty_as_null=False, keep_nulls=False)
