from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from canvaslite.backends.redis.link import pack
from canvaslite.backends.redis.replies import ErrorReply, Push, ReplyReader

REPLIES = [
    (b'$5\r\nhello\r\n', b'hello'),
    (b'$-1\r\n', None),
    (b'_\r\n', None),
    (b':42\r\n', 42),
    (b'+OK\r\n', b'OK'),
    (b'-ERR no\r\n', 'ERR no'),
    (b'*3\r\n$1\r\na\r\n$-1\r\n*1\r\n:1\r\n', [b'a', None, [1]]),
    (b'*0\r\n', []),
    (b'>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\n\r\n\r\n\r\n', [b'message', b'c', b'\r\n\r\n']),
    (b'$0\r\n\r\n', b''),
]


@given(st.lists(st.sampled_from(REPLIES)), st.data())
def test_replies_are_read_however_the_stream_is_cut(chosen, data):
    stream = b''.join(raw for raw, _ in chosen)
    reader, replies = ReplyReader(arrays_are_pushed=False), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        replies += reader.feed(stream[:size])
        stream = stream[size:]
    assert replies == [value for _, value in chosen]


def test_what_was_not_asked_for_and_what_was_refused_can_be_told():
    reader = ReplyReader(arrays_are_pushed=False)
    assert isinstance(reader.feed(b'>1\r\n:1\r\n')[0], Push)
    assert not isinstance(reader.feed(b'*1\r\n:1\r\n')[0], Push)
    assert isinstance(reader.feed(b'-NOPERM\r\n')[0], ErrorReply)
    assert isinstance(ReplyReader(arrays_are_pushed=True).feed(b'*1\r\n:1\r\n')[0], Push)


@given(st.lists(st.binary(max_size=2000), min_size=1))
def test_a_packed_command_is_an_array_of_strings(args):
    assert ReplyReader(arrays_are_pushed=False).feed(pack(*args)) == [args]
