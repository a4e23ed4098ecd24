"""Cutting frames out of whatever pieces the socket gives."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from amqp.exceptions import UnexpectedFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from canvaslite.transport.amqp import Connection
from canvaslite.transport.channel import Channel
from canvaslite.transport.frames import BODY, FRAME_END, HEADER, HEARTBEAT, METHOD, encode_frame, encode_short_text
from canvaslite.transport.inbound import InboundFrames, RawConsumer, RawDelivery
from canvaslite.transport.properties import encode_properties

PROPERTIES = encode_properties({'id': 'some id'}, content_type='text/plain')


def delivery_frames(channel_id: int, consumer: str, tag: int, body: bytes, step: int = 100, routing_key: str = 'key',
                    redelivered: bool = False) -> list[bytes]:
    """A message in the frames the broker would send, its body in pieces of `step` bytes."""
    arguments = (struct.pack('>HH', 60, 60) + encode_short_text(consumer) + struct.pack('>Qb', tag, redelivered)
                 + encode_short_text('exchange') + encode_short_text(routing_key))
    frames = [encode_frame(METHOD, channel_id, arguments),
              encode_frame(HEADER, channel_id, struct.pack('>HHQ', 60, 0, len(body)) + PROPERTIES)]
    return frames + [encode_frame(BODY, channel_id, body[at:at + step]) for at in range(0, len(body), step)]


class Receiver:
    """A connection without a socket, two channels with a raw and a plain consumer each, and what they got."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.frames = InboundFrames(self.connection, self.connection.on_inbound_method)
        self.got: dict[int, list[tuple[str, int, bytes]]] = {1: [], 2: []}
        for channel_id in self.got:
            channel = Channel(self.connection, channel_id)
            channel.callbacks['raw'] = RawConsumer(self.take_raw)
            channel.callbacks['plain'] = self.take_plain

    def take_raw(self, delivery: RawDelivery) -> None:
        assert delivery.properties == PROPERTIES
        assert (delivery.exchange, delivery.consumer_tag) == ('exchange', 'raw')
        self.got[delivery.channel.channel_id].append(('raw', delivery.delivery_tag, delivery.body))

    def take_plain(self, message: Any) -> None:
        assert message.properties == {'application_headers': {'id': 'some id'}, 'content_type': 'text/plain'}
        body = message.body.encode() if isinstance(message.body, str) else message.body
        self.got[message.channel.channel_id].append(('plain', message.delivery_tag, body))


messages = st.lists(st.tuples(st.sampled_from(['raw', 'raw', 'plain']), st.binary(max_size=350)), max_size=8)


def interleave(streams: dict[int, list[list[bytes]]], data: st.DataObject) -> bytes:
    """The frames of two channels, each channel's own in order, heartbeats in between."""
    queues = {channel_id: [frame for message in stream for frame in message] for channel_id, stream in streams.items()}
    wire = []
    while any(queues.values()):
        channel_id = data.draw(st.sampled_from([channel_id for channel_id, queue in queues.items() if queue]))
        count = data.draw(st.integers(1, 4))
        wire += queues[channel_id][:count]
        del queues[channel_id][:count]
        if data.draw(st.integers(0, 5)) == 0:
            wire.append(encode_frame(HEARTBEAT, 0, b''))
    return b''.join(wire)


@settings(deadline=None)  # how long it takes says how busy the machine is
@given(messages, messages, st.data())
def test_every_message_arrives_once_and_whole_however_the_bytes_are_cut(
    first: list[tuple[str, bytes]], second: list[tuple[str, bytes]], data: st.DataObject,
) -> None:
    receiver = Receiver()
    expected = {channel_id: [(kind, tag, body) for tag, (kind, body) in enumerate(stream, 1)]
                for channel_id, stream in ((1, first), (2, second))}
    streams = {channel_id: [delivery_frames(channel_id, kind, tag, body) for kind, tag, body in stream]
               for channel_id, stream in expected.items()}
    wire = interleave(streams, data)

    while wire:
        size = data.draw(st.integers(1, len(wire)))
        receiver.frames.feed(wire[:size])
        wire = wire[size:]
        receiver.frames.dispatch_all()

    assert receiver.got == expected
    assert not receiver.frames.holds_frame


def test_one_step_dispatches_one_event_and_leaves_the_rest() -> None:
    receiver = Receiver()
    receiver.frames.feed(b''.join(b''.join(delivery_frames(1, 'raw', tag, b'body')) for tag in (1, 2)))

    assert receiver.frames.dispatch_next()
    assert [tag for _kind, tag, _body in receiver.got[1]] == [1]
    assert receiver.frames.holds_frame


def test_an_error_in_a_callback_does_not_lose_what_follows() -> None:
    receiver = Receiver()

    def refuse(delivery: RawDelivery) -> None:
        raise LookupError(delivery.delivery_tag)

    receiver.connection.channels[1].callbacks['refusing'] = RawConsumer(refuse)
    receiver.frames.feed(b''.join(delivery_frames(1, 'refusing', 1, b'') + delivery_frames(1, 'raw', 2, b'body')))

    with pytest.raises(LookupError):
        receiver.frames.dispatch_all()
    receiver.frames.dispatch_all()

    assert receiver.got[1] == [('raw', 2, b'body')]


def test_a_callback_may_itself_go_on_reading() -> None:
    receiver = Receiver()
    seen = []

    def read_on(delivery: RawDelivery) -> None:
        receiver.frames.dispatch_next()
        seen.append(delivery.delivery_tag)

    receiver.connection.channels[1].callbacks['reading'] = RawConsumer(read_on)
    receiver.frames.feed(b''.join(delivery_frames(1, 'reading', 1, b'a') + delivery_frames(1, 'raw', 2, b'b')
                                  + delivery_frames(1, 'raw', 3, b'c')))
    receiver.frames.dispatch_all()

    assert receiver.got[1] == [('raw', 2, b'b'), ('raw', 3, b'c')]
    assert seen == [1]


def test_deliveries_to_a_channel_that_is_being_closed_are_left_to_the_broker() -> None:
    receiver = Receiver()
    receiver.connection.channels[1].is_closing = True
    receiver.frames.feed(b''.join(delivery_frames(1, 'raw', 1, b'body') + delivery_frames(2, 'raw', 1, b'body')))

    receiver.frames.dispatch_all()

    assert receiver.got == {1: [], 2: [('raw', 1, b'body')]}


def test_a_routing_key_that_is_no_text_is_delivered() -> None:
    receiver = Receiver()
    keys = []
    receiver.connection.channels[1].callbacks['raw'] = RawConsumer(lambda delivery: keys.append(delivery.routing_key))
    frames = b''.join(delivery_frames(1, 'raw', 1, b'', routing_key='xyz')).replace(b'xyz', b'\xff\xfe\xfd')
    receiver.frames.feed(frames)

    receiver.frames.dispatch_all()

    assert keys == ['\udcff\udcfe\udcfd']


@pytest.mark.parametrize('wire', [
    b'HTTP/1.1 400 Bad Request\r\n\r\n',
    b'AMQP\x00\x00\x09\x01',
    struct.pack('>BHI', METHOD, 0, 2**31),
    encode_frame(HEARTBEAT, 0, b'')[:-1] + bytes([FRAME_END ^ 0xFF]),
    encode_frame(BODY, 1, b'a body without its method'),
    delivery_frames(1, 'raw', 1, b'body')[0] * 2,
    b''.join(delivery_frames(1, 'raw', 1, b'body')[:2]) + encode_frame(BODY, 1, b'longer than announced'),
])
def test_bytes_that_are_out_of_step_end_the_connection(wire: bytes) -> None:
    receiver = Receiver()
    receiver.frames.feed(wire)

    with pytest.raises(UnexpectedFrame):
        receiver.frames.dispatch_all()
