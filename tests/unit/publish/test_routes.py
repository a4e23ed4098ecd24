"""Where a task is sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from kombu import Exchange, Queue

from canvaslite import Celery
from canvaslite.exceptions import QueueNotFound


@pytest.fixture
def make_app() -> Callable[..., Celery]:
    def make(**settings: Any) -> Celery:
        app = Celery('t', broker='memory://', set_as_current=False)
        app.conf.update(settings)
        return app
    return make


def queue_of(app: Celery, name: str, **options: Any) -> str:
    queue: str = app.amqp.router.route(options, name)['queue'].name
    return queue


class RouterClass:
    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> Any:
        return {'queue': 'by-class'} if task == 'old' else None


def route_by_argument(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **kw: Any) -> Any:
    return {'queue': f'q{args[0]}'} if args else None


def test_without_routes_a_task_goes_to_the_default_queue(make_app: Callable[..., Celery]) -> None:
    assert queue_of(make_app(task_default_queue='mine'), 'any') == 'mine'


@pytest.mark.parametrize(('name', 'queue'), [
    ('a.exact', 'exact'), ('a.other', 'glob'), ('regex7', 'regex'), ('b', 'celery')])
def test_an_exact_name_wins_then_the_first_pattern(make_app: Callable[..., Celery], name: str, queue: str) -> None:
    app = make_app(task_routes={'a.*': 'glob', 'a.exact': {'queue': 'exact'},
                                re.compile(r'regex\d'): {'queue': 'regex'}})
    assert queue_of(app, name) == queue


def test_the_first_router_that_answers_decides(make_app: Callable[..., Celery]) -> None:
    app = make_app(task_routes=[f'{__name__}.RouterClass', route_by_argument, {'*': 'rest'}])
    assert queue_of(app, 'old') == 'by-class'
    assert app.amqp.router.route({}, 'x', (3,))['queue'].name == 'q3'
    assert queue_of(app, 'x') == 'rest'


def test_the_caller_wins_over_the_route(make_app: Callable[..., Celery]) -> None:
    app = make_app(task_routes={'t': {'queue': 'routed', 'priority': 3}})
    options = app.amqp.router.route({'queue': 'mine', 'priority': None}, 't')
    assert options['queue'].name == 'mine'
    assert options['priority'] == 3


def test_new_routes_are_noticed(make_app: Callable[..., Celery]) -> None:
    app = make_app(task_routes={'t': 'one'})
    assert queue_of(app, 't') == 'one'
    app.conf.task_routes = {'t': 'two'}
    assert queue_of(app, 't') == 'two'


def test_an_unknown_queue_is_refused_when_queues_may_not_be_made(make_app: Callable[..., Celery]) -> None:
    app = make_app(task_create_missing_queues=False, task_queues=[Queue('known')])
    with pytest.raises(QueueNotFound, match='unknown'):
        app.amqp.router.route({'queue': 'unknown'}, 't')


def test_a_missing_queue_is_made_as_celery_makes_it(make_app: Callable[..., Celery]) -> None:
    queue = make_app().amqp.queues['new']
    assert (queue.exchange, queue.routing_key, queue.queue_arguments) == (Exchange('new', 'direct'), 'new', None)
    app = make_app(task_create_missing_queue_type='quorum', task_create_missing_queue_exchange_type='topic')
    quorum = app.amqp.queues['new']
    assert (quorum.exchange, quorum.queue_arguments) == (Exchange('new', 'topic'), {'x-queue-type': 'quorum'})


def test_queues_get_the_default_exchange_key_and_priority(make_app: Callable[..., Celery]) -> None:
    app = make_app(task_queues=[Queue('a'), Queue('b', queue_arguments={'x-max-priority': 3})],
                   task_queue_max_priority=9, task_default_exchange='ex',
                   task_default_exchange_type='topic', task_default_routing_key='key')
    queue = app.amqp.queues['a']
    assert (queue.exchange, queue.routing_key) == (Exchange('ex', 'topic'), 'key')
    assert queue.queue_arguments == {'x-max-priority': 9}
    assert app.amqp.queues['b'].queue_arguments == {'x-max-priority': 3}


def test_queues_may_be_described_as_dicts(make_app: Callable[..., Celery]) -> None:
    app = make_app(task_queues={'a': {'exchange': 'x', 'exchange_type': 'topic', 'binding_key': 'a.#'}, 'b': {}})
    assert (app.amqp.queues['a'].exchange.name, app.amqp.queues['a'].routing_key) == ('x', 'a.#')
    assert app.amqp.queues['b'].routing_key == 'b'


def test_a_worker_consumes_from_the_selected_queues(make_app: Callable[..., Celery]) -> None:
    queues = make_app(task_queues=[Queue('a'), Queue('b'), Queue('c', alias='sea')]).amqp.queues
    assert list(queues.consume_from) == ['a', 'b', 'c']
    queues.deselect('sea')
    assert list(queues.consume_from) == ['a', 'b']
    queues.select(['b', 'x'])
    assert list(queues.consume_from) == ['b', 'x']
    queues.select_add('d')
    assert list(queues.consume_from) == ['b', 'x', 'd']
    assert 'exchange=celery(direct) key=celery' in queues.format()
