"""What a worker does when its broker goes away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite import chain, group
from canvaslite.exceptions import OperationalError

from .wires import Wire


@pytest.fixture
def wire(rabbitmq_proc: Any) -> Iterator[Wire]:
    wire = Wire(rabbitmq_proc.port)
    yield wire
    wire.cut()


@pytest.fixture
def wired(servers: dict[str, str], wire: Wire, rabbitmq_proc: Any) -> dict[str, str]:
    """The environment of a worker that reaches its broker through the wire."""
    return {'BROKER': servers['BROKER'].replace(f':{rabbitmq_proc.port}/', f':{wire.port}/')}


def test_the_worker_reconnects_when_the_broker_comes_back(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str]
) -> None:
    worker = start_project_worker(**wired)
    for _ in range(2):
        assert project.add.delay(1, 1).get(timeout=20) == 2
        wire.cut()
        worker.await_line('Connection to broker lost')
        worker.await_line(r'Cannot connect to amqp://guest:\*\*@.*Trying again in 2.00 seconds')
        result = project.add.delay(2, 2)
        wire.mend()
        assert result.get(timeout=20) == 4
    assert worker.stop() == 0


def test_a_late_task_that_runs_while_the_connection_is_lost_runs_once(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str], tmp_path: Path
) -> None:
    worker = start_project_worker(ACKS_LATE='1', **wired)
    slow = project.sleep.delay(5)
    records = [project.record.delay(str(tmp_path / 'record'), number) for number in range(50)]
    worker.await_line('sleep.*received')
    assert records[-1].get(timeout=20) == 49
    wire.cut()
    worker.await_line('Connection to broker lost')
    wire.mend()
    worker.await_line('The message of the running task proj.sleep')
    assert slow.get(timeout=20) == 5
    assert project.add.delay(1, 1).get(timeout=20) == 2
    assert len([line for line in worker.lines if 'proj.sleep' in line and 'succeeded' in line]) == 1
    assert sorted(map(int, (tmp_path / 'record').read_text().split())) == list(range(50))
    assert worker.stop() == 0


def test_a_worker_without_broker_stops_when_it_is_told(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str]
) -> None:
    worker = start_project_worker(**wired)
    wire.cut()
    worker.await_line('Trying again in')
    start = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - start < 2


def test_running_tasks_end_although_the_broker_goes_away_during_a_warm_stop(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str]
) -> None:
    worker = start_project_worker(**wired)
    result = project.sleep.delay(2)
    worker.await_line('received')
    (active,) = project.app.control.inspect(timeout=1, limit=1).active().values()
    assert [info['id'] for info in active] == [result.id]
    worker.process.terminate()
    worker.await_line('Warm shutdown')
    wire.cut()
    assert worker.wait() == 0
    assert result.get(timeout=5) == 2


@pytest.mark.parametrize('canvas', [
    lambda p: chain(p.sleep.s(3), p.add.s(1), p.add.s(1)),
    lambda p: chain(p.sleep.s(3), group(p.add.s(1), p.add.s(2)), p.total.s()),
    lambda p: p.sleep.s(3).set(link=p.add.s(1).set(task_id='the-link')),
], ids=['a chain', 'a chord', 'a link'])
def test_a_canvas_whose_next_step_cannot_be_sent_fails_instead_of_hanging(
    canvas: Callable[[Any], Any], project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire,
    wired: dict[str, str]
) -> None:
    worker = start_project_worker(**wired)
    result = canvas(project).apply_async()
    worker.await_line('sleep.*received')
    wire.cut()
    if result.parent is None:  # what has succeeded has; its link has not
        assert result.get(timeout=30) == 3
        result = project.app.AsyncResult('the-link')
    with pytest.raises(OperationalError, match='Cannot connect to the broker'):
        result.get(timeout=40)
    wire.mend()
    assert project.add.delay(1, 1).get(timeout=30) == 2
