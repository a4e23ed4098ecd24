"""Reading what a Redis server sends, as it comes: for the connection on which results are announced."""

from __future__ import annotations

from typing import Any

__all__ = ('ErrorReply', 'Push', 'ReplyReader')


class Push(list[Any]):
    """A message that was not asked for."""


class ErrorReply(str):
    """The server refused a command, and says why."""


class ReplyReader:
    """Cuts a stream of bytes into replies, in time linear to its length however it is cut.

    On a connection that speaks RESP2 and is subscribed, every array is a `Push`: `arrays_are_pushed`.
    """

    def __init__(self, arrays_are_pushed: bool) -> None:
        self._containers: dict[int, type[list[Any]]] = {ord('*'): Push if arrays_are_pushed else list, ord('>'): Push}
        self._data = bytearray()
        #: Arrays that are not complete, each with the number of items that are missing.
        self._open: list[tuple[list[Any], int]] = []

    def feed(self, data: bytes) -> list[Any]:
        """The replies that are complete now."""
        buffer = self._data
        buffer += data
        replies: list[Any] = []
        start = 0
        while (line_end := buffer.find(b'\r\n', start)) >= 0:
            mark = buffer[start]
            after = line_end + 2
            if mark == _BULK:
                length = int(buffer[start + 1:line_end])
                if length >= 0:
                    item: Any = bytes(buffer[after:after + length])
                    after += length + 2
                    if after > len(buffer):
                        break
                else:
                    item = None
            elif mark in self._containers:
                count = int(buffer[start + 1:line_end])
                if count > 0:
                    self._open.append((self._containers[mark](), count))
                    start = after
                    continue
                item = self._containers[mark]() if count == 0 else None
            else:
                item = _simple(mark, bytes(buffer[start + 1:line_end]))
            start = after
            self._add(item, replies)
        del buffer[:start]
        return replies

    def _add(self, item: Any, replies: list[Any]) -> None:
        while self._open:
            items, missing = self._open.pop()
            items.append(item)
            if missing > 1:
                self._open.append((items, missing - 1))
                return
            item = items
        replies.append(item)


_BULK = ord('$')


def _simple(mark: int, line: bytes) -> Any:
    if mark == ord(':'):
        return int(line)
    if mark == ord('-'):
        return ErrorReply(line.decode(errors='replace'))
    return None if mark == ord('_') else line
