"""`webhook`: take Dataverse's webhook posts, so that a changed table is looked at without waiting for its turn."""

import ipaddress
import os
from pathlib import Path

import click

from d365_campaign.commands.running import find_dagster_home
from d365_campaign.errors import ConfigurationError


@click.command()
@click.option("--host", help="Address to listen on; webhook.host by default, which is this machine alone.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on; webhook.port by default.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Certificate chain.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its private key.")
@click.option("--behind-proxy", is_flag=True, help="TLS ends at a reverse proxy on another machine.")
def webhook(
    host: str | None, port: int | None, tls_cert: Path | None, tls_key: Path | None, behind_proxy: bool
) -> None:
    """Take Dataverse's webhook posts, until interrupted.

    They come in at /dataverse, and GET /health counts them. Each wakes the sensor for its table; what changed, it asks
    Dynamics itself. Dataverse posts to ports 443 and 80 only, so a reverse proxy that ends TLS stands before it, or
    --tls-cert and --tls-key are given. Run it where Dagster's services run, with the same DAGSTER_HOME.

    \b
    Example:  d365-campaign webhook --host 0.0.0.0 --port 443 --tls-cert chain.pem --tls-key key.pem
    """
    from d365_campaign import definitions  # dagster takes seconds to import; --help should not
    from d365_campaign.webhook import PATH, Door, Receiver, server

    integration = definitions.configuration()
    chosen = integration.settings.webhook
    if chosen is None:
        raise ConfigurationError("there is no section webhook. Add it: webhook: {key: {env: NAME}}")
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together.")
    address = host or chosen.host
    if tls_cert is None and not behind_proxy and not _is_loopback(address):
        raise click.UsageError(
            f"{address} is reached from other machines, and the key would be sent there in the clear. Give --tls-cert "
            "and --tls-key, or say --behind-proxy where a reverse proxy ends TLS."
        )
    door = Door(
        key=os.environ.get(chosen.key.env, ""),
        sent_in=chosen.sent_in,
        name=chosen.name,
        max_bytes=chosen.max_kilobytes * 1024,
        tables={table.source for table in integration.tables},
    )
    find_dagster_home()
    with definitions.wakeups() as wake:
        serving = server(Receiver(door, wake), address, port or chosen.port, tls_cert, tls_key)
        scheme = "https" if tls_cert else "http"
        click.echo(f"Webhook posts are taken at {scheme}://{address}:{serving.config.port}{PATH}")
        serving.run()


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
