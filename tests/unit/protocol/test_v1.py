"""Protocol 1 messages (Celery 3), and those of both protocols."""

from __future__ import annotations

import pytest

from canvaslite import protocol
from canvaslite.exceptions import InvalidTaskError

BODY = {
    'task': 't', 'id': 'i', 'args': [1, 'a'], 'kwargs': {'b': 2}, 'retries': 1, 'eta': None, 'expires': None,
    'utc': False, 'callbacks': [{'task': 'c'}], 'errbacks': None, 'timelimit': [4, 2], 'taskset': 'g',
    'chord': {'task': 'b'},
}


def test_everything_is_read_from_the_body() -> None:
    envelope = protocol.decode({}, {'reply_to': 'q', 'correlation_id': 'i'}, BODY)
    assert (envelope.id, envelope.task, envelope.args, envelope.kwargs) == ('i', 't', [1, 'a'], {'b': 2})
    assert (envelope.group, envelope.chord, envelope.callbacks) == ('g', {'task': 'b'}, [{'task': 'c'}])
    assert (envelope.retries, envelope.timelimit, envelope.utc) == (1, (4, 2), False)
    assert (envelope.argsrepr, envelope.kwargsrepr) == ("[1, 'a']", "{'b': 2}")
    assert (envelope.correlation_id, envelope.reply_to) == ('i', 'q')


def test_headers_win_in_a_message_of_both_protocols() -> None:
    envelope = protocol.decode({'id': 'j', 'task': 't', 'root_id': 'r', 'mine': 1}, {}, BODY)
    assert (envelope.id, envelope.root_id, envelope.headers) == ('j', 'r', {'mine': 1})


@pytest.mark.parametrize('body', [
    {'id': 'i'}, {'task': 't'}, {'task': 't', 'id': 'i', 'kwargs': 3}, {'task': 't', 'id': 'i', 'args': 'abc'}])
def test_a_malformed_body_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(InvalidTaskError):
        protocol.decode({}, {}, body)
