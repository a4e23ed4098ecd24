"""Whatever way a task takes to RabbitMQ, the message is the one that Celery sends."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import kombu
import pytest
from kombu import Exchange, Queue
from kombu.common import itermessages

from canvaslite import Celery, signals
from canvaslite.publish.routes import MapRoute

celery = importlib.import_module('celery')

NOW = datetime(2026, 3, 29, 0, 30, 0, 123456, tzinfo=timezone.utc)
SIGNATURE = {'task': 'next', 'args': [1], 'kwargs': {}, 'options': {'task_id': 'n'}, 'subtask_type': None,
             'immutable': False}
TOPICAL = Queue('topical', Exchange('topics', 'topic', delivery_mode=1), routing_key='a.b')

Call = tuple[Any, Any, dict[str, Any]]

CALLS: dict[str, Call] = {
    'plain': ((2, 2), {}, {}),
    'no arguments': (None, None, {}),
    'lists': ([1, [2, {'a': None}]], {'b': 'c'}, {'ignore_result': True}),
    'texts': (("it's", 'a\\b', 'ü€😀\n"', 'x' * 3000), {'key': 'v' * 600}, {}),
    'types of kombu': ((UUID(int=5), NOW, Decimal('1.10'), NOW.date(), b'bytes', b'\xff', {1: 2}, (3,)), {}, {}),
    'countdown': ((), {}, {'countdown': 90.5}),
    'countdown of nothing': ((), {}, {'countdown': 0}),
    'eta': ((), {}, {'eta': NOW + timedelta(days=1)}),
    'eta without zone': ((), {}, {'eta': datetime(2027, 1, 1, 12)}),
    'eta as text': ((), {}, {'eta': '2027-01-01T00:00:00+02:00'}),
    'expires in seconds': ((), {}, {'expires': 30}),
    'expires at once': ((), {}, {'expires': 0}),
    'expires at': ((), {}, {'expires': NOW + timedelta(hours=2), 'eta': NOW + timedelta(hours=1)}),
    'expires as text': ((), {}, {'expires': '2027-01-01T00:00:00+00:00'}),
    'expired': ((), {}, {'expires': NOW - timedelta(hours=2)}),
    'member of a group': ((1,), {}, {'group_id': 'g', 'group_index': 0, 'root_id': 'r', 'parent_id': 'p',
                                     'chord': SIGNATURE}),
    'links': ((1,), {}, {'link': SIGNATURE, 'link_error': [SIGNATURE, SIGNATURE], 'chain': [SIGNATURE]}),
    'retry': ((1,), {}, {'retries': 3, 'replaced_task_nesting': 2, 'shadow': 'shown', 'origin': 'me',
                         'reply_to': 'somebody'}),
    'limits': ((), {}, {'time_limit': 10, 'soft_time_limit': 2.5}),
    'priority': ((), {}, {'priority': 7}),
    'transient': ((), {}, {'delivery_mode': 1}),
    'transient by name': ((), {}, {'delivery_mode': 'transient'}),
    'another queue': ((), {}, {'queue': 'other'}),
    'queue object': ((), {}, {'queue': TOPICAL}),
    'routing key': ((), {}, {'queue': TOPICAL, 'routing_key': 'a.b'}),
    'exchange and routing key': ((), {}, {'exchange': 'celery', 'routing_key': 'celery'}),
    'exchange object': ((), {}, {'exchange': Exchange('celery'), 'routing_key': 'celery'}),
    'given representation': ((1,), {}, {'argsrepr': '(secret)', 'kwargsrepr': '{…}'}),
    'headers': ((1,), {}, {'headers': {'trace': 'abc', 'shadow': 'from headers', 'deep': {'a': [1, 2.5, True, None]}}}),
    'own headers': ((1,), {}, {'headers': {'trace': 'abc', 'deep': {'a': [1, 2.5, True, None]}, 'when': NOW.replace(
        microsecond=0)}, 'time_limit': 3}),
    'stamps': ((1,), {}, {'stamped_headers': ['one', 'two'], 'one': 'x', 'two': ['y', 'z']}),
    'gzip': (('x' * 500,), {}, {'compression': 'gzip'}),
    'pickle': (({1, 2},), {}, {'serializer': 'pickle'}),
    'properties': ((), {}, {'message_id': 'm', 'app_id': 'a', 'type': 't', 'timestamp': 5, 'expiration': 12.3}),
    'everything none': ((1,), {}, dict.fromkeys((
        'queue', 'exchange', 'routing_key', 'priority', 'expires', 'serializer', 'delivery_mode', 'compression',
        'time_limit', 'soft_time_limit', 'immediate', 'mandatory', 'countdown', 'eta', 'link', 'link_error', 'headers',
        'retry'))),
}

ROUTES = {'routed': {'queue': 'other', 'priority': 3, 'delivery_mode': 1},
          'gl*': {'queue': 'other', 'headers': {'by': 'route'}}}


class OurApp(Celery):
    def now(self) -> datetime:
        return NOW.astimezone(self.timezone)


class TheirApp(celery.Celery):  # type: ignore[name-defined,misc]
    def now(self) -> datetime:
        return NOW.astimezone(self.timezone)


def configure(app: Any, **settings: Any) -> Any:
    app.conf.update(task_routes=ROUTES, result_backend='disabled://', **settings)
    return app


#: Messages that may be gone before they are read.
MAY_EXPIRE = {'expired', 'expires at once'}
#: Those that `publish_all` sends and that stay.
AWAITED = {*CALLS, 'routed', 'routed with priority', 'routed with headers'} - MAY_EXPIRE


@pytest.fixture
def read(broker_url: str) -> Iterator[Callable[..., dict[str, Any]]]:
    """Take every message there is; by task id: where it was, its properties, headers and decoded body."""
    with kombu.Connection(broker_url) as connection:
        channel = connection.default_channel

        def read(awaited: Collection[str] = ()) -> dict[str, Any]:
            # Unconfirmed messages may still be on their way.
            found: dict[str, Any] = {}
            until = time.monotonic() + 10
            take(found)
            while not found.keys() >= set(awaited) and time.monotonic() < until:
                take(found)
            return found

        def take(found: dict[str, Any]) -> None:
            for queue in ('celery', 'other', 'topical'):
                channel.queue_declare(queue, durable=True, auto_delete=False)
                while (got := channel.basic_get(queue, no_ack=True)) is not None:
                    message = kombu.transport.pyamqp.Message(got, channel)
                    found[message.properties['correlation_id']] = describe(queue, message)

        yield read


def describe(queue: str, message: Any) -> dict[str, Any]:
    properties = dict(message.properties)
    headers = properties.pop('application_headers')
    accept = ['application/json', 'application/x-python-serialize']
    message.accept = kombu.serialization.prepare_accept_content(accept)
    if re.fullmatch(r'[0-9a-f-]{36}', properties['reply_to']):
        properties['reply_to'] = 'an oid'
    return {'queue': queue, 'exchange': message.delivery_info['exchange'], 'properties': properties, 'headers': headers,
            'payload': message.payload}


def publish_all(publish: Callable[..., Any]) -> None:
    for name, (args, kwargs, options) in CALLS.items():
        publish('some.task', args, kwargs, task_id=name, **options)
    publish('routed', (), {}, task_id='routed')
    publish('routed', (), {}, task_id='routed with priority', priority=1)
    publish('glob', (), {}, task_id='routed with headers')


def through_publisher(app: Any, producer: Any = None) -> Callable[..., Any]:
    return lambda name, args, kwargs, **options: app.publisher.publish(name, args, kwargs, options, producer=producer)


def publish_at_once(app: Any, url: str) -> None:
    publish_all(through_publisher(app))  # the first message of a kind prepares, the next uses it
    publish_all(through_publisher(app))


def publish_by_function(app: Any, url: str) -> None:
    """Routes that are asked for with each call."""
    known = MapRoute(ROUTES)
    app.conf.task_routes = [lambda name, args, kwargs, options, task=None, **more: known(name)]
    publish_at_once(app, url)


def publish_in_burst(app: Any, url: str) -> None:
    with app.publisher.burst() as burst:
        publish_all(through_publisher(app, burst))


def publish_with_producer(app: Any, url: str) -> None:
    with kombu.Connection(url) as connection:
        publish_all(through_publisher(app, kombu.Producer(connection)))


def publish_listened_to(app: Any, url: str) -> None:
    def listen(**said: Any) -> None:
        assert said['headers']['id'] in CALLS or said['headers']['id'].startswith('routed')
    signals.before_task_publish.connect(listen)
    try:
        publish_in_burst(app, url)
        publish_all(through_publisher(app))
    finally:
        signals.before_task_publish.disconnect(listen)


@pytest.fixture(params=[('UTC', False), ('Europe/Berlin', True)], ids=['UTC-unconfirmed', 'Berlin-confirmed'])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    zone, confirm = request.param
    return {'timezone': zone, 'broker_transport_options': {'confirm_publish': confirm}}


@pytest.fixture
def expected(broker_url: str, settings: dict[str, Any], read: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    with configure(TheirApp('t', broker=broker_url, set_as_current=False), **settings) as app:
        publish_all(app.send_task)
        return read(AWAITED)


@pytest.mark.parametrize('publish', [
    publish_at_once, publish_by_function, publish_in_burst, publish_with_producer, publish_listened_to])
def test_every_way_sends_celerys_message(publish: Callable[[Any, str], None], broker_url: str, settings: dict[str, Any],
                                         expected: dict[str, Any], read: Callable[..., dict[str, Any]]) -> None:
    with configure(OurApp('t', broker=broker_url, set_as_current=False), **settings) as app:
        publish(app, broker_url)
        found = read(AWAITED)
    # A message that expires at once may be gone before it is read.
    for name in (expected.keys() | found.keys()) - MAY_EXPIRE:
        assert found[name] == expected[name], name


def test_protocol_1_is_celerys_as_well(broker_url: str, read: Callable[..., dict[str, Any]]) -> None:
    found = []
    for kind in (TheirApp, OurApp):
        with configure(kind('t', broker=broker_url, set_as_current=False), task_protocol=1) as app:
            app.send_task('t', (1, 'a'), {'b': 2}, task_id='one', countdown=10, expires=20, priority=1)
            app.send_task('t', (1, 'a'), task_id='two', link=SIGNATURE)
            found.append(read({'one', 'two'}))
    assert found[0] == found[1]


def test_as_task_v2_makes_celerys_message(settings: dict[str, Any]) -> None:
    for name, (args, kwargs, options) in CALLS.items():
        if name == 'properties':
            continue
        named = {'link': 'callbacks', 'link_error': 'errbacks'}
        options = {named.get(key, key): value for key, value in options.items()}
        made = [configure(kind('t', broker='memory://', set_as_current=False), **settings).amqp.as_task_v2(
            'id', 't', args, kwargs, create_sent_event=True, **options) for kind in (TheirApp, OurApp)]
        assert tuple(made[0]) == tuple(made[1]), name


def test_zones_are_kept_over_a_change_to_summer_time() -> None:
    app = configure(OurApp('t', broker='memory://', set_as_current=False), timezone='Europe/Berlin')
    message = app.amqp.as_task_v2('id', 't', countdown=7200)
    assert message.headers['eta'] == (NOW + timedelta(hours=2)).astimezone(ZoneInfo('Europe/Berlin')).isoformat()


def test_a_delay_on_quorum_queues_is_kept_by_the_broker_as_with_celery(broker_url: str) -> None:
    queue = Queue('q', Exchange('tasks', 'topic'), routing_key='some.key', queue_arguments={'x-queue-type': 'quorum'})
    keys = []
    with kombu.Connection(broker_url) as connection:
        delayed = Queue('delayed', Exchange('celery_delayed_27', 'topic'), routing_key='#')(connection.default_channel)
        delayed.declare()
        for kind in (TheirApp, OurApp):
            with configure(kind('t', broker=broker_url, set_as_current=False), task_queues=[queue]) as app:
                app.send_task('t', queue='q', countdown=5.5)
                app.send_task('t', queue='q', eta=NOW + timedelta(seconds=70))
                app.send_task('t', queue='q', eta=NOW - timedelta(seconds=70))
                app.send_task('t', queue='q', eta=NOW + timedelta(seconds=70))
            found = islice(itermessages(connection, connection.default_channel, delayed, limit=None, timeout=5,
                                        no_ack=True), 3)
            keys.append([(message.delivery_info['routing_key'], message.headers['eta']) for _, message in found])
    assert keys[0] == keys[1]
    assert len(keys[0]) == 3 and keys[0][0][0].endswith('1.0.1.some.key')
