"""Tasks that are coroutines (``async def``): each runs in an event loop of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite import Celery, chord, group
from canvaslite.exceptions import Retry, SoftTimeLimitExceeded
from tests.fixtures import load_app


@pytest.fixture
def waiting(servers: dict[str, str], close_later: Callable[[Any], Any]) -> ModuleType:
    module = load_app('waiting')
    close_later(module.app)
    return module


@pytest.mark.parametrize('options', [('prefork', 'fork'), ('prefork', 'spawn'), ('threads', 'fork'), ('solo', 'fork')])
def test_coroutines_run_in_every_pool_and_every_place_of_a_canvas(
    waiting: ModuleType, servers: dict[str, str], start_worker: Callable[..., Any], options: tuple[str, str],
    tmp_path: Path
) -> None:
    pool, method = options
    worker = start_worker('waiting', '-c', '2', '-l', 'INFO', '-P', pool, **{**servers, 'START_METHOD': method})
    add = waiting.add
    assert add.delay(1, 2).get(timeout=60) == 3
    assert (add.s(1, 1) | add.s(2) | group(add.s(3), add.s(4))).delay().get(timeout=60) == [7, 8]
    assert chord([add.s(1, 1), add.s(2, 2)], waiting.double.s()).delay().get(timeout=60) == [2, 4, 2, 4]
    assert add.starmap([(1, 2), (3, 4)]).delay().get(timeout=60) == [3, 7]
    assert waiting.double.delay(4).get(timeout=60) == 8
    assert waiting.retry_twice.delay().get(timeout=60) == 2
    assert waiting.retry_by_itself.delay().get(timeout=60) == 2
    noted = tmp_path / 'noted'
    with pytest.raises(ValueError, match='wrong'):
        waiting.fail.apply_async(link_error=waiting.note_failure.s(path=str(noted))).get(timeout=60)
    until = time.monotonic() + 60
    while not (noted.exists() and noted.read_text()):
        assert time.monotonic() < until
    assert noted.read_text() == 'wrong'
    assert 'never awaited' not in worker.output


def test_a_coroutine_is_cancelled_at_its_soft_time_limit(
    waiting: ModuleType, servers: dict[str, str], start_worker: Callable[..., Any], tmp_path: Path
) -> None:
    start_worker('waiting', '-c', '1', '-l', 'INFO', **servers)
    with pytest.raises(SoftTimeLimitExceeded):
        waiting.take_long.apply_async((str(tmp_path / 'notes'), 60), soft_time_limit=1).get(timeout=60)
    assert (tmp_path / 'notes').read_text() == 'tidied up'
    assert waiting.add.delay(1, 2).get(timeout=60) == 3


@pytest.fixture
def app() -> Celery:
    return Celery('eager', task_always_eager=True, set_as_current=False)


def test_a_coroutine_that_is_called_is_awaited_by_the_caller_and_one_that_is_applied_is_not(app: Celery) -> None:
    @app.task(autoretry_for=(OSError,), max_retries=1)
    async def add(x: int, y: int) -> int:
        if x < 0:
            raise OSError('negative')
        return x + y

    async def call() -> None:
        assert await add(1, 2) == 3
        with pytest.raises(OSError, match='negative'):
            await add(-1, 2)
        # An event loop cannot wait for another one.
        with pytest.raises(RuntimeError, match='event loop'):
            add.delay(1, 2).get()

    asyncio.run(call())
    assert add.delay(1, 2).get() == 3
    with pytest.raises((OSError, Retry), match='negative'):
        add.delay(-1, 2).get()


def test_a_coroutine_may_take_and_return_models(app: Celery) -> None:
    pydantic = pytest.importorskip('pydantic')
    Point = pydantic.create_model('Point', x=(int, ...))

    async def move(point: Any, by: int) -> Any:
        return Point(x=point.x + by)

    move.__annotations__.update(point=Point, **{'return': Point})
    assert app.task(pydantic=True)(move).delay(Point(x=1), 2).get() == {'x': 3}
