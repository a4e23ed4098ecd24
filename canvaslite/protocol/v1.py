"""Protocol 1 (Celery 3): everything in the body. Read always; written only with ``task_protocol = 1``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canvaslite import wire
from canvaslite.protocol import v2
from canvaslite.protocol.envelope import Envelope
from canvaslite.utils.saferepr import represent_args, represent_kwargs

#: Longest representation of arguments, in characters.
_REPR_SIZE = 1024

_KNOWN = frozenset(wire.TASK_HEADERS) | {'compression', 'meth', 'utc'}


def encode_body(env: Envelope) -> dict[str, Any]:
    """The body of the message; it has no headers of ours."""
    return {
        'task': env.task, 'id': env.id, 'args': env.args, 'kwargs': env.kwargs, 'group': env.group,
        'group_index': env.group_index, 'retries': env.retries, 'eta': env.eta, 'expires': env.expires, 'utc': env.utc,
        'callbacks': env.callbacks, 'errbacks': env.errbacks, 'timelimit': env.timelimit, 'taskset': env.group,
        'chord': env.chord,
    }


def decode(headers: Mapping[str, Any], properties: Mapping[str, Any], payload: Mapping[str, Any]) -> Envelope:
    """The envelope in a message with body `payload`; headers of protocol 2 come first. Raises `InvalidTaskError`."""
    canvas = {name: payload.get(name) for name in ('callbacks', 'errbacks', 'chord')}
    body = (payload.get('args', ()), payload.get('kwargs', {}), canvas)
    env = v2.decode({**payload, **headers}, properties, body)
    return env._replace(
        lang=env.lang or wire.LANG, group=env.group or payload.get('taskset'),
        argsrepr=env.argsrepr or represent_args(env.args, _REPR_SIZE),
        kwargsrepr=env.kwargsrepr or represent_kwargs(env.kwargs, _REPR_SIZE),
        headers={key: value for key, value in headers.items() if key not in _KNOWN} or None,
        utc=bool(payload.get('utc', True)))
