"""Protocol 1 (Celery 3): everything in the body. Read always; written only with ``task_protocol = 1``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canvaslite import wire
from canvaslite.exceptions import InvalidTaskError
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
    """The envelope in a message whose decoded body is the mapping `payload`.

    A message with both (a body as above and protocol 2 headers) is read with the headers first.
    Raises `InvalidTaskError` when the message does not follow the protocol.
    """
    said = {**payload, **headers}
    task_id, name = said.get('id'), said.get('task')
    if not isinstance(task_id, str) or not isinstance(name, str):
        raise InvalidTaskError("The body of a task message must have 'id' and 'task' as text; it has "
                               f'id={task_id!r}, task={name!r}.')
    args, kwargs = payload.get('args', ()), payload.get('kwargs', {})
    if not isinstance(args, (list, tuple)):
        raise InvalidTaskError(f'Positional arguments must be a list, not a {type(args).__name__}.')
    if not isinstance(kwargs, Mapping):
        raise InvalidTaskError(f'Keyword arguments must be a mapping, not a {type(kwargs).__name__}.')
    limits = said.get('timelimit')
    return Envelope(
        id=task_id, task=name, args=args, kwargs=kwargs,
        eta=said.get('eta'), expires=said.get('expires'),
        timelimit=(limits[0], limits[1]) if isinstance(limits, (list, tuple)) and len(limits) == 2 else (None, None),
        lang=said.get('lang') or wire.LANG, shadow=said.get('shadow'),
        group=said.get('group') or payload.get('taskset'), group_index=said.get('group_index'),
        retries=said.get('retries') or 0, root_id=said.get('root_id'), parent_id=said.get('parent_id'),
        argsrepr=said.get('argsrepr') or represent_args(args, _REPR_SIZE),
        kwargsrepr=said.get('kwargsrepr') or represent_kwargs(kwargs, _REPR_SIZE),
        origin=said.get('origin'), ignore_result=bool(said.get('ignore_result')),
        callbacks=payload.get('callbacks'), errbacks=payload.get('errbacks'), chord=payload.get('chord'),
        headers={key: value for key, value in headers.items() if key not in _KNOWN} or None,
        correlation_id=properties.get('correlation_id'), reply_to=properties.get('reply_to'),
        utc=bool(payload.get('utc', True)),
    )
