"""Copying and reviving whole canvases without recursion: they may be nested as deep as they like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from canvaslite.canvas.steps import is_signature

__all__ = ('Copying', 'copy_options', 'revive_parts')

#: Values of options that a copy may share.
_PLAIN = (str, int, float, bool, type(None))


class Copying:
    """One copy of a canvas being made: what is to be copied of it still.

    Parts are copied one by one, also where the same object stands in two places: each copy gets an id of its own.
    Links are copied by `deepcopy`, with one memo for all: what is one object stays one.
    """

    __slots__ = ('memo', 'pending')

    def __init__(self, memo: dict[int, Any] | None = None) -> None:
        self.memo: dict[int, Any] = {} if memo is None else memo
        self.pending: list[tuple[Any, Any]] = []

    def whole(self, sig: Any) -> Any:
        """A copy of `sig` and all its parts."""
        copy = self.part(sig)
        self.finish()
        return copy

    def part(self, sig: Any) -> Any:
        """The copy of `sig`, complete after `finish`; what is no signature is returned as it is."""
        if not is_signature(sig):
            return sig
        cls: Any = sig.__class__
        copy = dict.__new__(cls)
        if sig._app is not None:
            copy._app = sig._app
        if sig._type is not None:
            copy._type = sig._type
        self.fill(sig, copy)
        return copy

    def fill(self, sig: Any, copy: Any) -> None:
        """Copy the entries of `sig` to `copy`."""
        self.memo[id(sig)] = copy
        copy.update(sig)
        options = sig.get('options')
        copy['options'] = copy_options(options, self.memo) if options else {}
        if sig.KIND == 'task':
            copy['kwargs'] = dict(sig['kwargs'] or ())
        else:
            self.pending.append((sig, copy))

    def finish(self) -> None:
        """Copy the parts that are still to be copied."""
        pending = self.pending
        while pending:
            sig, copy = pending.pop()
            copy['kwargs'] = sig.copy_parts(self.part)


def copy_options(options: dict[str, Any], memo: dict[int, Any]) -> dict[str, Any]:
    """A copy of execution options, and of the signatures in them; `memo` is that of `deepcopy`."""
    return {name: value if value.__class__ in _PLAIN else deepcopy(value, memo) for name, value in options.items()}


def revive_parts(d: Mapping[str, Any], revive: Callable[[Any], Any], class_of: Callable[[Any], Any]) -> dict[str, Any]:
    """A copy of `d`, which describes a canvas, whose parts are signatures, made of their dicts by `revive`.

    `class_of` finds the class of the signature that a dict describes.
    """
    outer = dict(d)
    # Each canvas comes before its parts; so in the other direction all parts of one are there before itself.
    canvases = [(outer, class_of(d).PARTS)]
    for canvas, names in canvases:
        parts = canvas['kwargs'] = dict(canvas['kwargs'])
        for name in names:
            parts[name] = _open(parts.get(name), canvases, class_of)
    for canvas, names in reversed(canvases):
        parts = canvas['kwargs']
        for name in names:
            value = parts[name]
            if isinstance(value, list):
                parts[name] = [revive(part) for part in value]
            elif value is not None:
                parts[name] = revive(value)
    return outer


def _open(value: Any, canvases: list[tuple[dict[str, Any], tuple[str, ...]]], class_of: Callable[[Any], Any]) -> Any:
    """`value`, one part or several, with copies of the canvases in it, which are added to `canvases`."""
    if is_signature(value) or value is None:
        return value
    if not isinstance(value, Mapping):
        return [_open(part, canvases, class_of) for part in value]
    names = class_of(value).PARTS
    if not names:
        return value
    copy = dict(value)
    canvases.append((copy, names))
    return copy
