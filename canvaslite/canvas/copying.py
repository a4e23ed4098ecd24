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
    Values of options, as links, are copied as `deepcopy` does, with one memo for all: what is one object stays one.
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
        copy['options'] = {name: value if value.__class__ in _PLAIN else self.value(value)
                           for name, value in options.items()} if options else {}
        if sig.PARTS:
            self.pending.append((sig, copy))
        else:
            copy['kwargs'] = dict(sig['kwargs'] or ())
        return copy

    def value(self, value: Any) -> Any:
        """The copy of a value of an option, complete after `finish`: of a signature, as in Celery, a plain dict."""
        known = self.memo.get(id(value))
        if known is not None:
            return known
        if is_signature(value) or value.__class__ in (dict, list):
            copy: Any = [] if value.__class__ is list else {}
            self.memo[id(value)] = copy
            self.pending.append((value, copy))
            return copy
        return value if value.__class__ in _PLAIN else deepcopy(value, self.memo)

    def finish(self, copy: Any) -> Any:
        """Copy what is still to be copied; returns `copy`."""
        pending = self.pending
        while pending:
            source, unfinished = pending.pop()
            if source.__class__ is list:
                unfinished.extend(map(self.value, source))
            elif source.__class__ is dict:
                unfinished.update((name, self.value(value)) for name, value in source.items())
            elif 'task' not in unfinished:  # a link
                self.fill(source, unfinished)
            else:
                unfinished['kwargs'] = parts = map_parts(source['kwargs'], source.PARTS, self.part)
                if is_signature(unfinished):
                    unfinished._owned = len(parts[source.PARTS[0]])
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


def copy_options(options: dict[str, Any]) -> dict[str, Any]:
    """A copy of execution options, and of the signatures in them."""
    copying = Copying()
    copy: dict[str, Any] = copying.finish(copying.value(options))
    return copy
