"""The frames of a publish are those that py-amqp would write."""

from __future__ import annotations

from typing import Any

import pytest
from amqp.basic_message import Message
from amqp.connection import Connection
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from hypothesis import example, given
from hypothesis import strategies as st

from canvaslite.transport.frames import content_frames, encode_ack, encode_frame, encode_reject, publish_frame
from canvaslite.transport.properties import encode_properties

FRAME_MAX = 100


class Wire:
    """Collects what py-amqp writes."""

    def __init__(self) -> None:
        self.data = b''

    def write(self, data: Any) -> None:
        self.data += bytes(data)


def written_by_py_amqp(signature: tuple[int, int], arguments: bytes, message: Message | None = None) -> bytes:
    wire = Wire()
    connection = Connection(frame_max=FRAME_MAX)
    frame_writer(connection, wire)(1, 7, signature, arguments, message)
    return wire.data


@given(st.text(max_size=20), st.text(max_size=20), st.booleans(), st.binary(max_size=400))
@example('', 'queue', False, b'x' * (FRAME_MAX - 8))
@example('', 'queue', False, b'x' * (FRAME_MAX - 7))
@example('', 'queue', False, b'')
def test_a_publish_is_cut_into_the_frames_of_py_amqp(
    exchange: str, routing_key: str, mandatory: bool, body: bytes,
) -> None:
    arguments = dumps('Bssbb', (0, exchange, routing_key, mandatory, False))
    theirs = written_by_py_amqp((60, 40), arguments, Message(body, content_type='a/b', application_headers={'n': 1}))

    method = publish_frame(7, exchange, routing_key, mandatory)
    ours = content_frames(7, method, encode_properties({'n': 1}, content_type='a/b'), body, FRAME_MAX)

    assert ours == theirs


@pytest.mark.parametrize('flag', [False, True])
def test_acknowledgements_have_the_bytes_of_py_amqp(flag: bool) -> None:
    assert encode_ack(7, 2**40, flag) == written_by_py_amqp((60, 80), dumps('Lb', (2**40, flag)))
    assert encode_reject(7, 2**40, flag) == written_by_py_amqp((60, 90), dumps('Lb', (2**40, flag)))


def test_a_heartbeat_is_a_frame_without_payload() -> None:
    assert encode_frame(8, 0, b'') == b'\x08\x00\x00\x00\x00\x00\x00\xce'
