"""Sending a running task again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from canvaslite import Celery
from canvaslite.app.retry import backoff_interval
from canvaslite.app.task import Task
from canvaslite.exceptions import MaxRetriesExceededError, Reject, Retry
from canvaslite.utils.uuid import uuid


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery('unit', broker='memory://', backend='cache+memory://', set_as_current=False) as app:
        app.conf.task_default_queue = f'unit-{uuid()}'
        yield app


@pytest.fixture
def sent(app: Celery) -> Any:
    def sent(name: str | None = None) -> Any:
        with app.connection_for_read() as connection:
            queue = app.amqp.queues[name or app.conf.task_default_queue](connection.default_channel)
            queue.declare()
            return queue.get(no_ack=True)
    return sent


@pytest.fixture
def task(app: Celery) -> Any:
    @app.task(bind=True, name='t')
    def t(self: Any, a: Any = None, b: Any = None, **kwargs: Any) -> None:
        return None
    return t


def within_a_run(task: Any, *args: Any, **request: Any) -> Any:
    values = {'id': 'i', 'args': args, 'kwargs': {}, 'called_directly': False, 'delivery_info': {}, **request}
    task.push_request(**values)
    return task


def test_called_directly_it_raises_the_error_itself(task: Any) -> None:
    with pytest.raises(KeyError):
        task.retry(exc=KeyError())
    with pytest.raises(Retry):
        task.retry()


def test_a_retry_keeps_what_the_message_said(app: Celery, task: Any, sent: Any) -> None:
    within_a_run(task, 1, kwargs={'b': 2}, root_id='r', parent_id='p', group='g', group_index=3, retries=1,
                 headers={'mine': 1, 'x-death': []}, ignore_result=True, timelimit=[9, 8], replaced_task_nesting=1)
    with pytest.raises(Retry) as raised:
        task.retry(countdown=60, exc=KeyError('why'))
    assert raised.value.when == 60 and isinstance(raised.value.exc, KeyError)
    headers = (message := sent()).headers
    assert (headers['id'], headers['root_id'], headers['parent_id']) == ('i', 'r', 'p')
    assert (headers['group'], headers['group_index'], headers['retries']) == ('g', 3, 2)
    assert headers['mine'] == 1 and 'x-death' not in headers
    assert headers['ignore_result'] is True and list(headers['timelimit']) == [9, 8]
    assert headers['replaced_task_nesting'] == 1
    args, kwargs, _ = message.decode()
    assert (list(args), kwargs) == ([1], {'b': 2})
    eta = datetime.fromisoformat(headers['eta'])
    assert timedelta(seconds=50) < eta - datetime.now(timezone.utc) < timedelta(seconds=61)


def test_a_retry_goes_to_the_queue_it_came_from(task: Any, sent: Any) -> None:
    within_a_run(task, delivery_info={'exchange': '', 'routing_key': 'another', 'priority': 5})
    with pytest.raises(Retry):
        task.retry(countdown=0)
    assert sent('another').properties['priority'] == 5


def test_a_retry_can_change_its_priority(task: Any, sent: Any) -> None:
    within_a_run(task, delivery_info={'exchange': '', 'routing_key': 'another', 'priority': 5})
    with pytest.raises(Retry):
        task.retry(countdown=0, priority=7)
    assert sent('another').properties['priority'] == 7


def test_a_retry_can_change_arguments_and_options(task: Any, sent: Any) -> None:
    within_a_run(task, 1)
    with pytest.raises(Retry):
        task.retry(args=[7], kwargs={'c': 1}, countdown=0, shadow='again')
    message = sent()
    args, kwargs, _ = message.decode()
    assert (list(args), kwargs, message.headers['shadow']) == ([7], {'c': 1}, 'again')


@pytest.mark.parametrize(('args', 'kwargs', 'new', 'expected'), [
    ([], {'a': 1, 'c': 3}, {'args': [9]}, ([9], {'c': 3})),
    ([1, 2], {}, {'kwargs': {'b': 9, 'c': 3}}, ([1, 9], {'c': 3})),
])
def test_new_arguments_replace_old_ones_of_the_same_name(task: Any, sent: Any, args: Any, kwargs: Any, new: Any,
                                                         expected: Any) -> None:
    within_a_run(task, *args, kwargs=kwargs)
    with pytest.raises(Retry):
        task.retry(countdown=0, **new)
    sent_args, sent_kwargs, _ = sent().decode()
    assert (list(sent_args), sent_kwargs) == expected


def test_the_default_delay_is_the_tasks(task: Any) -> None:
    task.default_retry_delay = 42
    within_a_run(task)
    assert task.retry(throw=False).when == 42


def test_there_is_an_end_to_retries(task: Any) -> None:
    within_a_run(task, 1, retries=3)
    with pytest.raises(MaxRetriesExceededError) as raised:
        task.retry()
    assert list(raised.value.task_args) == [1]
    with pytest.raises(KeyError):
        task.retry(exc=KeyError())
    assert task.retry(max_retries=4, throw=False)
    task.max_retries = None
    within_a_run(task, retries=1000)
    assert task.retry(throw=False)


def test_a_retry_that_cannot_be_sent_rejects_the_message(task: Any) -> None:
    within_a_run(task)
    with pytest.raises(Reject) as raised:
        task.retry(args=[object()])
    assert raised.value.requeue is False


def test_errors_can_be_retried_without_asking(app: Celery) -> None:
    attempts = []

    @app.task(bind=True, autoretry_for=(ValueError,), dont_autoretry_for=(UnicodeError,), max_retries=2)
    def t(self: Any, error: str) -> str:
        attempts.append(self.request.retries)
        if self.request.retries < 2:
            raise {'value': ValueError, 'unicode': UnicodeError, 'key': KeyError}[error]('x')
        return 'done'
    assert t.apply(('value',)).get() == 'done'
    assert attempts == [0, 1, 2]
    assert isinstance(t.apply(('unicode',)).result, UnicodeError)
    assert isinstance(t.apply(('key',)).result, KeyError)
    assert len(attempts) == 5


def test_an_automatic_retry_ends_with_the_error_itself(app: Celery) -> None:
    @app.task(autoretry_for=(ValueError,), retry_kwargs={'max_retries': 1})
    def t() -> None:
        raise ValueError('always')
    assert isinstance(t.apply().result, ValueError)


def test_the_delay_of_automatic_retries_can_grow(app: Celery) -> None:
    delays = []

    @app.task(bind=True, autoretry_for=(ValueError,), retry_backoff=3, retry_jitter=False, retry_backoff_max=10)
    def t(self: Any) -> None:
        raise ValueError
    t.on_retry = lambda *args: None
    for retries in range(4):
        t.push_request(id='i', args=(), kwargs={}, retries=retries, called_directly=False, is_eager=True)
        t.max_retries = None
        with pytest.raises(Retry) as raised:
            t.run()
        delays.append(raised.value.when)
    assert delays == [3, 6, 10, 10]


def test_jitter_spreads_the_delay_over_its_whole_range() -> None:
    drawn = {backoff_interval(1, 3, 600, full_jitter=True) for _ in range(500)}
    assert drawn == set(range(9))


def test_retries_of_different_runs_do_not_share_their_limit(app: Celery) -> None:
    @app.task(bind=True, autoretry_for=(ValueError,), max_retries=5)
    def t(self: Any, own_limit: int | None) -> None:
        if own_limit is not None:
            self.retry(exc=ValueError('asked'), max_retries=own_limit)
        raise ValueError
    t.apply((0,))
    attempts: list[int] = []
    t.on_retry = lambda *args: attempts.append(1)
    t.apply((None,))
    assert len(attempts) == 5


def test_errors_of_a_class_based_task_are_retried_where_only_the_registry_knows_it(app: Celery) -> None:
    class Failing(Task):
        name = 'failing'
        autoretry_for = (ValueError,)
        retry_kwargs = {'max_retries': 2}
        _app = app
        runs = 0

        def run(self) -> None:
            type(self).runs += 1
            raise ValueError

    task = Failing()
    app.tasks.register(task)
    assert task.apply().failed() and Failing.runs == 3
