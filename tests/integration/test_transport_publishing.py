"""Messages as bytes to a real RabbitMQ."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import kombu
import pytest
from amqp.exceptions import ChannelError, MessageNacked, NotFound

from canvaslite.transport.confirms import BurstNacked
from canvaslite.transport.connection import BrokerConnection
from canvaslite.transport.properties import encode_properties

PROPERTIES = encode_properties({'id': 'some id'}, content_type='text/plain', delivery_mode=1)


@pytest.fixture(params=[False, True], ids=['unconfirmed', 'confirmed'])
def connection(broker_url: str, request: pytest.FixtureRequest) -> Iterator[BrokerConnection]:
    with BrokerConnection(broker_url, transport_options={'confirm_publish': request.param}) as connection:
        yield connection


@pytest.fixture
def confirming(broker_url: str) -> Iterator[BrokerConnection]:
    with BrokerConnection(broker_url, transport_options={'confirm_publish': True}) as connection:
        yield connection


@pytest.fixture
def read_queue(broker_url: str) -> Iterator[Callable[[str, int], list[Any]]]:
    """So many messages of a queue, as plain kombu sees them; waits until they are there."""
    with kombu.Connection(broker_url) as plain:

        def read(queue: str, count: int) -> list[Any]:
            channel = plain.channel()
            got: list[Any] = []
            channel.basic_consume(queue, callback=got.append, no_ack=True)
            while len(got) < count:
                plain.drain_events(timeout=10)
            channel.close()
            return got

        yield read


def test_bodies_of_any_size_arrive_whole(
    connection: BrokerConnection, read_queue: Callable[[str, int], list[Any]],
) -> None:
    channel = connection.default_channel
    channel.queue_declare('sizes', durable=False)
    frame_max = channel.connection.frame_max
    bodies = [bytes([size % 251]) * size for size in
              (0, 1, frame_max - 9, frame_max - 8, frame_max - 7, 3 * frame_max, 5_000_000)]

    for body in bodies:
        channel.publish_raw('', 'sizes', PROPERTIES, body)
    got = read_queue('sizes', len(bodies))

    assert [message.body or b'' for message in got] == bodies
    assert got[1].properties == {
        'content_type': 'text/plain', 'application_headers': {'id': 'some id'}, 'delivery_mode': 1}


def test_a_burst_arrives_in_order(connection: BrokerConnection, read_queue: Callable[[str, int], list[Any]]) -> None:
    channel = connection.default_channel
    channel.queue_declare('burst', durable=False)
    bodies = [b'%d' % number for number in range(3000)]

    for start in range(0, 3000, 1000):
        frames = [channel.frames('', 'burst', PROPERTIES, body) for body in bodies[start:start + 1000]]
        channel.write_frames(b''.join(frames), len(frames))
    channel.wait_for_confirms(timeout=10)

    assert [message.body for message in read_queue('burst', 3000)] == bodies


def test_kombus_own_producer_publishes_beside_raw_messages(
    connection: BrokerConnection, read_queue: Callable[[str, int], list[Any]],
) -> None:
    channel = connection.default_channel
    producer = kombu.Producer(channel)
    queue = kombu.Queue('both', channel=channel, durable=False)
    queue.declare()

    channel.publish_raw('', 'both', PROPERTIES, b'raw')
    producer.publish({'x': 1}, routing_key='both', headers={'n': None, 'list': [1, 'a']}, priority=3)
    producer.publish('text', routing_key='both', declare=[queue], retry=True)
    channel.publish_raw('', 'both', PROPERTIES, b'raw again')
    got = read_queue('both', 4)

    assert [message.body for message in got] == [b'raw', '{"x": 1}', 'text', b'raw again']
    assert got[1].properties['application_headers'] == {'n': None, 'list': [1, 'a']}
    assert got[1].properties['priority'] == 3


def test_an_exchange_that_does_not_exist_is_an_error_of_the_call(
    confirming: BrokerConnection, read_queue: Callable[[str, int], list[Any]],
) -> None:
    channel = confirming.default_channel

    with pytest.raises(NotFound):
        channel.publish_raw('nowhere', 'key', PROPERTIES, b'body')

    channel.queue_declare('after', durable=False)
    channel.publish_raw('', 'after', PROPERTIES, b'the channel works again')
    assert len(read_queue('after', 1)) == 1


def test_without_confirms_the_closed_channel_is_noticed_by_the_next_publish(broker_url: str) -> None:
    with BrokerConnection(broker_url) as connection:
        channel, other = connection.default_channel, connection.channel()
        channel.publish_raw('nowhere', 'key', PROPERTIES, b'body')
        with pytest.raises(NotFound):
            other.queue_declare('later', durable=False)  # by now the broker has closed the first channel
            channel.publish_raw('', 'later', PROPERTIES, b'body')


def test_a_mandatory_message_that_reaches_no_queue_is_an_error_with_its_name(confirming: BrokerConnection) -> None:
    channel = confirming.default_channel

    with pytest.raises(ChannelError, match=r"exchange 'amq\.direct' with routing key 'nobody': NO_ROUTE"):
        channel.publish_raw('amq.direct', 'nobody', PROPERTIES, b'body', mandatory=True)
    with pytest.raises(ChannelError, match='NO_ROUTE'):
        channel.basic_publish(amqp.Message(b'body'), 'amq.direct', 'nobody', mandatory=True)

    channel.publish_raw('amq.direct', 'nobody', PROPERTIES, b'lost and nobody minds')


def test_returned_messages_go_to_who_listens_for_them(confirming: BrokerConnection) -> None:
    returned = []
    producer = kombu.Producer(confirming.default_channel, on_return=lambda *args: returned.append(args))

    producer.channel.publish_raw('amq.direct', 'nobody', PROPERTIES, b'body', mandatory=True)

    ((error, exchange, routing_key, message),) = returned
    assert (error.reply_code, exchange, routing_key, message.body) == (312, 'amq.direct', 'nobody', b'body')


def test_messages_the_broker_refuses_are_told_by_position_and_name(confirming: BrokerConnection) -> None:
    channel = confirming.default_channel
    channel.queue_declare('full', durable=False, arguments={'x-max-length': 2, 'x-overflow': 'reject-publish'})
    frames = [channel.frames('', 'full', PROPERTIES, b'%d' % number) for number in range(5)]

    channel.write_frames(b''.join(frames), 5, [('', 'full')] * 5)
    with pytest.raises(BurstNacked, match="exchange '' with routing key 'full'") as caught:
        channel.wait_for_confirms(timeout=10)
    with pytest.raises(MessageNacked):
        channel.publish_raw('', 'full', PROPERTIES, b'one more')

    assert caught.value.positions == (2, 3, 4)


def test_a_blocked_broker_is_logged_and_ends_the_wait_for_a_confirm(
    broker_url: str, rabbitmqctl: Callable[..., str], caplog: pytest.LogCaptureFixture,
) -> None:
    with BrokerConnection(broker_url, transport_options={'confirm_publish': True}) as connection:
        channel = connection.default_channel
        rabbitmqctl('set_vm_memory_high_watermark', '0.0000001')
        try:
            with caplog.at_level(logging.INFO, 'celery.transport'), pytest.raises(socket.timeout, match='confirm'):
                channel.publish_raw('', 'any', PROPERTIES, b'body', confirm_timeout=1.5)
        finally:
            rabbitmqctl('set_vm_memory_high_watermark', '0.8')
        channel.publish_raw('', 'any', PROPERTIES, b'body', confirm_timeout=30)
    assert 'blocks publishing' in caplog.text


def test_a_closed_channel_says_so(connection: BrokerConnection) -> None:
    channel = connection.channel()
    channel.close()

    with pytest.raises(amqp.RecoverableConnectionError):
        channel.publish_raw('', 'any', PROPERTIES, b'body')
    with pytest.raises(amqp.RecoverableConnectionError):
        channel.frames('', 'any', PROPERTIES, b'body')
    with pytest.raises(amqp.RecoverableConnectionError):
        channel.ack_raw(1)
