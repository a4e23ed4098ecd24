from __future__ import annotations

import os
from typing import Any

import pytest

from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.execution.outcome import Kind
from canvaslite.pools import pool_class
from canvaslite.pools.solo import SoloPool
from canvaslite.pools.thread import ThreadPool

from .conftest import Loop, Request


@pytest.mark.parametrize('kind', [SoloPool, ThreadPool])
def test_tasks_run_in_the_workers_own_process(kind: Any, loop: Loop) -> None:
    pool = loop.start(kind, 3)
    loop.run(pool, *[Request('pid') for _ in range(20)])
    assert loop.recorder.notes() == [str(os.getpid())] * 20
    assert len(loop.recorder.started) == 20
    assert {kind for _, kind, _, _ in loop.recorder.finished} == {Kind.SUCCESS}


@pytest.mark.parametrize('kind', [SoloPool, ThreadPool])
def test_a_task_that_exits_is_lost_and_the_next_one_runs(kind: Any, loop: Loop) -> None:
    pool = loop.start(kind, 1)
    loop.run(pool, Request('exit 3'), Request('nothing'))
    assert [reason for _, reason in loop.recorder.lost] == ['Worker exited prematurely: SystemExit(3).']
    assert len(loop.recorder.finished) == 1


def test_as_many_tasks_run_at_once_as_there_are_threads(loop: Loop) -> None:
    pool = loop.start(ThreadPool, 4)
    for request in [Request('sleep 0.2') for _ in range(6)]:
        pool.submit(request)
    loop.turn_until(lambda: len(loop.recorder.started) == 4)
    assert len(pool.withdraw(lambda request: True)) == 2
    loop.turn_until(lambda: not pool.pending())
    pool.grow(2)
    loop.run(pool, *[Request('nothing') for _ in range(10)])
    pool.shrink(5)
    loop.run(pool, Request('nothing'))
    pool.stop(5)
    assert pool.info['threads'] == 0


@pytest.mark.parametrize('name', ['swimming', 'gevent', 'no.such:Pool'])
def test_an_unknown_pool_is_refused_by_name(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f'worker_pool.*{name}'):
        pool_class(name)
