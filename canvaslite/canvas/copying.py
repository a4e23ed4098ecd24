"""Copying whole canvases without recursion: they may be nested as deep as they like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

from canvaslite.canvas.members import is_signature

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
        if sig.KIND == 'chain' and sig._use_link is not None:
            copy._use_link = sig._use_link
        self.fill(sig, copy)
        if not sig.PARTS:
            copy['args'] = tuple(sig.get('args') or ())  # a list, where it came as JSON
        return copy

    def fill(self, sig: Any, copy: Any) -> Any:
        """Copy the entries of `sig` to `copy`; returns it."""
        self.memo[id(sig)] = copy
        copy.update(sig)
        options = sig.get('options')
        copy['options'] = copy_options(options, self.memo) if options else {}
        if sig.PARTS:
            self.pending.append((sig, copy))
        else:
            copy['kwargs'] = dict(sig['kwargs'] or ())
        return copy

    def finish(self, copy: Any) -> Any:
        """Copy the parts that are still to be copied; returns `copy`."""
        pending = self.pending
        while pending:
            sig, unfinished = pending.pop()
            unfinished['kwargs'] = parts = map_parts(sig['kwargs'], sig.PARTS, self.part)
            if is_signature(unfinished):
                unfinished._owned = len(parts[sig.PARTS[0]])
        return copy


def map_parts(kwargs: Mapping[str, Any], names: Iterable[str], function: Callable[[Any], Any]) -> dict[str, Any]:
    """A copy of a canvas's keyword arguments, with `function` applied to the signatures that are its parts."""
    parts = dict(kwargs)
    for name in names:
        value = parts.get(name)
        if isinstance(value, dict):
            parts[name] = function(value)
        elif value is not None:
            parts[name] = [function(part) for part in value]
    return parts


def copy_options(options: dict[str, Any], memo: dict[int, Any]) -> dict[str, Any]:
    """A copy of execution options, and of the signatures in them; `memo` is that of `deepcopy`."""
    return {name: value if value.__class__ in _PLAIN else deepcopy(value, memo) for name, value in options.items()}
