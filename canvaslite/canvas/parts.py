"""`Canvas`: what chains, groups and chords have in common, being made of other signatures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial as bind
from typing import Any, ClassVar

from canvaslite.canvas.copying import map_parts
from canvaslite.canvas.freezing import Freezing, drive
from canvaslite.canvas.signatures import Signature, maybe_signature
from canvaslite.canvas.stamping import collect_stamps
from canvaslite.canvas.steps import is_signature

__all__ = ('Canvas', 'name_module_once')


class Canvas(Signature):
    """A signature made of others, its parts."""

    #: How the methods of a `StampingVisitor` that are for its members call it.
    STAMPED_AS: ClassVar[str] = ''

    #: `freeze`, as a generator that `drive` runs; takes the same arguments by name.
    freezing: Callable[..., Freezing]

    #: Its steps, members or header.
    tasks: Any

    @classmethod
    def from_dict(cls, d: Any, app: Any = None) -> Any:
        """The canvas that `d` describes."""
        d = cls.revive_parts(d, app)
        canvas = cls(d['kwargs']['tasks'], app=app, **d['options'])
        canvas['kwargs'] = {**d['kwargs'], 'tasks': canvas['kwargs']['tasks']}
        canvas.update((key, d[key]) for key in ('args', 'immutable') if d.get(key))
        return canvas

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
        """Fix the ids of all its tasks; returns the result that it will have, None if it will have none.

        The id, the group and the chord are those of what it ends in.
        """
        return drive(self.freezing(_id=_id, group_id=group_id, chord=chord, root_id=root_id, parent_id=parent_id,
                                   group_index=group_index))

    _freeze = freeze

    def members(self) -> Any:
        """The signatures that are its steps, or run side by side, for a change in place."""
        return self.tasks

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp its tasks and what is linked to it, in place; returns itself."""
        self.stamp_members(visitor, append_stamps, headers)
        return self

    def stamp_members(self, visitor: Any, append_stamps: bool, headers: dict[str, Any]) -> dict[str, Any]:
        """Stamp what is linked to it and its members; returns the stamps that they were given."""
        said = (getattr(visitor, f'on_{self.STAMPED_AS}_start')(self, **headers) or {}) if visitor is not None else None
        headers = collect_stamps(headers, said, self['options'], append_stamps)
        self.stamp_links(visitor, append_stamps, **headers)
        members = self.members()
        for place, member in enumerate(members):
            if not is_signature(member):
                members[place] = member = maybe_signature(member, app=self._app)
            member.stamp(visitor, append_stamps, **headers)
        if visitor is not None:
            getattr(visitor, f'on_{self.STAMPED_AS}_end')(self, **headers)
        return headers


def name_module_once(first: Any, text: str) -> str:
    """`text` without the module of the task `first`, except where it stands first."""
    module = str(first['task']).rpartition('.')[0]
    if not module:
        return text
    name = re.compile(rf'(?<![\w.-]){re.escape(module)}\.')
    begin = name.search(text)
    return text[:begin.end()] + name.sub('', text[begin.end():]) if begin else text
