"""Messages as bytes from a real RabbitMQ."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import kombu
import pytest
from kombu.asynchronous import Hub

from canvaslite.transport.connection import BrokerConnection
from canvaslite.transport.inbound import RawDelivery
from canvaslite.transport.properties import decode_properties, encode_properties
from canvaslite.transport.table import peek

PROPERTIES = encode_properties({'id': 'some id', 'eta': None}, content_type='text/plain', delivery_mode=1)


@pytest.fixture
def connection(broker_url: str) -> Iterator[BrokerConnection]:
    with BrokerConnection(broker_url) as connection:
        yield connection


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def fill_queue(broker_url: str) -> Iterator[Callable[..., None]]:
    """Put messages into a queue, over a connection of its own; they are there when it returns."""
    with BrokerConnection(broker_url, transport_options={'confirm_publish': True}) as connection:
        channel = connection.default_channel

        def fill(queue: str, count: int, size: int = 5) -> None:
            channel.queue_declare(queue, durable=False, auto_delete=False)
            frames = [channel.frames('', queue, PROPERTIES, b'%0*d' % (size, number)) for number in range(count)]
            channel.write_frames(b''.join(frames), count)
            channel.wait_for_confirms(timeout=10)

        yield fill


def drain_until(connection: Any, done: Callable[[], bool]) -> None:
    while not done():
        connection.drain_events(timeout=10)


def run_until(hub: Hub, done: Callable[[], bool]) -> None:
    hub.call_later(10, pytest.fail, 'ten seconds have passed')
    while not done():
        hub.run_once()


def test_a_delivery_has_all_that_the_broker_sent(connection: BrokerConnection, fill_queue: Callable[..., None]) -> None:
    fill_queue('one', 1)
    got: list[RawDelivery] = []

    tag = connection.default_channel.consume_raw('one', got.append)
    drain_until(connection, lambda: bool(got))

    (delivery,) = got
    assert (delivery.body, delivery.properties) == (b'00000', PROPERTIES)
    assert (delivery.exchange, delivery.routing_key, delivery.redelivered) == ('', 'one', False)
    assert (delivery.consumer_tag, delivery.delivery_tag) == (tag, 1)
    assert delivery.channel is connection.default_channel
    assert peek(delivery.properties, frozenset({'id', 'eta'})) == {'id': 'some id', 'eta': None}
    assert decode_properties(delivery.properties)['content_type'] == 'text/plain'


def test_acknowledgements_go_out_together(connection: BrokerConnection, fill_queue: Callable[..., None]) -> None:
    fill_queue('acked', 5)
    channel = connection.default_channel
    got: list[RawDelivery] = []
    tag = channel.consume_raw('acked', got.append)
    drain_until(connection, lambda: len(got) == 5)

    channel.ack_raw(2, multiple=True)
    channel.ack_raw(4)
    channel.reject_raw(5, requeue=False)
    channel.connection.flush()
    channel.basic_cancel(tag)
    channel.close()  # number 3 goes back

    with BrokerConnection(connection.as_uri(include_password=True)) as other:
        again = other.default_channel.basic_get('acked')
        assert (again.body, again.delivery_info['redelivered']) == (b'00002', True)
        assert other.default_channel.basic_get('acked') is None


def test_any_other_write_takes_the_acknowledgements_along(
    connection: BrokerConnection, fill_queue: Callable[..., None],
) -> None:
    fill_queue('order', 1)
    channel = connection.default_channel
    got: list[RawDelivery] = []
    channel.consume_raw('order', got.append)
    drain_until(connection, lambda: bool(got))

    channel.ack_raw(1)
    channel.close()

    with BrokerConnection(connection.as_uri(include_password=True)) as other:
        assert other.default_channel.basic_get('order') is None


def test_waiting_for_events_writes_the_acknowledgements(
    connection: BrokerConnection, fill_queue: Callable[..., None],
) -> None:
    fill_queue('window', 2)
    channel = connection.default_channel
    channel.basic_qos(0, 1, False)
    got: list[RawDelivery] = []

    def take(delivery: RawDelivery) -> None:
        got.append(delivery)
        channel.ack_raw(delivery.delivery_tag)

    channel.consume_raw('window', take)

    drain_until(connection, lambda: len(got) == 2)


def test_a_rejected_message_comes_back_marked(connection: BrokerConnection, fill_queue: Callable[..., None]) -> None:
    fill_queue('back', 1)
    channel = connection.default_channel
    got: list[RawDelivery] = []
    channel.consume_raw('back', got.append)
    drain_until(connection, lambda: bool(got))

    channel.reject_raw(1, requeue=True)
    drain_until(connection, lambda: len(got) == 2)

    assert [delivery.redelivered for delivery in got] == [False, True]


def test_a_consumer_that_the_broker_ends_is_told(connection: BrokerConnection, fill_queue: Callable[..., None]) -> None:
    fill_queue('gone', 0)
    fill_queue('gone too', 0)
    ended: list[str] = []
    channel = connection.default_channel
    tag = channel.consume_raw('gone', print, on_cancel=ended.append)
    channel.consume_raw('gone too', print)

    connection.channel().queue_delete('gone')
    drain_until(connection, lambda: bool(ended))
    assert ended == [tag]

    with pytest.raises(amqp.ConsumerCancelled):
        connection.channel().queue_delete('gone too')
        connection.drain_events(timeout=10)


def test_waiting_ends_after_the_timeout(connection: BrokerConnection) -> None:
    connection.connect()

    for timeout in (0, 0.05):
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=timeout)

    assert connection.connected
    connection.default_channel.queue_declare('still there', durable=False, exclusive=True)


def test_kombus_own_consumers_work_beside_raw_ones(
    connection: BrokerConnection, fill_queue: Callable[..., None],
) -> None:
    for queue in ('raw', 'plain', 'fetched'):
        fill_queue(queue, 20)
    channel = connection.default_channel
    raw: list[bytes] = []
    plain: list[bytes] = []
    channel.consume_raw('raw', lambda delivery: raw.append(delivery.body), no_ack=True)

    def take(body: Any, message: kombu.Message) -> None:
        plain.append(message.body)
        assert message.headers == {'id': 'some id', 'eta': None}
        message.ack()

    queue = kombu.Queue('plain', durable=False, auto_delete=False)
    with kombu.Consumer(channel, queue, callbacks=[take], accept=['text/plain'], auto_declare=False):
        fetched = [channel.basic_get('fetched', no_ack=True).body for _ in range(20)]
        drain_until(connection, lambda: len(raw) == len(plain) == 20)

    assert raw == plain == fetched == [b'%05d' % number for number in range(20)]


def test_the_hub_gets_everything_also_what_was_read_before_it_looked(
    connection: BrokerConnection, fill_queue: Callable[..., None], hub: Hub,
) -> None:
    fill_queue('early', 500)
    fill_queue('late', 500, size=5000)
    channel = connection.default_channel
    got: list[bytes] = []
    connection.register_with_event_loop(hub)
    channel.consume_raw('early', lambda delivery: got.append(delivery.body), no_ack=True)
    hub.call_later(0, channel.consume_raw, 'late', lambda delivery: got.append(delivery.body), True)
    # Each synchronous answer may bring deliveries into the buffer that the socket will not announce again.
    for name in ('early', 'late', 'early'):
        channel.queue_declare(name, passive=True)

    run_until(hub, lambda: len(got) == 1000)

    assert sorted(got) == sorted([b'%05d' % number for number in range(500)] + [b'%05000d' % n for n in range(500)])


def test_a_callback_that_publishes_is_not_called_inside_itself(
    connection: BrokerConnection, fill_queue: Callable[..., None],
) -> None:
    fill_queue('in', 2000)
    channel = connection.default_channel
    channel.queue_declare('out', durable=False)
    depth = deepest = count = 0

    def forward(delivery: RawDelivery) -> None:
        nonlocal depth, deepest, count
        depth += 1
        deepest, count = max(depth, deepest), count + 1
        channel.publish_raw('', 'out', PROPERTIES, delivery.body)
        depth -= 1

    channel.consume_raw('in', forward, no_ack=True)
    drain_until(connection, lambda: count == 2000)
    forwarded: list[RawDelivery] = []
    channel.consume_raw('out', forwarded.append, no_ack=True)
    drain_until(connection, lambda: len(forwarded) == 2000)

    assert deepest == 1


def test_large_messages_arrive_whole_on_both_kinds_of_consumer(
    connection: BrokerConnection, fill_queue: Callable[..., None],
) -> None:
    fill_queue('large', 5, size=3_000_000)
    channel = connection.default_channel
    bodies: list[bytes] = []

    tag = channel.consume_raw('large', lambda delivery: bodies.append(delivery.body))
    drain_until(connection, lambda: len(bodies) == 5)
    channel.basic_cancel(tag)
    channel.basic_recover(requeue=True)
    channel.basic_consume('large', callback=lambda message: bodies.append(message.body), no_ack=True)
    drain_until(connection, lambda: len(bodies) == 10)

    assert sorted(bodies) == sorted([b'%03000000d' % number for number in range(5)] * 2)
