"""What follows a task runs once, although the task is run, or recorded, a second time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from canvaslite import chain
from tests.faults.kill_chords import Lane

#: A chain of two on Redis with late acknowledgement: at which step on the wire the child dies.
STEPS = range(1, 12)


@pytest.mark.parametrize('late', [True, False], ids=['late', 'early'])
def test_the_next_step_runs_once_wherever_the_child_dies(
    monkeypatch: pytest.MonkeyPatch, broker_url: str, redis_url: str, late: bool
) -> None:
    monkeypatch.setenv('MORTAL', '/')
    lane = Lane(broker_url, redis_url, late)
    wrong = []
    try:
        for when in ('before', 'after'):
            for step in STEPS:
                result, begun = run(lane, f'{step} {when} child')
                killed = lane.folder / 'killed'
                if not killed.exists():
                    break
                cut_short = any(at <= float(killed.read_text()) for at in begun)
                if len(begun) > 1 + cut_short or (late and result != ['x']):
                    wrong.append((step, when, result, len(begun)))
    finally:
        lane.close()
    assert wrong == []


def run(lane: Lane, armed: str) -> tuple[Any, list[float]]:
    """The value or error of the chain, and when its last step began."""
    for left in ('steps', 'runs', 'killed', 'armed'):
        (lane.folder / left).unlink(missing_ok=True)
    lane.await_value(lane.app.signature('tests.apps.mortal.part', args=(0,)).apply_async())
    (lane.folder / 'armed').write_text(armed)
    first = lane.app.signature('tests.apps.mortal.part', args=(['x'],))
    value = lane.await_value(chain(first, lane.app.signature('tests.apps.mortal.body')).apply_async())
    (lane.folder / 'armed').unlink(missing_ok=True)
    time.sleep(0.3)  # a second copy would come now
    runs: Path = lane.folder / 'runs'
    lines = runs.read_text().splitlines() if runs.exists() else []
    return value, [float(line.split()[-1]) for line in lines if line.startswith('begin')]
