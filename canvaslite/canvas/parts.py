"""`Canvas`: what chains, groups and chords have in common, being made of other signatures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial as bind
from typing import Any, ClassVar

from canvaslite.canvas.copying import map_parts
from canvaslite.canvas.freezing import Freezing, drive
from canvaslite.canvas.members import LazyMembers, is_signature
from canvaslite.canvas.signatures import Signature, maybe_signature
from canvaslite.canvas.stamping import collect_stamps


class Canvas(Signature):
    """A signature made of others, its parts."""

    #: How the methods of a `StampingVisitor` that are for its members call it.
    STAMPED_AS: ClassVar[str] = ''

    #: `freeze`, as a generator that `drive` runs; takes the same arguments by name.
    freezing: Callable[..., Freezing]
    #: `apply`, as a generator that `drive` runs.
    applying: Callable[..., Freezing]
    #: ``describe(show)``: `repr`, given the `repr` of the parts.
    describe: Callable[[Callable[[Any], str]], str]

    #: So many of the first members are held by canvases only, by this one alone or (`_shared`) by others too.
    _owned: int = 0
    _shared: bool = False

    @classmethod
    def from_dict(cls, d: Any, app: Any = None) -> Any:
        """The canvas that `d` describes."""
        d = cls.revive_parts(d, app)
        canvas = cls(d['kwargs']['tasks'], app=app, **d['options'])
        canvas['kwargs'] = {**d['kwargs'], 'tasks': canvas['kwargs']['tasks']}
        canvas.update((key, d[key]) for key in ('args', 'immutable') if d.get(key))
        return canvas

    @property
    def tasks(self) -> Any:
        """Its members: a chain's steps, a chord's header (a group once it was frozen or stamped)."""
        members = self['kwargs'][self.PARTS[0]]
        if self._shared:
            members = self['kwargs'][self.PARTS[0]] = copy_members(members, self._owned)
        self._owned, self._shared = 0, False
        return members

    @tasks.setter
    def tasks(self, members: Any) -> None:
        self['kwargs'][self.PARTS[0]] = members
        self._owned, self._shared = 0, False

    def change_members(self) -> Any:
        """Its members, to be changed in place: copies of those that others may hold, as the caller's templates."""
        members = self['kwargs'][self.PARTS[0]]
        if is_signature(members):
            return members.change_members()
        if not isinstance(members, LazyMembers):
            owned = 0 if self._shared else self._owned
            self.tasks = members = [*members[:owned], *map(bind(maybe_signature, clone=True), members[owned:])]
            self._owned = len(members)
        return members

    @classmethod
    def revive_parts(cls, d: Mapping[str, Any], app: Any) -> dict[str, Any]:
        """A copy of `d`, which describes a canvas, whose parts are signatures."""
        canvases = [dict(d)]

        def open_canvas(part: Any) -> Any:
            if is_signature(part) or not isinstance(part, Mapping) or not cls._type_of(part).PARTS:
                return part
            canvases.append(dict(part))
            return canvases[-1]

        # Each canvas comes before its parts; so in the other direction all parts of one are there before itself.
        for canvas in canvases:
            canvas['kwargs'] = map_parts(canvas['kwargs'], cls._type_of(canvas).PARTS, open_canvas)
        for canvas in reversed(canvases):
            canvas['kwargs'] = map_parts(canvas['kwargs'], cls._type_of(canvas).PARTS, bind(maybe_signature, app=app))
        return canvases[0]

    def freeze(self, _id: str | None = None, group_id: str | None = None, chord: Any = None,
               root_id: str | None = None, parent_id: str | None = None, group_index: int | None = None) -> Any:
        """Fix the ids of all its tasks, the given one, group and chord being its end's; returns its result or None."""
        return drive(self.freezing(_id=_id, group_id=group_id, chord=chord, root_id=root_id, parent_id=parent_id,
                                   group_index=group_index))

    def _take_fresh(self) -> bool:
        fresh, self._fresh = self._fresh, False  # whoever looks at it once it is frozen holds its parts
        return fresh

    def __repr__(self) -> str:
        texts: dict[int, str] = {}

        def show(part: Any) -> str:
            if isinstance(part, list):
                return f'[{", ".join(map(show, part))}]'
            return texts.get(id(part)) or repr(part)

        # Inner canvases first: they may be nested deeper than the stack.
        for canvas in reversed(_canvases_in(self)):
            texts[id(canvas)] = canvas.describe(show)
        return texts[id(self)]

    def _apply(self, args: Any, kwargs: Any, **options: Any) -> Any:
        return drive(self.applying(args, kwargs, **options))

    def partials(self, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """The arguments for each of its members: those given, and its own."""
        own = {name: value for name, value in self['kwargs'].items() if name not in (*self.PARTS, 'kwargs')}
        own.update(self['kwargs'].get('kwargs') or {})
        if self['immutable']:
            return self['args'] or (), own
        return (*(args or ()), *(self['args'] or ())), {**own, **(kwargs or {})}

    def accept_partial(self, args: Any = None, kwargs: Any = None) -> None:
        """Add partial arguments for each member, in place, unless it is immutable."""
        if not self['immutable']:
            self['args'] = (*(args or ()), *(self['args'] or ()))
            if kwargs:
                self['kwargs']['kwargs'] = {**(self['kwargs'].get('kwargs') or {}), **kwargs}

    def set_immutable(self, immutable: bool) -> None:
        """Say of each member whether it takes no arguments but its own."""
        for member in self.change_members():
            member.accept_partial(self['args'])  # what it gives them is theirs from now on
            member.set_immutable(immutable)
        self['args'] = ()

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp its tasks and what is linked to it, in place; returns itself."""
        said = (getattr(visitor, f'on_{self.STAMPED_AS}_start')(self, **headers) or {}) if visitor is not None else None
        headers = collect_stamps(headers, said, self['options'], append_stamps)
        self.stamp_links(visitor, append_stamps, **headers)
        members = self.change_members()
        for place, member in enumerate(members):
            if not is_signature(member):
                members[place] = member = maybe_signature(member, app=self._app)
            member.stamp(visitor, append_stamps, **headers)
        if visitor is not None:
            getattr(visitor, f'on_{self.STAMPED_AS}_end')(self, **headers)
        body = self['kwargs'].get('body')  # a chord's
        if body is not None:
            if visitor is not None:
                said = visitor.on_chord_body(self, **headers) or {}
                headers = collect_stamps(headers, said, self['options'], append_stamps)
            self['kwargs']['body'] = body.clone().stamp(visitor, append_stamps, **headers)
        return self


def apply_part(part: Any, args: Any, kwargs: Any, **options: Any) -> Freezing:
    """`apply` of a part of a canvas, to be driven."""
    if part.PARTS:
        return (yield part.applying(args, kwargs, **options))
    return part.apply(args=args, kwargs=kwargs, **options)


class Shown(str):
    """A text that stands for what it shows where that would be shown."""

    __repr__ = str.__str__


def _canvases_in(canvas: Any) -> list[Any]:
    """The canvas, and all canvases that are parts of it, each before its own."""
    canvases = [canvas]
    for canvas in canvases:
        for name in canvas.PARTS:
            part = canvas['kwargs'].get(name)
            parts = part if isinstance(part, list) else [part]
            canvases.extend(part for part in parts if is_signature(part) and part.PARTS)
    return canvases


def copy_members(members: Any, count: int | None = None) -> Any:
    """Members, of which the first `count` (or all) are copied; or a copy of the group that they are in."""
    if is_signature(members):
        return members.clone()
    return [*(member.clone() for member in members[:count]), *(members[count:] if count is not None else ())]


def name_module_once(first: Any, text: str) -> str:
    """`text` without the module of the task `first`, except where it stands first."""
    module = str(first['task']).rpartition('.')[0]
    if not module:
        return text
    name = re.compile(rf'(?<![\w.-]){re.escape(module)}\.')
    begin = name.search(text)
    return text[:begin.end()] + name.sub('', text[begin.end():]) if begin else text
