"""The last step of a run, where it is switched on: a log file on the SFTP server of what became of each record."""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from assets.ingress import TableKeys
from assets.opt_outs import TO_CAMPAIGN, TO_DYNAMICS, opt_out_keys
from assets.steps import POOL, check_result, errors_as_failures, retries
from d365_campaign import opt_out_checks as checks
from d365_campaign.config import Configuration
from d365_campaign.errors import SyncError
from d365_campaign.flows.output_log import give_up_old_rows, write_output_logs
from resources.sftp import SftpResource
from resources.staging import StagingResource

OUTPUT_LOG = dg.AssetKey(["sftp", "output_log"])


def output_log_keys(integration: Configuration) -> Sequence[dg.AssetKey]:
    """The asset that writes log files; none where they are switched off."""
    sftp = integration.settings.sftp
    return [OUTPUT_LOG] if sftp and sftp.output_logs else []


def output_log_assets(integration: Configuration) -> list[dg.AssetsDefinition]:
    """The asset that comes after everything else in a run; none where it is switched off."""
    return [_output_log(integration)] if output_log_keys(integration) else []


def _output_log(integration: Configuration) -> dg.AssetsDefinition:
    settings, sftp_settings = integration.settings, integration.settings.sftp
    assert sftp_settings is not None
    written = [TableKeys.of(table).target for table in integration.tables]

    @dg.asset(
        key=OUTPUT_LOG,
        deps=[*written, *(key for key in opt_out_keys(integration) if key in (TO_CAMPAIGN, TO_DYNAMICS))],
        group_name="output_log",
        kinds={"csv", "sftp"},
        check_specs=[dg.AssetCheckSpec(name, asset=OUTPUT_LOG) for name in ("output_log_written", "sftp_capacity")],
        description=(
            f"One file for each run in `{sftp_settings.logs_folder}`: key, field names and result of every record that "
            "was written, refused or deferred, and no value. A run that failed has its file written by the next one."
        ),
        pool=POOL,
        retry_policy=retries(settings.run),
    )
    def output_log(
        context: dg.AssetExecutionContext, staging: StagingResource, sftp: SftpResource
    ) -> dg.MaterializeResult:
        now, keep_days, unreachable = datetime.now(UTC), settings.opt_outs.exports.keep_days, None
        with errors_as_failures(), staging.open() as file:
            assert file.output_log is not None
            done = give_up_old_rows(file.output_log, now)
            try:
                with sftp.open() as area:
                    write_output_logs(area, file.output_log, sftp_settings, keep_days, now, done)
            except SyncError as error:  # the rows wait for a later run
                unreachable = str(error)
                context.log.error(unreachable)
        return dg.MaterializeResult(
            metadata={"files": dg.MetadataValue.json(done.files), "rows": done.rows, "waiting": done.waiting},
            check_results=[
                check_result(checks.output_log_written(done.waiting, done.dropped, unreachable)),
                check_result(checks.sftp_capacity(done.used_bytes, sftp_settings.quota_gigabytes)),
            ],
        )

    return output_log
