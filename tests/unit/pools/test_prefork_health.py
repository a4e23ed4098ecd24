"""Processes of a prefork pool that are alive and of no use."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from canvaslite.pools.prefork import health
from canvaslite.pools.prefork.pool import PreforkPool

from .conftest import Loop, Request, Scripts


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, 'INTERVAL', 0.05)


def stop_in_the_middle(loop: Loop, pool: PreforkPool, seconds: float) -> Request:
    """A task that takes so long, whose child has been stopped."""
    request = Request(f'sleep {seconds}')
    pool.submit(request)
    loop.turn_until(lambda: request in loop.recorder.pids)
    os.kill(loop.recorder.pids[request], signal.SIGSTOP)
    return request


def test_a_child_that_was_stopped_is_replaced_and_its_task_lost(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 2)
    request = stop_in_the_middle(loop, pool, 60)
    loop.turn_until(lambda: loop.recorder.lost)
    assert loop.recorder.lost[0][0] is request
    assert 'has been stopped (SIGSTOP)' in loop.recorder.lost[0][1]
    pids = {child.pid for child in pool.children}
    assert len(pids) == 2 and loop.recorder.pids[request] not in pids
    loop.run(pool, *[Request('sleep 0.01') for _ in range(10)])
    assert len(loop.recorder.finished) == 10


def test_an_idle_child_that_was_stopped_is_replaced(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 1)
    loop.turn_until(lambda: pool.children[0].ready)
    victim = pool.children[0].pid
    os.kill(victim, signal.SIGSTOP)
    loop.run(pool, *[Request('pid') for _ in range(3)])
    assert not loop.recorder.lost and str(victim) not in loop.recorder.notes()


def test_a_child_that_is_stopped_for_a_moment_is_left_alone(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 1)
    request = stop_in_the_middle(loop, pool, 0.5)
    loop.turn_until(lambda: pool.children[0].stopped_looks == 2)
    os.kill(loop.recorder.pids[request], signal.SIGCONT)
    loop.turn_until(lambda: loop.recorder.finished)
    assert not loop.recorder.lost


def test_a_child_that_does_not_become_ready_is_replaced(loop: Loop, monkeypatch: pytest.MonkeyPatch,
                                                        tmp_path: Any) -> None:
    def enter(self: Scripts, index: int) -> Any:
        try:
            (tmp_path / 'first').touch(exist_ok=False)
        except FileExistsError:
            return original(self, index)
        return time.sleep(60)

    original = Scripts.enter
    monkeypatch.setattr(Scripts, 'enter', enter)
    pool = loop.start(PreforkPool, 1, alive_timeout=1.5)
    loop.run(pool, Request('nothing'))
    assert len(loop.recorder.finished) == 1 and not loop.recorder.lost
