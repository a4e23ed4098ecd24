"""A task as its author and its callers see it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from canvaslite import Celery, shared_task
from canvaslite.app.task import Task
from canvaslite.exceptions import CDeprecationWarning
from canvaslite.utils.uuid import uuid


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery('unit', broker='memory://', backend='cache+memory://', set_as_current=False) as app:
        app.conf.task_default_queue = f'unit-{uuid()}'
        yield app


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name='add')
    def add(x: int, y: int = 0) -> int:
        """Add two numbers."""
        return x + y
    return add


def test_a_task_is_still_the_function_it_was(add: Any) -> None:
    assert add(1, 2) == add(1, y=2) == 3
    assert add.__doc__ == 'Add two numbers.'
    assert add.name == 'add'


def test_options_not_given_are_the_settings(app: Celery) -> None:
    app.conf.update(task_acks_late=True, task_time_limit=30, task_ignore_result=True, task_serializer='pickle')

    @app.task(time_limit=10)
    def t() -> None:
        return None
    assert (t.acks_late, t.time_limit, t.ignore_result, t.serializer) == (True, 10, True, 'pickle')


def test_arguments_are_checked_before_the_task_is_sent(app: Celery, add: Any) -> None:
    with pytest.raises(TypeError):
        add.delay()
    with pytest.raises(TypeError):
        add.delay(1, 2, 3)
    with pytest.raises(TypeError):
        add.delay(1, z=2)


def test_arguments_are_not_checked_if_the_task_says_so(app: Celery) -> None:
    @app.task(typing=False)
    def t(x: int) -> None:
        return None
    assert t.delay().id


def test_arguments_of_a_bound_task_are_checked_without_its_self(app: Celery) -> None:
    @app.task(bind=True)
    def t(self: Any, x: int) -> None:
        return None
    assert t.delay(1).id
    with pytest.raises(TypeError):
        t.delay()


def test_a_soft_time_limit_above_the_hard_one_is_refused(app: Celery) -> None:
    @app.task(time_limit=1, soft_time_limit=2)
    def t() -> None:
        return None
    with pytest.raises(ValueError, match='soft_time_limit'):
        t.delay()


@pytest.mark.filterwarnings("ignore:The 'priority' task attribute")
def test_a_message_carries_the_tasks_and_the_calls_options(app: Celery) -> None:
    @app.task(name='t', priority=4, time_limit=20, shared=False)
    def t() -> None:
        return None
    result = t.apply_async(task_id='i', shadow='other', soft_time_limit=5, headers={'mine': 1}, ignore_result=True)
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue](connection.default_channel)
        queue.declare()
        message = queue.get(no_ack=True)
    assert result.id == 'i' and result.ignored
    assert (message.headers['id'], message.headers['shadow'], message.headers['mine']) == ('i', 'other', 1)
    assert list(message.headers['timelimit']) == [20, 5]
    assert message.headers['ignore_result'] is True
    assert message.properties['priority'] == 4


def test_a_name_to_show_can_be_computed(app: Celery) -> None:
    class Named(Task):
        def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str:
            return f'for {args[0]}'

    @app.task(base=Named)
    def t(x: str) -> None:
        return None
    t.delay('you')
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue](connection.default_channel)
        queue.declare()
        assert queue.get(no_ack=True).headers['shadow'] == 'for you'


def test_a_request_outside_a_run_is_empty(add: Any) -> None:
    assert add.request.id is None and add.request.called_directly


def test_a_direct_call_within_a_run_has_a_request_of_its_own(app: Celery) -> None:
    @app.task(bind=True)
    def countdown(self: Any, n: int) -> list[Any]:
        below = countdown(n - 1) if n else []
        return [self.request.args, *below]
    assert countdown(2) == [(2,), (1,), (0,)]
    assert countdown.request.id is None


def test_attributes_can_be_set_from_the_configuration(app: Celery) -> None:
    app.conf.task_annotations = {'t': {'rate_limit': '5/s'}, '*': {'time_limit': 9}}

    @app.task(name='t')
    def t() -> None:
        return None
    assert (t.rate_limit, t.time_limit) == ('5/s', 9)


def test_a_method_can_be_wrapped_from_the_configuration(app: Celery) -> None:
    def shout(run: Any) -> Any:
        return lambda *args: run(*args).upper()
    app.conf.task_annotations = {'t': {'@__call__': shout}}

    @app.task(name='t')
    def t() -> str:
        return 'hello'
    assert t() == 'HELLO'


def test_a_class_can_be_a_task(app: Celery) -> None:
    class Add(Task):
        name = 'Add'

        def run(self, x: int, y: int) -> int:
            return x + y
    task = app.register_task(Add())
    assert task is app.tasks['Add'] and task(1, 2) == 3 and task.app is app


def test_a_task_is_pickled_as_its_name(app: Celery) -> None:
    app.set_current()

    @app.task(name='t')
    def t() -> None:
        return None
    assert pickle.loads(pickle.dumps(app.tasks['t'])) is app.tasks['t']


def test_a_shared_task_belongs_to_every_app(app: Celery) -> None:
    @shared_task(name=f'shared-{uuid()}')
    def shared() -> int:
        return 1
    app.set_current()
    assert shared.name in app.tasks and shared() == 1


def test_signatures_of_a_task_hold_its_arguments(add: Any) -> None:
    assert add.s(1).task == 'add' and tuple(add.s(1).args) == (1,)
    assert add.si(1).immutable and not add.s(1).immutable
    assert add.signature((1,), {'y': 2}, countdown=3).options['countdown'] == 3


def test_unserializable_arguments_are_refused_at_the_call(add: Any) -> None:
    from canvaslite.exceptions import EncodeError
    with pytest.raises(EncodeError):
        add.delay(object())


@pytest.mark.filterwarnings("ignore:The 'priority' task attribute")
def test_an_apps_own_send_task_sends_what_its_tasks_are_asked_for() -> None:
    class Telling(Celery):
        told: Any = None

        def send_task(self, name: str, *args: Any, **options: Any) -> Any:
            self.told = name, args, options
            return super().send_task(name, *args, **options)

    with Telling('unit', broker='memory://', backend='cache+memory://', set_as_current=False) as app:
        @app.task(name='t', priority=4, shared=False)
        def t(x: int) -> None:
            return None

        result = t.apply_async((1,), link=t.s())
        name, (args, _), options = app.told
        assert (name, args, options['priority'], options['task_id']) == ('t', (1,), 4, result.id)
        assert options['task_type'].name == 't' and options['queue'] is None
        assert type(result) is type(t.AsyncResult('i'))


def test_attributes_that_route_a_task_are_warned_of(app: Celery) -> None:
    with pytest.warns(CDeprecationWarning, match="The 'queue' task attribute is deprecated"):
        @app.task(name='t', queue='q', lazy=False)
        def t() -> None:
            return None
