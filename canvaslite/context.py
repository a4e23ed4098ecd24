"""`Context`: the run of a task as the task itself sees it (``task.request``), and the stack of runs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from canvaslite.utils.undecoded import Undecoded
from canvaslite.wire import DELAYED_HEADER

#: Headers that tell of a message's way: RabbitMQ adds them when it dead-letters (sent again they would look like a
#: cycle to it), and our workers when they delay.
X_DEATH_HEADERS = frozenset({
    DELAYED_HEADER, 'x-death', 'x-first-death-exchange', 'x-first-death-queue', 'x-first-death-reason',
    'x-last-death-exchange', 'x-last-death-queue', 'x-last-death-reason',
})

#: Message headers that belong to the protocol but are no attribute of a context.
_PROTOCOL_ONLY = frozenset({'lang', 'task', 'argsrepr', 'kwargsrepr', 'compression'})


class _Carried:
    """What a message carries for others than its task: decoded when it is looked at."""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name

    def __get__(self, context: Any, owner: Any = None) -> Any:
        value = None if context is None else context.__dict__.get(self.name)
        if isinstance(value, Undecoded):
            value = context.__dict__[self.name] = value.decode()
        return value

    def __set__(self, context: Any, value: Any) -> None:
        context.__dict__[self.name] = value


class Context:
    """What a task may know of the message it runs for; what that did not set has the class's value. One made without a
    message is what ``task.request`` shows when the task is called directly."""

    _children: list[Any] | None = None
    _protected = 0
    #: The job (``xmap`` and its like) that calls the task for one of its items.
    _called_by: Any = None
    args: Any = None
    kwargs: Any = None
    callbacks: Any = None
    errbacks: Any = None
    chain: Any = _Carried()
    chord: Any = _Carried()
    called_directly = True
    correlation_id: str | None = None
    delivery_info: dict[str, Any] | None = None
    eta: str | None = None
    expires: Any = None
    group: str | None = None
    group_index: int | None = None
    headers: dict[str, Any] | None = None
    hostname: str | None = None
    id: str | None = None
    ignore_result = False
    is_eager = False
    logfile: str | None = None
    loglevel: int | None = None
    origin: str | None = None
    parent_id: str | None = None
    properties: dict[str, Any] | None = None
    retries = 0
    reply_to: str | None = None
    replaced_task_nesting = 0
    root_id: str | None = None
    shadow: str | None = None
    #: Old name of `group`.
    taskset: str | None = None
    timelimit: Any = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    utc: bool | None = None
    stamped_headers: Any = None
    stamps: Any = None

    def __init__(self, *args: Mapping[str, Any] | Iterable[tuple[str, Any]], **kwargs: Any) -> None:
        self.update(*args, **kwargs)
        if self.headers is None:
            self.headers = _custom_headers(dict(*args, **kwargs))

    @classmethod
    def adopt(cls, values: dict[str, Any]) -> Context:
        """A context whose attributes are `values` itself, not a copy: for a worker, which makes thousands a second."""
        context = cls.__new__(cls)
        context.__dict__ = values
        if not _HEADER_NAMES.issuperset(values):
            for name in _PRIVATE.intersection(values):
                del values[name]
            if values.get('headers') is None:
                values['headers'] = _custom_headers(values)
        limits = values.get('timelimit')
        if limits is not None and limits != [None, None] and isinstance(limits, (list, tuple)) and len(limits) >= 2:
            values['time_limit'], values['soft_time_limit'] = limits[0], limits[1]
        return context

    def update(self, *args: Mapping[str, Any] | Iterable[tuple[str, Any]], **kwargs: Any) -> None:
        """Set attributes from a mapping; ``timelimit`` also sets the hard and the soft limit."""
        values: dict[str, Any] = dict(*args, **kwargs)
        self.__dict__.update(values)
        if 'timelimit' in values:
            limits = values['timelimit']
            paired = isinstance(limits, (list, tuple)) and len(limits) >= 2
            self.time_limit, self.soft_time_limit = (limits[0], limits[1]) if paired else (None, None)

    @property
    def awaited_by_chord(self) -> bool:
        """Whether this is the run of a part of a chord. Does not decode the chord's body, as ``chord`` would."""
        return bool(self.__dict__.get('chord'))

    def clear(self) -> None:
        self.__dict__.clear()

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)

    def __repr__(self) -> str:
        return f'<Context: {vars(self)!r}>'

    def as_execution_options(self) -> dict[str, Any]:
        """Options with which ``apply_async`` would send this run again."""
        hard, soft = self.timelimit or (None, None)
        names = ('root_id', 'parent_id', 'group_index', 'shadow', 'chord', 'chain', 'expires', 'retries', 'reply_to',
                 'replaced_task_nesting', 'origin')
        options = {
            **{name: getattr(self, name) for name in names},
            'task_id': self.id, 'group_id': self.group, 'link': self.callbacks, 'link_error': self.errbacks,
            'soft_time_limit': soft, 'time_limit': hard,
            'headers': {name: value for name, value in (self.headers or {}).items() if name not in X_DEATH_HEADERS},
        }
        if self.stamps is not None and self.stamped_headers is not None:
            options['stamped_headers'] = self.stamped_headers
            options.update((name, value) for name, value in self.stamps.items() if name in self.stamped_headers)
        return options

    @property
    def children(self) -> list[Any]:
        """Results of the tasks that this run has sent."""
        if self._children is None:
            self._children = []
        return self._children


#: Computed once: asking the class for each header of each message would cost more than the run.
_CONTEXT_NAMES = frozenset(vars(Context)) | _PROTOCOL_ONLY
#: What no message may set, and what else is no header of its own.
_PRIVATE = frozenset({'_children', '_protected', '_called_by'})
_HEADER_NAMES = _CONTEXT_NAMES - _PRIVATE


def _custom_headers(values: dict[str, Any]) -> dict[str, Any] | None:
    custom = {name: value for name, value in values.items() if name not in _CONTEXT_NAMES}
    return custom or None


class RunStack(threading.local):
    """Stack of what runs in this thread, the innermost last."""

    def __init__(self) -> None:
        self.stack: list[Any] = []

    def push(self, item: Any) -> None:
        self.stack.append(item)

    def pop(self) -> Any:
        """Remove and return the innermost; None when nothing runs."""
        return self.stack.pop() if self.stack else None

    @property
    def top(self) -> Any:
        """The innermost, or None."""
        return self.stack[-1] if self.stack else None

    def __len__(self) -> int:
        return len(self.stack)
