"""`group`: tasks that run side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial as bind
from typing import Any, ClassVar

from kombu.utils.functional import fxrange

from canvaslite.canvas.freezing import Freezing, bind_end, drive, flatten_members, freezing_members
from canvaslite.canvas.members import as_members
from canvaslite.canvas.representation import repr_group
from canvaslite.canvas.sending import send_members
from canvaslite.canvas.signatures import Signature, maybe_signature, own_app
from canvaslite.canvas.stamping import collect_stamps
from canvaslite.canvas.steps import is_signature, make_chord
from canvaslite.current import current_app
from canvaslite.utils.uuid import uuid
from canvaslite.wire import GROUP

__all__ = ('group',)


@Signature.register_type()
class group(Signature):
    """Tasks that run side by side; its value is the list of theirs, in order.

    `tasks` are signatures, or one iterable of them; a generator is not touched before its members are needed. A group
    among them stands for its members. `options` are execution options of every member.
    """

    KIND: ClassVar[str] = 'group'
    PARTS: ClassVar[tuple[str, ...]] = ('tasks',)

    #: Results of the members, once a disposable group is frozen.
    _frozen: list[Any] | None = None

    def __init__(self, *tasks: Any, **options: Any) -> None:
        members: Any = tasks
        if len(tasks) == 1:
            members = tasks[0]
            if is_signature(members):
                members = members.tasks if members.KIND == 'group' else [members.clone()]
            elif isinstance(members, dict):
                members = [maybe_signature(members, app=options.get('app'))]
        if not (len(tasks) == 1 and is_signature(tasks[0])):
            members = as_members(members)
        super().__init__(GROUP, (), {'tasks': members}, **options)
        self['subtask_type'] = 'group'

    @classmethod
    def from_dict(cls, d: Any, app: Any = None) -> Any:
        """The group that `d` describes."""
        d = cls.revive_parts(d, app)
        group = cls(d['kwargs']['tasks'], app=app, **d['options'])
        group['kwargs'] = {**d['kwargs'], 'tasks': group['kwargs']['tasks']}
        group.update((key, d[key]) for key in ('args', 'immutable') if d.get(key))
        return group

    @property
    def tasks(self) -> Any:
        """Its members."""
        return self['kwargs']['tasks']

    @tasks.setter
    def tasks(self, members: Any) -> None:
        self['kwargs']['tasks'] = members

    def copy_parts(self, copy: Callable[[Any], Any]) -> dict[str, Any]:
        """The keyword arguments, with copies of the members."""
        return {**self['kwargs'], 'tasks': [copy(member) for member in self['kwargs']['tasks']]}

    def __call__(self, *partial_args: Any, **options: Any) -> Any:
        """Send it, with partial arguments for each member."""
        return self.apply_async(partial_args, **options)

    def __len__(self) -> int:
        return len(self['kwargs']['tasks'])

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Any:
        """Let the members wait, each `step` seconds longer than the one before, until `stop`; returns itself."""
        countdown = fxrange(start, stop, step, repeatlast=True)
        for member in self.tasks:
            member.set(countdown=next(countdown))
        return self

    # --- running ------------------------------------------------------------------------------------------------

    def apply_async(self, args: Any = None, kwargs: Any = None, add_to_parent: bool = True,  # type: ignore[override]
                    producer: Any = None, link: Any = None, link_error: Any = None, group_index: int | None = None,
                    **options: Any) -> Any:
        """Send all members, with partial arguments for each; returns a `GroupResult`.

        Raises:
            TypeError: `link` or `link_error` is given.
        """
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
        members, results = self._take_members(group_id, root_id)
        args, kwargs = self._own_partials(args, kwargs)
        burst: AbstractContextManager[Any] = app.publisher.burst() if producer is None else nullcontext(producer)
        with burst as producer:
            send_members(members, producer, {**options, 'args': args, 'kwargs': kwargs})
        result = app.GroupResult(group_id, results)
        parent = app.current_worker_task
        if add_to_parent and parent:
            parent.add_trail(result)
        return result

    def _take_members(self, group_id: str, root_id: str | None) -> tuple[list[Any], list[Any]]:
        """Frozen members to be sent, and their results."""
        if self._disposable and self._frozen is not None:
            return self['kwargs']['tasks'], self._frozen
        members = flatten_members(self['kwargs']['tasks'], bind(Signature.from_dict, app=self.app),
                                  copy=not self._disposable)
        return members, drive(freezing_members(members, True, group_id=group_id, root_id=root_id))

    def _lead_chain(self, args: Any, kwargs: Any, producer: Any, options: dict[str, Any]) -> Any:
        """Send it with what follows run once, on the list of all values (Celery sends it with each member)."""
        *rest, step = options.pop('chain', None) or self['options']['chain']
        chord = make_chord(self.clone(), maybe_signature(step, app=self.app))
        chord['kwargs']['header']['options'].pop('chain', None)
        return chord.apply_async(args, kwargs, producer=producer, **{**options, 'chain': rest})

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run all members in this process; returns a `GroupResult`."""
        if not self['kwargs']['tasks']:
            return self.clone().freeze()
        options, group_id, _ = self._freeze_gid(options)
        args, kwargs = self._own_partials(args, kwargs)
        members = flatten_members(self['kwargs']['tasks'], bind(Signature.from_dict, app=self.app), copy=True)
        return self.app.GroupResult(group_id, [member.apply(args=args, kwargs=kwargs, **options)
                                               for member in members])

    def _own_partials(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        own = self['kwargs']
        if len(own) > 1:
            kwargs = {**{name: value for name, value in own.items() if name != 'tasks'}, **(kwargs or {})}
        return (*(args or ()), *(self['args'] or ())), kwargs or {}

    def accept_partial(self, args: Any = None, kwargs: Any = None) -> None:
        """Add partial arguments for each member, in place."""
        self['args'] = (*(args or ()), *(self['args'] or ()))
        self['kwargs'] = {**(kwargs or {}), **self['kwargs']}

    def _prepared(self, tasks: Any, partial_args: Any, group_id: str | None, root_id: str | None, app: Any,
                  *, freeze: bool = True) -> Iterator[tuple[Any, Any, str | None]]:
        """Copies of the members, flat, with their results (None unless `freeze`) and the group's id."""
        members = flatten_members(tasks, bind(Signature.from_dict, app=app), copy=True)
        for index, member in enumerate(members):
            if partial_args:
                member.accept_partial(partial_args)
            yield (member, member.freeze(group_id=group_id, root_id=root_id, group_index=index) if freeze else None,
                   group_id)

    # --- freezing -----------------------------------------------------------------------------------------------

    def _freeze_gid(self, options: dict[str, Any]) -> tuple[dict[str, Any], str, str | None]:
        """Options for the members, with the group's id taken from its own ``task_id`` or made."""
        options = self._merge_options(self['options'], options)
        group_id = options['group_id'] = options.pop('task_id', None) or uuid()
        options.pop('group_index', None)  # its own place in a group, not that of its members
        return options, group_id, options.get('root_id')

    def _freeze_group_tasks(self, _id: str | None = None, group_id: str | None = None, chord: Any = None,
                            root_id: str | None = None, parent_id: str | None = None,
                            group_index: int | None = None) -> tuple[str, list[Any]]:
        """Fix the ids of the group and its members; returns its id and their results."""
        frozen: tuple[str, list[Any]] = drive(self.freezing_all(group_id, chord, root_id, parent_id, group_index))
        return frozen

    def freezing_all(self, group_id: str | None, chord: Any, root_id: str | None, parent_id: str | None,
                     group_index: int | None = None) -> Freezing:
        """Fix the ids of the group and its members, to be driven; returns its id and their results."""
        options = self['options']
        own_id = options['task_id'] = options.get('task_id') or uuid()
        if group_id:
            options['group_id'] = group_id
        if chord:
            options['chord'] = chord
        if group_index is not None:
            options['group_index'] = group_index
        if self._disposable and self._frozen is not None:
            if chord:
                for member in self['kwargs']['tasks']:
                    bind_end(member, group_id, chord)
            return own_id, self._frozen
        # As Celery does, also where nothing is known: the group's options are its members' when it is sent.
        root_id = options.setdefault('root_id', root_id)
        parent_id = options.setdefault('parent_id', parent_id)
        members = flatten_members(self['kwargs']['tasks'], bind(Signature.from_dict, app=self.app),
                                  copy=not self._disposable)
        results = yield from freezing_members(members, self._disposable, group_id=group_id, chord=chord,
                                              root_id=root_id, parent_id=parent_id)
        self['kwargs']['tasks'] = members
        if self._disposable:
            self._frozen = results
        return own_id, results

    def freeze(self, _id: str | None = None, group_id: str | None = None, chord: Any = None,
               root_id: str | None = None, parent_id: str | None = None, group_index: int | None = None) -> Any:
        """Fix the ids of all members; returns a `GroupResult`."""
        return drive(self.freezing(_id, group_id, chord, root_id, parent_id, group_index))

    def freezing(self, _id: str | None = None, group_id: str | None = None, chord: Any = None,
                 root_id: str | None = None, parent_id: str | None = None, group_index: int | None = None) -> Freezing:
        """`freeze`, to be driven."""
        if chord is not None and self._disposable:
            self._wrap_chords()
        own_id, results = yield from self.freezing_all(group_id, chord, root_id, parent_id, group_index)
        return self.app.GroupResult(own_id, results)

    _freeze = freeze

    def _wrap_chords(self) -> None:
        """Make each chord among the members a chain of one.

        The group ends a part of another chord. A Celery worker that sends such a group tells a chord in it, but not
        a chain, that its body belongs to this group; and the other chord would never be complete.
        """
        chain_of = self.TYPES['chain']
        self['kwargs']['tasks'] = [chain_of(member, app=self._app)
                                   if is_signature(member) and member.KIND == 'chord' else member
                                   for member in self['kwargs']['tasks']]

    # --- links, stamps ------------------------------------------------------------------------------------------

    def set_immutable(self, immutable: bool) -> None:
        """Say of each member whether it takes no arguments but its own."""
        for member in self.tasks:
            member.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Run `callback`, without a result, when the first member succeeds; use a chord to wait for all."""
        return self.tasks[0].link(callback.clone().set(immutable=True))

    def link_error(self, errback: Any) -> tuple[Any, ...]:
        """Run `errback` for each member that fails; returns what was linked to them."""
        errback = maybe_signature(errback)
        return tuple(member.link_error(errback.clone()) for member in self.tasks)

    def link_error_of_chain(self, errback: Any) -> None:
        """Run `errback`, linked to a chain with this step, for each member that fails."""
        self.link_error(errback)

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp its members and what is linked to it, in place; returns itself."""
        said = (visitor.on_group_start(self, **headers) or {}) if visitor is not None else None
        headers = collect_stamps(headers, said, self['options'], append_stamps)
        self.stamp_links(visitor, append_stamps, **headers)
        members = self.tasks
        for place, member in enumerate(members):
            members[place] = member = maybe_signature(member, app=self._app)
            member.stamp(visitor, append_stamps, **headers)
        if visitor is not None:
            visitor.on_group_end(self, **headers)
        return self

    # --- the rest -----------------------------------------------------------------------------------------------

    @property
    def app(self) -> Any:
        """Its own app, else that of its first member, else the current one."""
        return self.own_app() or current_app

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    def own_app(self) -> Any:
        """The app that it or its first member is bound to, or None."""
        members = self['kwargs']['tasks']
        return self._app or (own_app(members[0]) if members else None)

    def __repr__(self) -> str:
        return repr_group(self)
