"""Reading what a Redis server sends, as it comes: for the connection on which results are announced."""

from __future__ import annotations

from typing import Any

__all__ = ('ErrorReply', 'Push', 'ReplyReader')


class Push(list[Any]):
    """A message that was not asked for."""


class ErrorReply(str):
    """The server refused a command, and says why."""


class _Incomplete(Exception):
    """The rest has not come yet."""


class ReplyReader:
    """Cuts a stream of bytes into replies.

    On a connection that speaks RESP2 and is subscribed, every array is a `Push`: `arrays_are_pushed`.
    """

    def __init__(self, arrays_are_pushed: bool) -> None:
        self._list: type[list[Any]] = Push if arrays_are_pushed else list
        self._data = b''

    def feed(self, data: bytes) -> list[Any]:
        """The replies that are complete now."""
        data = self._data + data if self._data else data
        replies, start, end = [], 0, len(data)
        try:
            while start < end:
                reply, start = self._parse(data, start)
                replies.append(reply)
        except _Incomplete:
            pass  # it is kept for the next time
        self._data = data[start:]
        return replies

    def _parse(self, data: bytes, start: int) -> tuple[Any, int]:
        line_end = data.find(b'\r\n', start)
        if line_end < 0:
            raise _Incomplete
        mark, line, after = data[start:start + 1], data[start + 1:line_end], line_end + 2
        if mark == b'$':
            return _bulk(data, int(line), after)
        if mark == b'>':
            return self._items(Push(), data, int(line), after)
        if mark == b'*':
            return self._items(self._list(), data, int(line), after)
        if mark == b':':
            return int(line), after
        if mark == b'-':
            return ErrorReply(line.decode(errors='replace')), after
        if mark == b'_':
            return None, after
        return line, after

    def _items(self, items: list[Any], data: bytes, count: int, start: int) -> tuple[Any, int]:
        for _ in range(count):
            item, start = self._parse(data, start)
            items.append(item)
        return items, start


def _bulk(data: bytes, length: int, start: int) -> tuple[bytes | None, int]:
    if length < 0:
        return None, start
    end = start + length
    if len(data) < end + 2:
        raise _Incomplete
    return data[start:end], end + 2
