"""The pool of a worker as its user sees it: how it grows, shrinks, and is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite import chord
from canvaslite.exceptions import SoftTimeLimitExceeded, WorkerLostError


def processes(project: ModuleType) -> set[int]:
    """The pool's processes; the set is empty where the worker did not answer in time."""
    replies = project.app.control.inspect(timeout=1, limit=1).stats() or {}
    return {pid for stats in replies.values() for pid in stats['pool']['processes']}


def await_processes(project: ModuleType, count: int) -> set[int]:
    while len(pids := processes(project)) != count:
        pass
    return pids


def test_the_pool_grows_with_its_tasks_and_shrinks_when_they_are_done(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker('--autoscale', '4,1', AUTOSCALE_KEEPALIVE='0.5', PREFETCH='1')
    assert len(processes(project)) == 1
    slow = [project.sleep.delay(1.5) for _ in range(6)]
    await_processes(project, 4)
    assert [result.get(timeout=60) for result in slow] == [1.5] * 6
    await_processes(project, 1)
    assert project.add.delay(1, 1).get(timeout=60) == 2
    (reply,) = project.app.control.autoscale(3, 2, reply=True, timeout=20, limit=1)
    assert list(reply.values()) == [{'ok': 'autoscale now max=3 min=2'}]
    await_processes(project, 2)
    assert worker.stop() == 0


def test_processes_may_be_spawned(project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    worker = start_project_worker(START_METHOD='spawn')
    assert [project.add.delay(n, 1).get(timeout=60) for n in range(10)] == list(range(1, 11))
    worker.await_line(r'SpawnPoolWorker-\d\] Task proj.add.*succeeded')
    crashed = project.crash.delay()
    with pytest.raises(WorkerLostError, match='exitcode 70'):
        crashed.get(timeout=60)
    with pytest.raises(SoftTimeLimitExceeded):
        project.sleep.apply_async((20,), soft_time_limit=0.5).get(timeout=60)
    assert chord([project.add.s(1, 1)] * 4, project.total.s()).apply_async().get(timeout=60) == 8
    assert worker.stop() == 0


def test_a_spawned_process_has_time_for_what_is_to_be_done_at_its_end(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / 'parting.py').write_text(
        "import atexit, os, time\natexit.register(lambda: (time.sleep(0.5), os.write(1, b'has parted\\n')))\n")
    worker = start_project_worker('-I', 'parting', '--max-memory-per-child', '1', START_METHOD='spawn')
    assert project.add.delay(1, 1).get(timeout=60) == 2
    worker.await_line('has parted', timeout=30)
    assert project.add.delay(2, 1).get(timeout=60) == 3
    assert 'SIGKILL' not in worker.output


def test_the_pool_is_resized_and_replaced_by_remote_control(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker(POOL_RESTARTS='1')
    before = await_processes(project, 2)
    control = project.app.control
    running = project.sleep.delay(2)
    assert [*control.pool_grow(2, reply=True, timeout=20, limit=1)[0].values()] == [{'ok': 'pool will grow'}]
    await_processes(project, 4)
    assert [*control.pool_shrink(3, reply=True, timeout=20, limit=1)[0].values()] == [{'ok': 'pool will shrink'}]
    await_processes(project, 1)
    assert [*control.pool_restart(reply=True, timeout=20, limit=1)[0].values()] == [{'ok': 'reload started'}]
    assert running.get(timeout=60) == 2, 'what runs is not disturbed'
    while not (pids := processes(project)) or pids & before:
        pass
    assert project.add.delay(1, 1).get(timeout=60) == 2


def test_a_pool_is_not_resized_by_a_number_below_zero(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker('-c', '3')
    before = await_processes(project, 3)
    for command in (project.app.control.pool_grow, project.app.control.pool_shrink):
        (reply,) = command(-1, reply=True, timeout=20, limit=1)
        assert '-1 is no number' in next(iter(reply.values()))['error']
    assert await_processes(project, 3) == before


MORE = """
from canvaslite import shared_task
from proj import app

@app.task(name='more.mine', acks_late={late})
def mine():
    return {value!r}

@shared_task(name='more.shared')
def shared():
    return {value!r}
"""


@pytest.mark.parametrize('said', [{'modules': ['more']}, {}])
def test_a_module_that_has_changed_is_imported_again_for_new_processes(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path, said: dict[str, Any]
) -> None:
    def call(name: str) -> Any:
        return project.app.signature(f'more.{name}').delay().get(timeout=60)

    def restart(**said: Any) -> Any:
        (reply,) = project.app.control.pool_restart(reload=True, reply=True, timeout=60, limit=1, **said)
        return next(iter(reply.values()))

    module = tmp_path / 'more.py'
    module.write_text(MORE.format(value='old', late=False))
    worker = start_project_worker('-I', 'more', POOL_RESTARTS='1')
    assert [call('mine'), call('shared')] == ['old', 'old']

    module.write_text(MORE.format(value='new one', late=True))
    assert restart(**said) == {'ok': 'reload started'}
    assert [call('mine'), call('shared')] == ['new one', 'new one']

    module.write_text('this is no Python at all')
    assert 'SyntaxError' in restart(**said)['error']
    assert [call('mine'), call('shared')] == ['new one', 'new one']

    assert 'restart the worker' in restart(modules=['proj'])['error']
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert 'already registered' not in worker.output and 'Traceback' not in worker.output
