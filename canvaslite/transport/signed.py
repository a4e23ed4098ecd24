"""Which part of a message is signed, beside what the serializer ``auth`` signs by itself, which is the body alone.

A body that is signed alone can be sent again under the name of another task. So the signature in the header
`wire.SIGNATURE_HEADER` is of the body, of all headers (the task's name and id are there), of the correlation id and of
where replies go. Left out is what changes on the way: the compression, where a message was sent to that the broker
keeps until its ETA, and headers that begin with ``x-``.
`canvaslite.security` signs; this is what senders and readers share, without its library.

Commands of remote control, and the replies, are signed in the same way. Beyond that a command says when it was sent,
and is done once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Protocol

from amqp.exceptions import FrameSyntaxError

from canvaslite import wire
from canvaslite.exceptions import SecurityError
from canvaslite.transport.table import decode_table, encode_table

#: Seconds for which a command may be under way, and by which the clocks of who sends and who gets it may differ.
COMMAND_LIFETIME = 300.0
_NOT_SIGNED = frozenset({wire.SIGNATURE_HEADER, wire.DELAYED_HEADER, 'compression'})


class Signing(Protocol):
    """Who signs for this process, and knows whom it trusts."""

    #: Whether messages are accepted of which only the body is signed, as Celery's are.
    accepts_bodies: bool

    def sign(self, data: bytes) -> str:
        """A signature, with the name of who signs."""

    def check(self, data: bytes, signature: str) -> None:
        """Raises `SecurityError` for one that is not of `data`, or not of somebody trusted."""


#: That of this process; kombu knows one ``auth`` as well.
in_use: list[Signing] = []


def sign_message(headers: dict[str, Any], properties: Mapping[str, Any], body: bytes) -> None:
    """Add the signature to `headers`. The body is that which is not compressed."""
    for signing in in_use:
        headers[wire.SIGNATURE_HEADER] = signing.sign(_to_sign(headers, properties, body))


def check_message(headers: dict[str, Any], properties: Mapping[str, Any], body: bytes) -> bool:
    """Check the signature, and take it off: it is of this message, not of a retry. False where there need be none.
    Raises `SecurityError`."""
    signature = headers.pop(wire.SIGNATURE_HEADER, None)
    for signing in in_use:
        if signature is not None:
            signing.check(_to_sign(headers, properties, body), signature)
        elif not signing.accepts_bodies:
            raise SecurityError('only the body of this message is signed, as Celery does it; security_accept_bodies '
                                'accepts that, and so any task name for that body')
    return bool(in_use) and signature is not None


class Arrivals:
    """Commands of remote control that came to nodes of this process, each of which is to come once, and soon."""

    def __init__(self) -> None:
        #: Of what came before nothing is known.
        self.since = time.time()
        self._seen: dict[tuple[str, str], float] = {}

    def note(self, node: str, sent: Any) -> None:
        """The command with the header `SENT_HEADER` has come to `node`. Raises `SecurityError` if it is not new."""
        now = time.time()
        if not (isinstance(sent, list) and len(sent) == 2 and isinstance(sent[0], float) and isinstance(sent[1], str)):
            raise SecurityError('this command does not say when it was sent')
        if not max(self.since, now - COMMAND_LIFETIME) <= sent[0] <= now + COMMAND_LIFETIME:
            raise SecurityError(f'this command was sent {now - sent[0]:.0f} seconds ago by the clock of its sender, '
                                f'which is more than {COMMAND_LIFETIME:.0f}, or before this worker began')
        for key in [key for key, time_sent in self._seen.items() if time_sent < now - COMMAND_LIFETIME]:
            del self._seen[key]
        if (node, sent[1]) in self._seen:
            raise SecurityError('this command has come before')
        self._seen[node, sent[1]] = sent[0]


def _to_sign(headers: Mapping[str, Any], properties: Mapping[str, Any], body: bytes) -> bytes:
    said = {name: value for name, value in headers.items()
            if not (isinstance(name, str) and (name in _NOT_SIGNED or name.startswith('x-')))}
    try:
        # As it looks when it has been sent: tuples have become lists, times lost their fractions.
        said, _ = decode_table(encode_table(said), 0)
        reply_to = properties.get('reply_to')
        outside = [said, properties.get('correlation_id') or '', getattr(reply_to, 'name', reply_to) or '']
        return json.dumps(outside, sort_keys=True, default=repr).encode() + b'\0' + body
    except (FrameSyntaxError, TypeError, ValueError, RecursionError) as exc:
        raise SecurityError(f'headers like these cannot be signed: {type(exc).__name__}') from exc
