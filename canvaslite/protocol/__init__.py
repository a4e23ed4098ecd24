"""The format of task messages, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canvaslite.protocol import v1, v2
from canvaslite.protocol.envelope import Envelope, SignatureDict

__all__ = ('Envelope', 'SignatureDict', 'decode', 'v1', 'v2')


def decode(headers: Mapping[str, Any] | None, properties: Mapping[str, Any], payload: Any) -> Envelope:
    """The envelope in a message of either protocol with the decoded body `payload`. Raises `InvalidTaskError`."""
    # As Celery: a body with its own arguments is of protocol 1, even under headers that name a task.
    if isinstance(payload, Mapping) and ('args' in payload or 'task' not in (headers or {})):
        return v1.decode(headers or {}, properties, payload)
    return v2.decode(headers or {}, properties, payload)
