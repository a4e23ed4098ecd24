"""A chord of which Celery's worker runs one half ends, once and right, whatever dies: some steps of `kill_fleet`.

What Celery has sent is not among them: of such a chord our workers do not know whose results to look for. A part that
Celery's process stored, but did not count before it died, is missing there until the chord's deadline.
"""

from __future__ import annotations

import pytest

from tests.faults.kill_chords import sweep
from tests.faults.kill_fleet import FleetLane


@pytest.mark.parametrize('who', ['child', 'worker', 'celery-child'])
def test_a_chord_of_both_packages_survives_the_death_of_either(
    monkeypatch: pytest.MonkeyPatch, broker_url: str, redis_url: str, who: str
) -> None:
    monkeypatch.setenv('MORTAL', '/')
    tally = sweep(broker_url, redis_url, who, True, ['ours last', 'Celery last'], 4, (2, 5), FleetLane)
    assert tally.is_clean, str(vars(tally))
    assert tally.kills >= 3
    assert tally.worst < 20, 'a lease of 10 s had to end, and not two of them'
