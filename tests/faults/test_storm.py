"""Many chords while processes are killed again and again: the storms of `storm`, made small."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.storm import storm


@pytest.fixture(params=['redis', 'sqlite', 'rpc'])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    urls = {'sqlite': f'db+sqlite:///{tmp_path}/results', 'rpc': 'rpc://'}
    return urls.get(request.param) or str(request.getfixturevalue('redis_url'))


@pytest.mark.parametrize(('who', 'every', 'kills'), [('child', 0.2, 12), ('worker', 1.2, 3)])
def test_no_chord_of_a_storm_is_lost_or_doubled(
    broker_url: str, backend: str, who: str, every: float, kills: int
) -> None:
    toll = storm(broker_url, backend, who, 200, every, kills=kills)
    assert toll.is_clean, str(vars(toll))
    assert toll.kills == kills
