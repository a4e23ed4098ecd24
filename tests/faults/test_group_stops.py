"""TERM to the whole process group, as `group_stops`, made small."""

from __future__ import annotations

from tests.faults.group_stops import stop_groups


def test_tasks_acknowledged_early_survive_stops_of_the_whole_process_group(broker_url: str, redis_url: str) -> None:
    toll = stop_groups(broker_url, redis_url, 'canvaslite', 40, 2)
    assert (toll.lost, toll.doubled, toll.exits) == ([], [], [0, 0])
