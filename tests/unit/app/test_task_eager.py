"""Tasks run in the caller's process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from canvaslite import Celery, group
from canvaslite.exceptions import EncodeError, Retry
from canvaslite.result import EagerResult


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery('unit', broker='memory://', backend='cache+memory://', set_as_current=False) as app:
        yield app


@pytest.fixture
def divide(app: Celery) -> Any:
    @app.task(name='divide')
    def divide(x: int, y: int) -> float:
        return x / y
    return divide


def test_apply_runs_the_task_and_has_its_result(divide: Any) -> None:
    result = divide.apply((6, 3), task_id='i')
    assert isinstance(result, EagerResult)
    assert (result.id, result.state, result.get()) == ('i', 'SUCCESS', 2)


def test_an_error_is_in_the_result_with_its_traceback(divide: Any) -> None:
    result = divide.apply((1, 0))
    assert result.state == 'FAILURE' and 'ZeroDivisionError' in result.traceback
    with pytest.raises(ZeroDivisionError):
        result.get()


def test_an_error_is_raised_if_the_caller_or_the_app_wants_that(app: Celery, divide: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        divide.apply((1, 0), throw=True)
    app.conf.task_eager_propagates = True
    with pytest.raises(ZeroDivisionError):
        divide.apply((1, 0))


def test_the_request_says_that_it_is_eager(app: Celery) -> None:
    @app.task(bind=True, time_limit=30, soft_time_limit=20)
    def look(self: Any) -> Any:
        request = self.request
        return request.is_eager, request.called_directly, request.id, request.time_limit, request.soft_time_limit
    assert look.apply(task_id='i').get() == (True, False, 'i', 30, 20)


def test_sending_runs_the_task_here_if_the_app_is_always_eager(app: Celery, divide: Any) -> None:
    app.conf.task_always_eager = True
    assert divide.delay(6, 3).get() == 2


def test_arguments_of_an_always_eager_app_go_through_the_serializer(app: Celery) -> None:
    app.conf.task_always_eager = True

    @app.task
    def kind(x: Any) -> str:
        return type(x).__name__
    assert kind.delay((1, 2)).get() == 'list'
    with pytest.raises(EncodeError):
        kind.delay(object())


def test_eager_results_are_stored_only_if_the_app_wants_that(app: Celery) -> None:
    app.conf.task_always_eager = True

    @app.task(name='a')
    def a() -> int:
        return 1
    with pytest.warns(RuntimeWarning, match='Results are not stored'):
        assert app.AsyncResult(a.delay().id).state == 'PENDING'
    app.conf.task_store_eager_result = True

    @app.task(name='b')
    def b() -> int:
        return 1
    assert app.AsyncResult(b.delay().id).get(timeout=1) == 1


def test_a_retry_is_applied_at_once(app: Celery) -> None:
    attempts = []

    @app.task(bind=True, max_retries=3)
    def t(self: Any, x: int) -> int:
        attempts.append(self.request.retries)
        if self.request.retries < 2:
            raise self.retry(countdown=100)
        return x
    assert t.apply((5,)).get() == 5
    assert attempts == [0, 1, 2]


def test_a_retry_is_raised_where_errors_are(app: Celery) -> None:
    app.conf.task_eager_propagates = True

    @app.task(bind=True)
    def t(self: Any) -> None:
        raise self.retry()
    with pytest.raises(Retry):
        t.apply()


def test_links_run_too(app: Celery) -> None:
    app.conf.task_always_eager = True
    got = []

    @app.task(name='collect')
    def collect(*args: Any) -> None:
        got.append(args)

    @app.task(name='t')
    def t(fails: bool) -> str:
        if fails:
            raise ValueError('no')
        return 'yes'
    t.apply_async((False,), link=collect.s('after'))
    t.apply_async((True,), link_error=collect.si('failed'))
    assert got == [('yes', 'after'), ('failed',)]


def test_a_group_runs_too(app: Celery, divide: Any) -> None:
    app.conf.task_always_eager = True
    assert group(divide.s(4, y) for y in (1, 2, 4)).delay().get() == [4, 2, 1]
