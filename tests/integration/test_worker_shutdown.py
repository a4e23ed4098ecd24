"""How a worker stops, and what becomes of its tasks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import ModuleType
from typing import Any

import kombu


def waiting_messages(project: ModuleType) -> int:
    with kombu.Connection(project.app.conf.broker_url) as connection:
        return int(connection.default_channel.queue_declare('proj', passive=True).message_count)


def await_running(project: ModuleType, count: int) -> None:
    """Return when `count` tasks run."""
    running: dict[str, Any] | None = None
    while sum(map(len, (running or {}).values())) < count:
        running = project.app.control.inspect(timeout=0.3).active()


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
    assert [result.get(timeout=20) for result in results] == [2] * 10


def test_a_warm_stop_gives_back_what_waits_for_its_eta(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker()
    for _ in range(20):
        project.add.apply_async((1, 1), countdown=60)
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
    assert worker.wait(5) == 1
    assert [result.state for result in results] == ['PENDING'] * 2
    start_project_worker(ACKS_LATE='1')
    assert [result.get(timeout=20) for result in results] == [3, 3]


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
    assert result.get(timeout=20) == 2
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
