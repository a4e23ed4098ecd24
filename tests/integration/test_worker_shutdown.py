"""How a worker stops, and what becomes of its tasks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import kombu
import pytest

from canvaslite import chord
from canvaslite.exceptions import ChordError


def waiting_messages(project: ModuleType) -> int:
    with kombu.Connection(project.app.conf.broker_url) as connection:
        return int(connection.default_channel.queue_declare('proj', passive=True).message_count)


def await_running(project: ModuleType, count: int) -> None:
    """Return when `count` tasks run."""
    running: dict[str, Any] | None = None
    while sum(map(len, (running or {}).values())) < count:
        running = project.app.control.inspect(timeout=0.3).active()


def eventually(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, 'waited in vain'
        time.sleep(0.01)


def test_a_warm_stop_of_the_whole_process_group_loses_nothing(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker()
    results = [project.sleep.delay(2) for _ in range(10)]
    worker.await_line('received', count=8)
    await_running(project, 2)
    os.killpg(worker.pid, signal.SIGTERM)
    assert worker.wait() == 0
    ended = [result for result in results if result.state == 'SUCCESS']
    assert 2 <= len(ended) < 10
    assert waiting_messages(project) == 10 - len(ended)
    start_project_worker('-c', '10')
    assert [result.get(timeout=60) for result in results] == [2] * 10


def test_a_worker_that_is_asked_to_stop_again_and_again_until_it_is_gone_exits_as_it_should(
    start_project_worker: Callable[..., Any]
) -> None:
    for _ in range(5):
        worker = start_project_worker()
        while worker.process.poll() is None:
            worker.process.terminate()
        assert worker.wait() == 0


def test_a_warm_stop_gives_back_what_waits_for_its_eta(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker()
    for _ in range(20):
        project.add.apply_async((1, 1), countdown=20)
    worker.await_line('received', count=20)
    assert worker.stop() == 0
    assert waiting_messages(project) == 20


def test_a_cold_stop_ends_running_tasks_and_late_ones_run_again(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker(ACKS_LATE='1')
    results = [project.sleep.delay(3) for _ in range(2)]
    worker.await_line('received', count=2)
    worker.signal(signal.SIGQUIT)
    assert worker.wait(20) == 1
    assert [result.state for result in results] == ['PENDING'] * 2
    start_project_worker(ACKS_LATE='1')
    assert [result.get(timeout=60) for result in results] == [3, 3]


@pytest.mark.parametrize('soft', [False, True])
def test_a_cold_stop_fails_what_it_ends_and_nobody_will_run_again(
    project: ModuleType, start_project_worker: Callable[..., Any], soft: bool
) -> None:
    worker = start_project_worker(SOFT_SHUTDOWN='60' if soft else '0')
    result = chord([project.sleep.si(30), project.sleep.si(30)], project.collect.s()).apply_async()
    waiting = project.sleep.delay(1)
    worker.await_line('received', count=3)
    await_running(project, 2)
    worker.signal(signal.SIGQUIT)
    if soft:
        worker.await_line('Initiating Soft Shutdown, terminating in 60')
        worker.signal(signal.SIGQUIT)
    assert worker.wait(20) == 1
    error = result.get(timeout=1, propagate=False)
    assert isinstance(error, ChordError) and 'cold shutdown' in str(error)
    assert (waiting.state, waiting_messages(project)) == ('PENDING', 1)


def begun(path: Path) -> int:
    """How many tasks that note in the file at `path` have begun."""
    return path.read_text().count(' 1 ') if path.exists() else 0


@pytest.mark.parametrize(('pool', 'quits'), [('threads', 1), ('solo', 1), ('solo', 2)])
def test_a_cold_stop_fails_what_it_leaves_in_the_middle_where_tasks_are_no_processes(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path, pool: str, quits: int
) -> None:
    path = tmp_path / 'notes'
    worker = start_project_worker('-P', pool, SOFT_SHUTDOWN='60' if quits == 2 else '0')
    result = chord([project.add.si(1, 1), project.span.si(str(path), 'last', 60)], project.collect.s()).apply_async()
    assert result.parent[0].get(timeout=60) == 2
    eventually(lambda: begun(path) == 1)
    worker.signal(signal.SIGQUIT)
    if quits == 2:
        worker.await_line('Cold shutdown')
        worker.signal(signal.SIGQUIT)
    assert worker.wait(60) == 1
    error = result.get(timeout=1, propagate=False)
    assert isinstance(error, ChordError) and 'cold shutdown' in str(error)
    assert (result.parent[1].state, begun(path)) == ('FAILURE', 1)


def test_what_comes_in_during_a_cold_stop_goes_back_once(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker(QUEUE_TYPE='quorum')
    project.app.conf.task_default_queue_type = 'quorum'
    project.stay.delay(600)
    await_running(project, 1)
    worker.signal(signal.SIGQUIT)
    worker.await_line('Cold shutdown')
    project.add.delay(1, 1)
    assert worker.wait() == 1
    with kombu.Connection(project.app.conf.broker_url) as connection:
        message = connection.default_channel.basic_get('proj', no_ack=True)
    # A queue with a delivery limit would have dropped what comes back again and again.
    assert message.headers.get('x-delivery-count', 0) <= 1


def test_in_the_solo_pool_a_task_has_the_time_of_a_soft_shutdown(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    for seconds, soft, state in (1, 60, 'SUCCESS'), (60, 1, 'FAILURE'):
        path = tmp_path / state
        worker = start_project_worker('-P', 'solo', SOFT_SHUTDOWN=str(soft))
        result = project.span.delay(str(path), 'only', seconds)
        eventually(lambda path=path: begun(path) == 1)
        worker.signal(signal.SIGQUIT)
        assert worker.wait(50) == 1
        assert result.state == state


@pytest.mark.parametrize('pool', ['threads', 'solo'])
def test_what_a_cold_stop_leaves_in_the_middle_runs_again_if_it_is_acknowledged_late(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path, pool: str
) -> None:
    path = tmp_path / 'notes'
    worker = start_project_worker('-P', pool, ACKS_LATE='1')
    result = project.span.delay(str(path), 'only', 4)
    eventually(lambda: begun(path) == 1)
    worker.signal(signal.SIGQUIT)
    assert worker.wait(50) == 1
    assert result.state == 'PENDING'
    start_project_worker('-P', pool, ACKS_LATE='1')
    assert (result.get(timeout=60), begun(path)) == ('only', 2)


def test_children_do_not_outlive_a_killed_worker(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker(ACKS_LATE='1')
    children = worker.children()
    result = project.sleep.delay(2)
    worker.await_line('received')
    worker.signal(signal.SIGKILL)
    worker.wait()
    start_project_worker(ACKS_LATE='1')
    assert result.get(timeout=60) == 2
    assert not any(is_running(pid) for pid in children)


def is_running(pid: int) -> bool:
    try:
        with open(f'/proc/{pid}/stat') as stat:
            return stat.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_remote_control_stops_a_worker(project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    worker = start_project_worker('-n', 'stopped@%h')
    assert [name.split('@')[0] for reply in project.app.control.ping(timeout=2) for name in reply] == ['stopped']
    project.app.control.shutdown()
    assert worker.wait() == 0


def test_a_second_worker_with_the_same_pidfile_refuses_to_start(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Any
) -> None:
    pidfile = tmp_path / 'worker.pid'
    worker = start_project_worker('--pidfile', str(pidfile))
    assert int(pidfile.read_text()) == worker.pid
    second = start_project_worker('--pidfile', str(pidfile), await_ready=False)
    assert second.wait() == 73
    assert worker.stop() == 0
    assert not pidfile.exists()
