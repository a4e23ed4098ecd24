"""Arguments as text for logs and monitors: short, never raising, never deeper than asked.

The text is what Celery's workers and monitors show: strings in single quotes with nothing escaped but the
quote, ``...`` where something was left out, and every bracket closed. Plain arguments take a short way.
"""

from __future__ import annotations

import contextlib
import traceback
from decimal import Decimal
from numbers import Number
from typing import Any

#: Types whose own repr is safe, short and what we want to show.
_PLAIN = frozenset({int, float, bool, type(None), str})
_NAMES = frozenset({str})
#: A string longer than this is cut before it is looked at.
_LONG = 256


def represent_args(args: Any, maxlen: int, maxlevels: int = 3) -> str:
    """`saferepr` of positional arguments."""
    if not args and args.__class__ in (tuple, list):
        return '()' if args.__class__ is tuple else '[]'
    return _represent_plainly(args, args, maxlen) or saferepr(args, maxlen, maxlevels)


def represent_kwargs(kwargs: Any, maxlen: int, maxlevels: int = 3) -> str:
    """`saferepr` of keyword arguments."""
    if not kwargs and kwargs.__class__ is dict:
        return '{}'
    plainly = kwargs.__class__ is dict and _NAMES.issuperset(map(type, kwargs))
    return (plainly and _represent_plainly(kwargs, kwargs.values(), maxlen)) or saferepr(kwargs, maxlen, maxlevels)


def _represent_plainly(value: Any, members: Any, maxlen: int) -> str | None:
    """The repr of `value`, where nothing in it needs care and it is short enough."""
    if len(members) > 64 or not _PLAIN.issuperset(map(type, members)):
        return None
    for member in members:
        if member.__class__ is str and len(member) > _LONG:
            return None
    text = repr(value)
    return text if len(text) < maxlen and '\\' not in text and '"' not in text else None


def saferepr(value: Any, maxlen: int | None = None, maxlevels: int | None = 3) -> str:
    """Text for `value`, of about `maxlen` characters and `maxlevels` levels of brackets at most. Never raises."""
    writer = _Writer(maxlen, maxlevels or 0)
    with contextlib.suppress(_Full):  # the brackets are closed already
        writer.write_value(value, 0)
    return ''.join(writer.parts)


class _Full(Exception):
    """The text has become as long as it may."""


class _Writer:
    """Writes one value, counting down how many characters are left."""

    __slots__ = ('left', 'maxlevels', 'open', 'parts')

    def __init__(self, maxlen: int | None, maxlevels: int) -> None:
        self.parts: list[str] = []
        self.left = maxlen
        self.maxlevels = maxlevels
        #: Containers that are being written, to notice one inside itself.
        self.open: set[int] = set()

    def write_value(self, value: Any, level: int) -> None:
        if isinstance(value, (str, bytes)):
            self.write(_quote(value, self.left))
        elif isinstance(value, Number) and not isinstance(value, Decimal):
            self.write_text(str(value))
        elif isinstance(value, (dict, tuple, list, set, frozenset)):
            self.write_container(value, level)
        else:
            self.write_text(_repr(value))

    def write_container(self, value: Any, level: int) -> None:
        if not value and isinstance(value, (set, frozenset)):
            return self.write_text(f'{type(value).__name__}()')
        start, end = _brackets(value)
        if self.maxlevels and level >= self.maxlevels:
            return self.write(f'{start}...{end}')
        if id(value) in self.open:
            return self.write(f'<Recursion on {type(value).__name__} with id={id(value)}>')
        self.write(start)
        self.open.add(id(value))
        try:
            for position, member in enumerate(value):
                if position:
                    self.write(', ')
                if isinstance(value, dict):
                    self.check_space()
                    self.append(saferepr(member, self.left, self.maxlevels))
                    self.write(': ')
                    member = value[member]
                self.write_value(member, level + 1)
        finally:  # also when the text is full: what was opened is closed
            self.open.discard(id(value))
            self.append(end)

    def write_text(self, text: str) -> None:
        self.write(truncate(text, self.left))

    def write(self, text: str) -> None:
        self.check_space()
        self.append(text)

    def check_space(self) -> None:
        if self.left is not None and self.left <= 0:
            self.parts.append(', ...')
            raise _Full

    def append(self, text: str) -> None:
        self.parts.append(text)
        if self.left is not None:
            self.left -= len(text)


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, dict):
        return '{', '}'
    if isinstance(value, tuple):
        return '(', ',)' if len(value) == 1 else ')'
    if isinstance(value, list):
        return '[', ']'
    return ('{', '}') if type(value) is set else (f'{type(value).__name__}({{', '})')


def _quote(value: str | bytes, left: int | None) -> str:
    if isinstance(value, str):
        escaped = truncate(value, left).replace("'", "\\'")
        return f"'{escaped}'"
    cut = bool(left) and len(value) > (left or 0)
    shown = value[:left] if cut else value
    try:
        text = shown.decode()
    except UnicodeDecodeError:
        text = shown.hex()
    return f"b'{text}{'...' if cut else ''}'"


def truncate(text: str, maxlen: int | None = 128) -> str:
    """`text` cut at the last space before `maxlen`; whole where that is None or 0."""
    if maxlen and maxlen > 0 and len(text) >= maxlen:
        return text[:maxlen].rsplit(' ', 1)[0] + '...'
    return text


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as exc:
        return f'<Unrepresentable {type(value)!r}{id(value):#x}: {exc!r} {traceback.format_exc(limit=3)!r}>'
