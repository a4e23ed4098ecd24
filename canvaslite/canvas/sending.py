"""Sending nested canvases one after another, not one inside the other: they may be nested as deep as they like."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

__all__ = ('send_members',)


class _Sending(threading.local):
    """What this thread sends: by which producer, and what it has still to send."""

    producer: Any = None

    def __init__(self) -> None:
        self.waiting: deque[tuple[Any, dict[str, Any]]] = deque()


_sending = _Sending()


def send_members(members: list[Any], producer: Any, options: dict[str, Any]) -> None:
    """Send the members of a group, which are frozen and not used otherwise, in order.

    Inside another canvas that the same producer sends, the canvases among them and what follows those wait until that
    canvas has returned; so when the outermost group's members are sent, all are.
    """
    options = {**options, 'producer': producer, 'add_to_parent': False}
    first = next((place for place, member in enumerate(members) if member.KIND != 'task'), len(members))
    for member in members[:first]:
        member.apply_async(**options)
    if first < len(members):
        waiting = [(member, options) for member in members[first:]]
        if _sending.producer is producer:
            _sending.waiting.extendleft(reversed(waiting))
        else:
            _send_waiting(deque(waiting), producer)


def _send_waiting(waiting: deque[tuple[Any, dict[str, Any]]], producer: Any) -> None:
    before = _sending.producer, _sending.waiting
    _sending.producer, _sending.waiting = producer, waiting
    try:
        while waiting:
            member, options = waiting.popleft()
            member.apply_async(**options)
    finally:
        _sending.producer, _sending.waiting = before
