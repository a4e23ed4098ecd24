"""Publishing on a transport that is not RabbitMQ, with signals, and from inside a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from canvaslite import Celery, chain, signals
from canvaslite.context import Context
from canvaslite.current import task_stack
from canvaslite.publish.amqp import AMQP


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery('t', broker='memory://', set_as_current=False) as app:
        app.conf.update(result_backend='disabled://', task_default_queue=f'queue-{id(app)}')
        yield app


@pytest.fixture
def read(app: Celery) -> Callable[[], list[Any]]:
    def read() -> list[Any]:
        with app.connection_for_read() as connection:
            queue = app.amqp.default_queue(connection.default_channel)
            queue.declare()
            return list(iter(lambda: queue.get(no_ack=True), None))
    return read


def test_a_task_is_sent(app: Celery, read: Callable[[], list[Any]]) -> None:
    task_id = app.publisher.publish('t', (1,), {'a': 2}, {'priority': 4})
    message, = read()
    assert message.headers['id'] == message.properties['correlation_id'] == task_id
    assert message.payload[:2] == [[1], {'a': 2}]
    assert message.properties['priority'] == 4
    assert message.properties['reply_to'] == app.thread_oid


def test_a_burst_sends_in_order(app: Celery, read: Callable[[], list[Any]]) -> None:
    with app.publisher.burst() as burst:
        for number in range(20):
            app.publisher.publish('t', (number,), {}, {}, producer=burst)
        with app.publisher.burst(burst) as same:
            assert same is burst
            app.publisher.publish('t', (20,), {}, {}, producer=same)
        app.publisher.publish('t', (21,))
    assert [message.payload[0][0] for message in read()] == list(range(22))


def test_a_producer_of_the_callers_own_is_used(app: Celery, read: Callable[[], list[Any]]) -> None:
    with app.connection_for_write() as connection:
        app.publisher.publish('t', (), {}, {}, producer=app.amqp.Producer(connection))
        app.publisher.publish('t', (), {}, {'connection': connection})
    assert len(read()) == 2


def test_listeners_see_and_change_the_message(app: Celery, read: Callable[[], list[Any]]) -> None:
    seen = []

    def before(sender: Any, headers: Any, body: Any, properties: Any, **said: Any) -> None:
        headers['added'] = 'header'
        properties['priority'] = 9
        body[1]['added'] = 'argument'
        assert said['routing_key'] == app.conf.task_default_queue

    def after(**said: Any) -> None:
        seen.append((said['sender'], said['headers']['id'], said['exchange']))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        app.publisher.publish('t', (), {'given': 1}, {'task_id': 'i'})
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    message, = read()
    assert message.headers['added'] == 'header'
    assert message.properties['priority'] == 9
    assert message.payload[1] == {'given': 1, 'added': 'argument'}
    assert seen == [('t', 'i', '')]


@pytest.mark.parametrize('inherit', [True, False])
def test_a_task_sent_from_a_task_belongs_to_it(inherit: bool, app: Celery, read: Callable[[], list[Any]]) -> None:
    app.conf.task_inherit_parent_priority = inherit
    request = Context(id='parent', root_id='root', called_directly=False, delivery_info={'priority': 5})

    class Running:
        pass

    running: Any = Running()
    running.request = request
    task_stack.push(running)
    try:
        app.publisher.publish('t', (), {}, {'task_id': 'i'})
        app.publisher.publish('t', (), {}, {'task_id': 'j', 'root_id': 'own', 'priority': 1})
    finally:
        task_stack.pop()
    first, second = read()
    assert (first.headers['root_id'], first.headers['parent_id']) == ('root', 'parent')
    assert first.properties['priority'] == (5 if inherit else 0)
    assert (second.headers['root_id'], second.headers['parent_id']) == ('own', 'parent')
    assert second.properties['priority'] == 1


@pytest.mark.parametrize(('args', 'kwargs'), [('abc', {}), ((), [1]), (3, {})])
def test_arguments_that_are_none_are_refused(app: Celery, args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError, match='must be a'):
        app.publisher.publish('t', args, kwargs)


@pytest.mark.parametrize('eta', [5, 1.5, object()])
def test_an_eta_that_is_no_time_is_refused(app: Celery, read: Callable[[], list[Any]], eta: Any) -> None:
    with pytest.raises(AttributeError):
        app.publisher.publish('task', options={'eta': eta})
    assert read() == []


def test_a_countdown_out_of_range_is_refused(app: Celery) -> None:
    with pytest.raises(ValueError, match='countdown is out of range'):
        app.publisher.publish('t', (), {}, {'countdown': -2147483649})



def test_what_is_set_as_send_task_message_gets_all_messages_until_it_is_taken_back(
        app: Celery, read: Callable[[], list[Any]]) -> None:
    sent = []
    app.amqp.send_task_message = lambda producer, name, message, **options: sent.append((name, message, options))
    app.publisher.publish('t', (1,), {}, {'priority': 3, 'link': {'task': 'after'}})
    with app.publisher.burst() as burst:
        app.publisher.publish('u', (2,), producer=burst)
    del app.amqp.send_task_message
    app.publisher.publish('v', (3,))
    (name, message, options), (second, _, _) = sent
    assert (name, second, message.body[0], options['priority']) == ('t', 'u', (1,), 3)
    assert message.body[2]['callbacks'] == [{'task': 'after'}]
    assert [message.headers['task'] for message in read()] == ['v']


def test_a_users_own_class_may_send_task_messages(app: Celery, read: Callable[[], list[Any]]) -> None:
    class Counting(AMQP):
        sent = 0

        def send_task_message(self, producer: Any, name: str, message: Any, **options: Any) -> Any:
            self.sent += 1
            return super().send_task_message(producer, name, message, **options)

    app.amqp_cls = Counting
    app.publisher.publish('t', (1,))
    assert app.amqp.sent == len(read()) == 1


def test_in_protocol_1_what_follows_in_a_chain_is_linked(app: Celery, read: Callable[[], list[Any]]) -> None:
    app.conf.task_protocol = 1
    steps = [app.signature(name, queue=app.conf.task_default_queue) for name in 'abcd']
    steps[1].link(app.signature('linked'))
    chain(*steps).apply_async()
    message, = read()
    second, = message.payload['callbacks']
    linked, third = second['options']['link']
    fourth, = third['options']['link']
    assert [sig['task'] for sig in (message.payload, second, linked, third, fourth)] == ['a', 'b', 'linked', 'c', 'd']
    assert 'link' not in fourth['options'] or not fourth['options']['link']
