"""`group`: tasks that run side by side."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial as bind
from typing import Any

from kombu.utils.functional import fxrange

from canvaslite.canvas.freezing import Freezing, add_header, bind_end, drive, flatten_members, freezing_members
from canvaslite.canvas.members import as_members, is_linked, is_signature, is_strict
from canvaslite.canvas.parts import Canvas, apply_part, name_module_once
from canvaslite.canvas.records import recorded
from canvaslite.canvas.signatures import Signature, maybe_signature
from canvaslite.canvas.steps import make_chord
from canvaslite.canvas.strict import joined, strict_copy
from canvaslite.result import GroupResult
from canvaslite.utils.undecoded import Undecoded
from canvaslite.utils.uuid import uuid
from canvaslite.wire import GROUP, WINDOW_HEADER


@Canvas.register_type()
class group(Canvas):
    """Tasks that run side by side; its value is the list of theirs, in order.

    `tasks` are signatures, or one iterable of them; a generator is not touched before its members are needed. A group
    among them stands for its members. `options` are execution options of every member.

    With `max_concurrency` at most so many members run at any moment: the next is sent as one ends, however it ends.
    """

    KIND, PARTS, STAMPED_AS = 'group', ('tasks',), 'group'

    #: Results of the members, once a disposable group is frozen.
    _frozen: list[Any] | None = None

    def __init__(self, *tasks: Any, **options: Any) -> None:
        members: Any = tasks[0] if len(tasks) == 1 else tasks
        if is_signature(members):
            members = members.tasks if members.KIND == 'group' else [members.clone()]
        else:
            members = as_members([maybe_signature(members, app=options.get('app'))]
                                 if isinstance(members, dict) else members)
        limit = options.get('max_concurrency')
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise ValueError(f'max_concurrency is a number of members, at least 1, not {limit!r}')
        super().__init__(GROUP, (), {'tasks': members}, **options)
        self['subtask_type'] = 'group'

    def __call__(self, *partial_args: Any, **options: Any) -> Any:
        """Send it, with partial arguments for each member."""
        return self.apply_async(partial_args, **options)

    def __len__(self) -> int:
        return len(self['kwargs']['tasks'])

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Any:
        """Let the members wait, each `step` seconds longer than the one before, until `stop`; returns itself."""
        countdown = fxrange(start, stop, step, repeatlast=True)
        for member in self.change_members():
            member.set(countdown=next(countdown))
        return self

    def apply_async(self, args: Any = None, kwargs: Any = None, add_to_parent: bool = True,  # type: ignore[override]
                    producer: Any = None, link: Any = None, link_error: Any = None, group_index: int | None = None,
                    **options: Any) -> Any:
        """Send all members, with partial arguments for each; returns a `GroupResult`.

        Takes links only if canvases are strict, else raises `TypeError`.
        """
        if not self._disposable and self.app.conf.canvas_strict:
            copy, options = strict_copy(self, options)
            copy.id = options.pop('task_id', None) or self.id
            for name, linked in (('link', link), ('link_error', link_error)):
                if linked is not None:
                    copy.extend_list_option(name, linked)
            whole = joined(copy)
            result = whole.apply_async(args, kwargs, producer=producer, add_to_parent=add_to_parent, **options)
            return result if whole is copy else result.parent
        if link is not None:
            raise TypeError('Cannot add link to group: use a chord')
        if link_error is not None:
            raise TypeError('Cannot add link to group: do that on individual tasks')
        app = self.app
        if app.conf.task_always_eager:
            return self.apply(args, kwargs, **options)
        if options.get('chain') or self['options'].get('chain'):
            return self._lead_chain(args, kwargs, producer, options)
        if not self['kwargs']['tasks']:
            return self.clone().freeze()
        options, group_id, root_id = self._freeze_gid(options)
        limit = options.pop('max_concurrency', None)
        members, results = self['kwargs']['tasks'], self._frozen
        if results is None:
            members = self._flat_members(not self._disposable, limit)
            results = drive(freezing_members(members, True, group_id=group_id, root_id=root_id))
        args, kwargs = self.partials(args, kwargs)
        burst: AbstractContextManager[Any] = app.publisher.burst() if producer is None else nullcontext(producer)
        with recorded(app, group_id, lambda record: record.group(group_id, members), root_id), burst as producer:
            options = {**options, 'args': args, 'kwargs': kwargs, 'add_to_parent': False}
            _send_members(_hold_members(app, members, results, producer, options), producer, options)
        result = self._result(group_id, results)
        parent = app.current_worker_task
        if add_to_parent and parent:
            parent.add_trail(result)
        return result

    def _flat_members(self, copy: bool, limit: int | None = None) -> list[Any]:
        limit = limit or self['options'].get('max_concurrency')
        return flatten_members(self['kwargs']['tasks'], bind(Signature.from_dict, app=self.app), copy, limit)

    def _lead_chain(self, args: Any, kwargs: Any, producer: Any, options: dict[str, Any]) -> Any:
        """Send it with what follows run once, on the list of all values (Celery sends it with each member)."""
        *rest, step = options.pop('chain', None) or self['options']['chain']
        chord = make_chord(self.clone(), maybe_signature(step, app=self.app))
        chord['kwargs']['header']['options'].pop('chain', None)
        return chord.apply_async(args, kwargs, producer=producer, **{**options, 'chain': rest})

    def applying(self, args: Any, kwargs: Any, **options: Any) -> Freezing:
        """`apply`, to be driven."""
        if is_linked(self):
            return (yield joined(self.clone()).applying(args, kwargs, **options)).parent
        if not self['kwargs']['tasks']:
            return self.clone().freeze()
        options, group_id, _ = self._freeze_gid(options)
        options.pop('max_concurrency', None)  # one after the other
        args, kwargs = self.partials(args, kwargs)
        results = []
        for member in self._flat_members(copy=True):
            results.append((yield from apply_part(member, args, kwargs, **options)))
        return self._result(group_id, results)

    def _result(self, group_id: str, results: list[Any]) -> Any:
        """What the caller gets: of a group of one canvas that ends in a group, that group, as in Celery."""
        if len(results) == 1 and isinstance(results[0], GroupResult):
            return results[0]
        return self.app.GroupResult(group_id, results)

    def _freeze_gid(self, options: dict[str, Any]) -> tuple[dict[str, Any], str, str | None]:
        """Options for the members, with the group's id taken from its own ``task_id`` or made."""
        options = self._merge_options(self['options'], options)
        group_id = options['group_id'] = options.pop('task_id', None) or uuid()
        options.pop('group_index', None)  # its own place in a group, not that of its members
        return options, group_id, options.get('root_id')

    def freezing_all(self, group_id: str | None, chord: Any, root_id: str | None, parent_id: str | None = None,
                     group_index: int | None = None, start: int = 0) -> Freezing:
        """Fix the ids of the group and its members, to be driven; returns its id and their results."""
        options = self['options']
        own_id = options['task_id'] = options.get('task_id') or uuid()
        if group_id:
            options['group_id'] = group_id
        if chord:
            options['chord'] = chord
        if group_index is not None:
            options['group_index'] = group_index
        if self._frozen is not None:
            if chord:
                for member in self['kwargs']['tasks']:
                    bind_end(member, group_id, chord)
            return own_id, self._frozen
        # As Celery does, also where nothing is known: the group's options are its members' when it is sent.
        root_id = options.setdefault('root_id', root_id)
        parent_id = options.setdefault('parent_id', parent_id)
        members = self._flat_members(copy=not (self._take_fresh() or self._disposable))
        results = yield from freezing_members(members, self._disposable, start, group_id=group_id, chord=chord,
                                              root_id=root_id, parent_id=parent_id)
        self['kwargs']['tasks'] = members
        if self._disposable:
            self._frozen = results
        return own_id, results

    def freezing(self, chord: Any = None, group_id: str | None = None, root_id: str | None = None,
                 parent_id: str | None = None, group_index: int | None = None, _id: str | None = None) -> Freezing:
        """`freeze`, to be driven."""
        if chord is not None and self._disposable:
            # It ends a part of another chord. A Celery worker that sends it tells a chord in it, but not a chain, that
            # its body belongs to this group, and the other chord would never be complete: make it a chain of one.
            self.tasks = [self.TYPES['chain'](member, app=self._app)
                          if is_signature(member) and member.KIND == 'chord' else member for member in self.tasks]
        own_id, results = yield from self.freezing_all(group_id, chord, root_id, parent_id, group_index)
        return self.app.GroupResult(own_id, results)

    def link(self, callback: Any) -> Any:
        """Run `callback`, without a result, when the first member succeeds; if strict, with the list, when all have."""
        if is_strict(self):
            return super().link(callback)
        return self.change_members()[0].link(callback.clone().set(immutable=True))

    def link_error(self, errback: Any) -> tuple[Any, ...]:
        """Run `errback` for each member that fails, if canvases are strict once; returns what was linked."""
        errback = maybe_signature(errback)
        if is_strict(self):
            return (super().link_error(errback),)
        return tuple(member.link_error(errback.clone()) for member in self.change_members())

    def describe(self, show: Callable[[Any], str]) -> str:
        """Its text, of those of its parts."""
        members = self.tasks
        return name_module_once(members[0], f'group({show(members)})') if members else 'group(<empty>)'


class _Sending(threading.local):
    """What this thread sends: by which producer, and what it has still to send."""

    def __init__(self) -> None:
        self.producer: Any = None
        self.waiting: deque[tuple[Any, dict[str, Any]]] = deque()


_sending = _Sending()


def _hold_members(app: Any, members: list[Any], results: list[Any], producer: Any, options: dict[str, Any]
                  ) -> list[Any]:
    """The members to send now; the others, where a limit holds for them, wait in its window."""
    limited: dict[str, tuple[int, list[tuple[str, Any]]]] = {}
    for member, result in zip(members, results, strict=True):
        limit = member['options'].pop('window', None)
        if limit is not None:
            limited.setdefault(limit[0], (limit[1], []))[1].append((result.id, member))
    held: set[int] = set()
    for size, marked in limited.values():
        if len(marked) > size:
            window = uuid()
            for _, member in marked:
                add_header(member, WINDOW_HEADER, window)
            app.publisher.fill_window(producer, window, size, [task_id for task_id, _ in marked[:size]], [
                (task_id, bind(member.apply_async, **options)) for task_id, member in marked[size:]])
            held.update(id(member) for _, member in marked[size:])
    return [member for member in members if id(member) not in held] if held else members


def _send_members(members: list[Any], producer: Any, options: dict[str, Any]) -> None:
    """Send the members of a group, which are frozen and not used otherwise, in order.

    Inside another canvas that the same producer sends, the canvases among them, with the members behind those, wait
    until that one has returned: so nesting has no limit, and when the outermost canvas is sent, all are.
    """
    options = {**options, 'producer': producer}
    first = next((place for place, member in enumerate(members) if member.KIND != 'task'), len(members))
    of_tasks = options if options.get('chord') is None else {**options, 'chord': Undecoded(value=options['chord'])}
    for member in members[:first]:
        member.apply_async(**of_tasks)
    waiting = deque((member, options) for member in members[first:])
    if _sending.producer is producer:
        _sending.waiting.extendleft(reversed(waiting))
        return
    before = _sending.producer, _sending.waiting
    _sending.producer, _sending.waiting = producer, waiting
    try:
        while waiting:
            member, options = waiting.popleft()
            member.apply_async(**options)
    finally:
        _sending.producer, _sending.waiting = before
