"""Protocol 2: the task in the message's headers, its arguments and canvas in the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canvaslite import wire
from canvaslite.exceptions import InvalidTaskError
from canvaslite.protocol.envelope import Envelope
from canvaslite.utils.undecoded import Undecoded

#: Headers that say something of the message, not of the task: kombu sets them anew when the task is sent again.
_OF_THE_MESSAGE = frozenset({'compression'})
_KNOWN = frozenset(wire.TASK_HEADERS) | _OF_THE_MESSAGE


def encode_headers(env: Envelope) -> dict[str, Any]:
    """The headers of the message; `env.headers` are added, and win over the protocol's (as in Celery)."""
    headers = {
        'id': env.id, 'task': env.task, 'eta': env.eta, 'expires': env.expires, 'timelimit': list(env.timelimit),
        'lang': env.lang, 'shadow': env.shadow, 'group': env.group, 'group_index': env.group_index,
        'retries': env.retries, 'root_id': env.root_id, 'parent_id': env.parent_id, 'argsrepr': env.argsrepr,
        'kwargsrepr': env.kwargsrepr, 'origin': env.origin, 'ignore_result': env.ignore_result,
        'replaced_task_nesting': env.replaced_task_nesting, 'stamped_headers': env.stamped_headers,
        'stamps': {} if env.stamps is None else env.stamps,
    }
    if env.headers:
        headers.update(env.headers)
    return headers


def encode_embed(env: Envelope) -> dict[str, Any]:
    """The third element of the body: what is to run after the task."""
    return {'callbacks': env.callbacks, 'errbacks': env.errbacks, 'chain': env.chain, 'chord': env.chord}


def decode(headers: Mapping[str, Any], properties: Mapping[str, Any], payload: Any) -> Envelope:
    """The envelope in a message with the decoded body ``(args, kwargs, embed)``. Raises `InvalidTaskError`."""
    args, kwargs, embed = _split(payload)
    get = headers.get
    task_id, name = get('id'), get('task')
    if not isinstance(task_id, str) or not isinstance(name, str):
        raise InvalidTaskError("A task message must have the headers 'id' and 'task' as text (in protocol 1 they are "
                               f'in the body); it has id={task_id!r}, task={name!r}.')
    limits = get('timelimit')
    after = embed.get
    # By position, because this is done for every message and keywords double its cost.
    return Envelope(
        task_id, name, args, kwargs, get('eta'), get('expires'),
        (limits[0], limits[1]) if isinstance(limits, (list, tuple)) and len(limits) == 2 else (None, None),
        get('lang', wire.LANG), get('shadow'), get('group'), get('group_index'), get('retries') or 0,
        get('root_id'), get('parent_id'), get('argsrepr') or '', get('kwargsrepr') or '', get('origin'),
        bool(get('ignore_result')), get('replaced_task_nesting') or 0, get('stamped_headers'), get('stamps'),
        after('callbacks'), after('errbacks'), after('chain'), after('chord'),
        None if _KNOWN.issuperset(headers) else {key: value for key, value in headers.items() if key not in _KNOWN},
        properties.get('correlation_id'), properties.get('reply_to'),
    )


def _split(payload: Any) -> tuple[Any, Mapping[str, Any], Mapping[str, Any]]:
    """Arguments, keyword arguments and embedded canvas of a decoded body."""
    if not isinstance(payload, (list, tuple)) or len(payload) != 3:
        raise InvalidTaskError('The body of a task message must be a list of three: positional arguments, keyword '
                               f'arguments and canvas; this one is {_describe(payload)}.')
    args, kwargs, embed = payload
    if not isinstance(args, (list, tuple)):
        raise InvalidTaskError(f'Positional arguments must be a list, not {_describe(args)}.')
    if not isinstance(kwargs, Mapping):
        raise InvalidTaskError(f'Keyword arguments must be a mapping, not {_describe(kwargs)}.')
    if embed is None:
        return args, kwargs, {}
    if not isinstance(embed, Mapping):
        raise InvalidTaskError(f'The canvas in a task message must be a mapping, not {_describe(embed)}.')
    check_canvas(embed)
    return args, kwargs, embed


def check_canvas(embed: Mapping[str, Any]) -> None:
    """Raise `InvalidTaskError` for what cannot be sent after the task: better now than when the task has run."""
    for name in ('callbacks', 'errbacks', 'chain', 'chord'):
        value = embed.get(name)
        if not value or isinstance(value, Undecoded):
            continue
        for step in value if isinstance(value, (list, tuple)) else (value,):
            if not isinstance(step, Mapping) or not isinstance(step.get('task'), str):
                raise InvalidTaskError(f'What a task message has as its {name} must be signatures, not '
                                       f'{_describe(step)}.')


def _describe(value: Any) -> str:
    size = f' of {len(value)}' if isinstance(value, (list, tuple)) else ''
    return f'a {type(value).__name__}{size}'
