"""Wake-ups: that Dynamics told of a change in a table. Where they are kept, what they are good for, and for how long.

A wake-up is an observation of the table's asset, without any content. It only lets the sensor ask at its next look
what it would have asked later anyway; what changed, and whether anything did, the delta link tells.
"""

from collections.abc import Callable

import dagster as dg

from assets.keys import dynamics_table


def waker(instance: dg.DagsterInstance) -> Callable[[str, int], None]:
    """A function that keeps one wake-up of a table, and how many posts it stands for."""

    def wake(table: str, posts: int) -> None:
        instance.report_runless_asset_event(
            dg.AssetObservation(dynamics_table(table), metadata={"webhook_posts": posts})
        )

    return wake


def last_wakeup(instance: dg.DagsterInstance, table: str) -> int:
    """The number of the table's latest wake-up, 0 while there was none. Numbers rise, whatever clocks say."""
    records = instance.fetch_observations(dynamics_table(table), limit=1).records
    return records[0].storage_id if records else 0
