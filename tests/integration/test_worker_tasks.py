"""How single tasks end in a worker: in time, too late, killed, revoked, limited."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite import chain, chord
from canvaslite.exceptions import (
    ChordError,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)


@pytest.mark.alone
def test_a_task_with_a_countdown_runs_when_it_is_due(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker()
    start = time.monotonic()
    late = [project.add.apply_async((number, 1), countdown=2) for number in range(20)]
    assert project.add.delay(1, 1).get(timeout=60) == 2, 'those that wait leave room for others'
    assert time.monotonic() - start < 1.9
    assert [result.get(timeout=60) for result in late] == [number + 1 for number in range(20)]
    assert 2.0 <= time.monotonic() - start < 4


def test_limits_of_the_call_end_a_task(project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    worker = start_project_worker()
    with pytest.raises(SoftTimeLimitExceeded):
        project.sleep.apply_async((20,), soft_time_limit=0.5).get(timeout=60)
    with pytest.raises(TimeLimitExceeded):
        project.sleep.apply_async((20,), time_limit=1).get(timeout=60)
    worker.await_line(r'Soft time limit \(0.5s\) exceeded')
    worker.await_line(r'Hard time limit \(1s\) exceeded')
    assert project.add.delay(1, 1).get(timeout=60) == 2


def test_a_task_catches_the_soft_limit_that_strikes_while_it_sends_another(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker()
    assert project.send_slowly.apply_async((600,), soft_time_limit=0.5).get(timeout=20) == 'interrupted'


def test_a_limit_may_be_text_as_it_comes_from_the_environment(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker()
    assert project.add.apply_async((1, 1), time_limit='30', soft_time_limit='20.5').get(timeout=20) == 2
    with pytest.raises(TimeLimitExceeded):
        project.sleep.apply_async((600,), time_limit='0.5').get(timeout=20)


def test_the_workers_own_limit_ends_a_task(project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    start_project_worker('--time-limit', '1')
    with pytest.raises(TimeLimitExceeded):
        project.sleep.delay(20).get(timeout=60)


def test_a_task_that_kills_its_process_is_lost_alone(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker()
    others = [project.add.delay(number, 1) for number in range(20)]
    crashed = project.crash.delay()
    others += [project.add.delay(number, 1) for number in range(20)]
    with pytest.raises(WorkerLostError, match='exitcode 70'):
        crashed.get(timeout=60)
    assert [result.get(timeout=60) for result in others] == [number + 1 for number in range(20)] * 2


def test_children_killed_at_any_instant_lose_at_most_the_task_they_ran(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker()
    results = [project.add.delay(number, 1) for number in range(3000)]
    for _ in range(10):
        for pid in worker.children()[:1]:
            with contextlib.suppress(ProcessLookupError):  # the one killed before was only now seen to be gone
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.03)
    outcomes = [result.get(timeout=120, propagate=False) for result in results]
    lost = [outcome for outcome in outcomes if isinstance(outcome, WorkerLostError)]
    assert len(lost) <= 10
    assert [outcome for outcome in outcomes if not isinstance(outcome, int)] == lost


def test_a_process_that_is_killed_while_it_has_nothing_to_do_is_told_and_replaced(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker('-c', '1', '--max-tasks-per-child', '2')
    assert project.add.delay(1, 1).get(timeout=60) == 2
    (stats,) = project.app.control.inspect(timeout=20, limit=1).stats().values()
    (pid,) = stats['pool']['processes']
    os.kill(pid, signal.SIGKILL)
    assert f'pid:{pid} ' in worker.await_line(r"ERROR.* exited with 'signal 9 \(SIGKILL\)'")
    assert [project.add.delay(1, 1).get(timeout=60) for _ in range(3)] == [2] * 3
    assert worker.output.count('exited with') == 1, 'of a process that ends as it should nothing is told'


def test_a_revoked_task_does_not_run(project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    worker = start_project_worker('-c', '1')
    running, waiting = project.sleep.delay(2), project.sleep.delay(3)
    scheduled = project.add.apply_async((1, 1), countdown=2)
    worker.await_line('received', count=3)
    waiting.revoke()
    scheduled.revoke()
    for result in (waiting, scheduled):
        with pytest.raises(TaskRevokedError):
            result.get(timeout=60)
    assert running.get(timeout=60) == 2
    assert project.add.delay(1, 1).get(timeout=60) == 2


def test_a_task_that_is_revoked_while_it_waits_for_its_rate_limit_does_not_run(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    worker = start_project_worker()
    control = project.app.control
    assert control.rate_limit('proj.record', '1/h', reply=True, timeout=20, limit=1)
    results = [project.record.delay(str(tmp_path / 'ran'), number) for number in range(3)]
    worker.await_line('proj.record.* received', count=3)
    results[1].revoke()
    worker.await_line(f'Discarding revoked task: proj.record.{results[1].id}')
    assert control.rate_limit('proj.record', None, reply=True, timeout=20, limit=1)
    assert [results[0].get(timeout=20), results[2].get(timeout=20)] == [0, 2]
    with pytest.raises(TaskRevokedError):
        results[1].get(timeout=20)
    assert (tmp_path / 'ran').read_text().split() == ['0', '2']


def test_a_running_task_is_terminated(project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    worker = start_project_worker()
    result = project.sleep.delay(30)
    worker.await_line('received')
    assert project.app.control.terminate(result.id, reply=True, timeout=20, limit=1)
    with pytest.raises(TaskRevokedError, match='terminated'):
        result.get(timeout=60)


def eventually(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, 'waited in vain'
        time.sleep(0.01)


def let_time_run_out(project: ModuleType, worker: Any, result: Any) -> None:
    """The task has a limit of a second."""


def terminate(project: ModuleType, worker: Any, result: Any) -> None:
    result.revoke(terminate=True)


def stop_coldly(project: ModuleType, worker: Any, result: Any) -> None:
    worker.signal(signal.SIGQUIT)


@pytest.mark.parametrize(('end', 'late'), [
    (let_time_run_out, '0'), (terminate, '0'), (stop_coldly, '0'), (stop_coldly, '1')])
def test_a_task_that_is_ended_lets_go_of_what_it_holds(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path, end: Callable[..., None], late: str
) -> None:
    worker = start_project_worker(ACKS_LATE=late)
    notes = tmp_path / 'notes'
    result = project.span.apply_async((str(notes), 'a', 600.0), time_limit=1 if end is let_time_run_out else None)
    eventually(lambda: notes.exists() and ' 1 ' in notes.read_text())
    end(project, worker, result)
    eventually(lambda: ' -1 ' in notes.read_text())


def test_a_task_that_does_not_let_itself_be_ended_is_killed_soon_after_its_limit(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker('-c', '1')
    with pytest.raises(TimeLimitExceeded):
        project.stay.apply_async((600,), time_limit=0.5).get(timeout=20)
    assert project.add.delay(1, 1).get(timeout=20) == 2


def test_an_expired_task_does_not_run(project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    start_project_worker('-c', '1')
    project.sleep.delay(2)
    result = project.add.apply_async((1, 1), expires=1)
    with pytest.raises(TaskRevokedError, match='expired'):
        result.get(timeout=60)


@pytest.mark.parametrize('canvas', [
    lambda p: chord([p.add.s(1, 1).set(expires=0.2), p.add.s(2, 2)], p.total.s()),
    lambda p: chain(p.add.s(1, 1).set(expires=0.2), p.add.s(1)),
], ids=['a chord', 'a chain'])
def test_what_waits_for_a_task_that_expires_before_there_is_a_worker_ends(
    canvas: Callable[[Any], Any], project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    result = canvas(project).apply_async()
    start_project_worker()
    with pytest.raises((ChordError, TaskRevokedError), match='expired'):
        result.get(timeout=60)


def test_a_rate_limit_that_is_lifted_lets_go_what_waits_for_it(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker()
    control = project.app.control
    control.rate_limit('proj.constant', '1/h', reply=True, timeout=20, limit=1)
    results = [project.constant.delay() for _ in range(6)]
    assert results[0].get(timeout=60) == 'constant'
    assert project.add.delay(1, 1).get(timeout=60) == 2, 'others of the queue do not wait'
    assert not any(result.ready() for result in results[1:])
    for wrong in ('often', '1/y'):
        (answer,) = control.rate_limit('proj.constant', wrong, reply=True, timeout=20, limit=1)[0].values()
        assert 'Invalid rate limit string' in answer['error']
    control.rate_limit('proj.constant', '', reply=True, timeout=20, limit=1)
    assert [result.get(timeout=30) for result in results] == ['constant'] * 6


def test_a_rate_limit_holds_and_is_changed_by_remote_control(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker()
    control = project.app.control
    assert list(control.rate_limit('proj.constant', '5/s', reply=True, timeout=20, limit=1)[0].values()) == [
        {'ok': 'new rate limit set successfully'}]
    start = time.monotonic()
    results = [project.constant.delay() for _ in range(8)]
    assert [result.get(timeout=60) for result in results] == ['constant'] * 8
    assert time.monotonic() - start > 1.2


def test_inspect_tells_what_a_worker_does(project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    worker = start_project_worker('-n', 'seen@host', '-c', '1')
    running = project.sleep.delay(3)
    worker.await_line('received')
    waiting = project.add.delay(1, 1)
    scheduled = project.add.apply_async((1, 1), countdown=20)
    worker.await_line('received', count=3)
    time.sleep(0.1)
    inspect = project.app.control.inspect(destination='seen@host', timeout=2)
    assert [info['id'] for info in inspect.active()] == [running.id]
    assert [info['id'] for info in inspect.reserved()] == [waiting.id]
    assert [entry['request']['id'] for entry in inspect.scheduled()] == [scheduled.id]
    assert {id: stage for id, (stage, _) in inspect.query_task(running.id, waiting.id).items()} == {
        running.id: 'active', waiting.id: 'reserved'}
    assert 'proj.add' in inspect.registered()
    assert inspect.stats()['pool']['max-concurrency'] == 1
    assert [queue['name'] for queue in inspect.active_queues()] == ['proj']


def test_consumers_are_added_and_cancelled_by_remote_control(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker()
    control = project.app.control
    control.add_consumer('another', reply=True, timeout=20, limit=1)
    worker.await_line('Started consuming from another')
    assert project.add.apply_async((1, 1), queue='another').get(timeout=60) == 2
    control.cancel_consumer('another', reply=True, timeout=20, limit=1)
    worker.await_line('Canceling queue another')
    assert project.add.delay(1, 1).get(timeout=60) == 2


def test_children_are_replaced_after_their_last_task(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker('--max-tasks-per-child', '10')
    before = set(worker.children())
    results = [project.add.delay(number, 1) for number in range(100)]
    assert [result.get(timeout=60) for result in results] == [number + 1 for number in range(100)]
    assert not before & set(worker.children())
