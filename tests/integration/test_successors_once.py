"""What follows a task runs once, although the task is run, or recorded, a second time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from canvaslite import chain, states, wire
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
                result, first, begun = run(lane, f'{step} {when} child')
                killed = lane.folder / 'killed'
                if not killed.exists():
                    break
                cut_short = any(at <= float(killed.read_text()) for at in begun)
                # A step that is said to have failed has no successor.
                contradicts = first == states.FAILURE and begun
                if len(begun) > 1 + cut_short or (late and result != ['x']) or contradicts:
                    wrong.append((step, when, result, first, len(begun)))
    finally:
        lane.close()
    assert wrong == []


@pytest.mark.parametrize('fails', [False, True], ids=['success', 'failure'])
def test_a_copy_that_waits_for_another_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, broker_url: str, redis_url: str, fails: bool
) -> None:
    monkeypatch.setenv('MORTAL', '/')
    lane = Lane(broker_url, redis_url, late=True)
    try:
        lane.await_workers()
        body = lane.app.signature('tests.apps.mortal.body', args=(1, 0.5, fails))
        for attempt in ('one', 'another'):
            with lane.app.publisher.marked({wire.ATTEMPT_HEADER: attempt}):
                result = body.apply_async(task_id='twice')
        value = lane.await_value(result)

        assert isinstance(value, ValueError) if fails else value == 1
        assert lane.await_nothing_held() == []
        assert len(runs_of(lane)) == 1
    finally:
        lane.close()


def run(lane: Lane, armed: str) -> tuple[Any, str, list[float]]:
    """The value or error of the chain, the state of its first step, and when its last step began."""
    for left in ('steps', 'runs', 'killed', 'armed'):
        (lane.folder / left).unlink(missing_ok=True)
    lane.await_value(lane.app.signature('tests.apps.mortal.part', args=(0,)).apply_async())
    (lane.folder / 'armed').write_text(armed)
    first = lane.app.signature('tests.apps.mortal.part', args=(['x'],))
    # A second copy of what follows an early task comes while the first one runs.
    body = lane.app.signature('tests.apps.mortal.body', kwargs={} if lane.late else {'seconds': 0.5})
    last = chain(first, body).apply_async()
    value = lane.await_value(last)
    (lane.folder / 'armed').unlink(missing_ok=True)
    assert lane.await_nothing_held() == []  # a second copy
    return value, last.parent.state, runs_of(lane)


def runs_of(lane: Lane) -> list[float]:
    """When the tasks that take notes began."""
    runs: Path = lane.folder / 'runs'
    lines = runs.read_text().splitlines() if runs.exists() else []
    return [float(line.split()[-1]) for line in lines if line.startswith('begin')]
