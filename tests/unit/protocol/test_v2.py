"""Protocol 2 messages, to headers and body and back."""

from __future__ import annotations

from typing import Any

import pytest

from canvaslite import protocol, wire
from canvaslite.exceptions import InvalidTaskError
from canvaslite.protocol import Envelope, v2

FULL = Envelope(
    id='i', task='t', args=[1], kwargs={'a': 2}, eta='2026-01-01T00:00:00+00:00', expires='2026-01-02T00:00:00+00:00',
    timelimit=(10, 5), shadow='s', group='g', group_index=3, retries=2, root_id='r', parent_id='p', argsrepr='(1,)',
    kwargsrepr="{'a': 2}", origin='gen1@host', ignore_result=True, replaced_task_nesting=1, stamped_headers=['stamp'],
    stamps={'stamp': 'x'}, callbacks=[{'task': 'c'}], errbacks=[{'task': 'e'}], chain=[{'task': 'n'}],
    chord={'task': 'b'}, headers={'custom': 'kept'}, correlation_id='i', reply_to='q',
)


def decode_encoded(envelope: Envelope) -> Envelope:
    payload = [envelope.args, envelope.kwargs, v2.encode_embed(envelope)]
    properties = {'correlation_id': envelope.correlation_id, 'reply_to': envelope.reply_to}
    return protocol.decode(v2.encode_headers(envelope), properties, payload)


def test_what_was_encoded_is_decoded() -> None:
    assert decode_encoded(FULL) == FULL


def test_headers_are_written_in_the_order_in_which_the_parent_reads_them() -> None:
    assert tuple(v2.encode_headers(FULL))[:-1] == wire.TASK_HEADERS


def test_a_message_with_only_id_and_task_has_defaults() -> None:
    envelope = protocol.decode({'id': 'i', 'task': 't'}, {}, [[], {}, None])
    assert envelope == Envelope('i', 't', args=[], kwargs={})


def test_headers_of_the_message_itself_do_not_stay_on_the_task() -> None:
    envelope = protocol.decode({'id': 'i', 'task': 't', 'compression': 'gzip', 'x': 1}, {}, [[], {}, {}])
    assert envelope.headers == {'x': 1}


@pytest.mark.parametrize(('headers', 'payload', 'complaint'), [
    ({'task': 't'}, [[], {}, {}], "headers 'id' and 'task'"),
    ({'id': 'i'}, [[], {}, {}], "headers 'id' and 'task'"),
    ({'id': 1, 'task': 't'}, [[], {}, {}], "headers 'id' and 'task'"),
    ({'id': 'i', 'task': 't'}, 'text', 'must be a list of three'),
    ({'id': 'i', 'task': 't'}, [[], {}], 'a list of 2'),
    ({'id': 'i', 'task': 't'}, ['abc', {}, {}], 'Positional arguments must be a list'),
    ({'id': 'i', 'task': 't'}, [[], [], {}], 'Keyword arguments must be a mapping'),
    ({'id': 'i', 'task': 't'}, [[], {}, 5], 'canvas in a task message must be a mapping'),
    (None, None, 'must be a list of three'),
])
def test_a_malformed_message_is_refused_in_one_sentence(headers: Any, payload: Any, complaint: str) -> None:
    with pytest.raises(InvalidTaskError, match=complaint) as caught:
        protocol.decode(headers, {}, payload)
    assert '\n' not in str(caught.value)


def test_a_malformed_time_limit_is_none() -> None:
    assert protocol.decode({'id': 'i', 'task': 't', 'timelimit': 7}, {}, [[], {}, {}]).timelimit == (None, None)
