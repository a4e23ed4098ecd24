"""Protocol 2: the task in the message's headers, its arguments and canvas in the body."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, TypeGuard
from uuid import UUID

from canvaslite import wire
from canvaslite.exceptions import InvalidTaskError
from canvaslite.protocol.envelope import Envelope
from canvaslite.utils.undecoded import Undecoded
from canvaslite.utils.uuid import uuid

#: Headers that say something of the message, not of the task: kombu sets them anew when the task is sent again.
_OF_THE_MESSAGE = frozenset({'compression'})
_KNOWN = frozenset(wire.TASK_HEADERS) | _OF_THE_MESSAGE

#: Longest id, and longest name of an unknown task, in characters: as AMQP's correlation id.
LONGEST_NAME = 255
#: What may be in the headers that code relies on once a task has run, when it is too late to refuse it.
_KINDS: tuple[tuple[str, Any], ...] = (
    ('group', str), ('root_id', str), ('parent_id', str), ('group_index', (int, float)), ('retries', (int, float)),
    ('replaced_task_nesting', (int, float)), ('stamps', dict), ('stamped_headers', (list, tuple, set)))
_LINEAGE = ('root_id', 'parent_id')
_COUNTS, _CANVAS = ('retries', 'replaced_task_nesting'), ('callbacks', 'errbacks', 'chain', 'chord')
_PARTS: tuple[tuple[str, Any], ...] = (
    ('args', (list, tuple, NoneType)), ('kwargs', (Mapping, NoneType)), ('options', (Mapping, NoneType)))


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
    for name in _CANVAS:
        check_canvas(name, embed.get(name))
    return args, kwargs, embed


def is_name(value: Any) -> TypeGuard[str]:
    """Whether it can be an id or a task's name: text that can be shown in a line of the log."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


def mend(values: dict[str, Any]) -> str | None:
    """What is wrong in the headers and the canvas of a message, which are `values`; None if nothing is.

    It is taken out, so that those who wait, as far as the rest says who they are, can be told.
    """
    wrong = None
    for name, kinds in _KINDS:
        value = values.get(name)
        if value is None or isinstance(value, kinds):
            continue
        if name in _LINEAGE and isinstance(value, (int, UUID)):
            values[name] = str(value)  # nothing hangs on them, and Celery takes them
        else:
            wrong, values[name] = f'the header {name} cannot be {_describe(value)}', None
    if (names := values.get('stamped_headers')) and not all(isinstance(name, str) for name in names):
        wrong, values['stamped_headers'] = f'the header stamped_headers cannot be {_describe(names)}', None
    for name in _COUNTS:
        if values.get(name) is None:
            values[name] = 0
    for name in _CANVAS:
        if values.get(name):
            try:
                check_canvas(name, values[name])
            except InvalidTaskError as exc:
                wrong, values[name] = str(exc), None
    if not is_name(values.get('id')):
        wrong, values['id'] = f'the header id cannot be {_describe(values.get("id"))}', uuid()
    return wrong


def check_canvas(name: str, value: Any) -> None:
    """Raise `InvalidTaskError` for what cannot be sent after the task: better now than when the task has run."""
    if not value or isinstance(value, Undecoded):
        return
    for step in value if isinstance(value, (list, tuple)) else (value,):
        if not isinstance(step, Mapping) or not isinstance(step.get('task'), str):
            raise InvalidTaskError(f'What a task message has as its {name} must be signatures, not {_describe(step)}.')
        wrong = [part for part, kinds in _PARTS if not isinstance(step.get(part), kinds)]
        if wrong or not isinstance((step.get('options') or {}).get('task_id'), (str, UUID, NoneType)):
            raise InvalidTaskError(f'In a signature among the {name} of a task message the '
                                   f'{wrong[0] if wrong else "task_id"} is of a type that cannot be.')


def _describe(value: Any) -> str:
    size = f' of {len(value)}' if isinstance(value, (list, tuple)) else ''
    return f'a {type(value).__name__}{size}'
