"""Workers that have the same node name."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import ModuleType
from typing import Any


def test_a_worker_works_while_another_holds_its_name_and_is_controlled_once_that_is_gone(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    first = start_project_worker('-n', 'twin@%h')
    second = start_project_worker('-n', 'twin@%h')
    second.await_line('Another worker named twin@.* is connected')
    first.signal(signal.SIGKILL)
    first.wait()
    assert project.add.delay(1, 1).get(timeout=60) == 2
    pids = {first.pid}
    while pids <= {first.pid}:
        answers = project.app.control.inspect(timeout=2).stats() or {}
        pids = {stats['pid'] for stats in answers.values()} or pids
    assert pids == {second.pid}


def test_a_worker_restarts_at_once_under_the_name_of_one_that_was_killed(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    for _ in range(5):
        worker = start_project_worker('-n', 'phoenix@%h', '-c', '1')
        worker.kill()
    start_project_worker('-n', 'phoenix@%h')
    assert project.add.delay(1, 1).get(timeout=60) == 2
