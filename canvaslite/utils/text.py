"""Text for people: shortened, indented, pluralized."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pprint import pformat
from typing import Any

__all__ = ('abbr', 'abbrtask', 'indent', 'join', 'pluralize', 'pretty', 'simple_format', 'str_to_list', 'truncate')

_FORMAT_KEY = re.compile(r'%([%\w])')


def str_to_list(value: Any) -> Any:
    """The parts of a text between commas; what is no text is returned as it is."""
    return value.split(',') if isinstance(value, str) else value


def join(lines: list[str], sep: str = '\n') -> str:
    """The lines that are not empty, joined."""
    return sep.join(line for line in lines if line)


def indent(text: str, indent: int = 0, sep: str = '\n') -> str:
    """`text` with `indent` spaces before each line."""
    return sep.join(' ' * indent + line for line in text.split(sep))


def abbr(text: str | None, max: int, ellipsis: str | bool = '...') -> str:
    """`text` cut to `max` characters, the ellipsis included; ``???`` for None."""
    if text is None:
        return '???'
    if len(text) <= max:
        return text
    return text[:max - len(ellipsis)] + ellipsis if isinstance(ellipsis, str) else text[:max]


def abbrtask(name: str | None, max: int) -> str:
    """A task name cut in its module part: ``proj.long[.]add``."""
    if name is None or len(name) <= max:
        return name or '???'
    module, _, function = name.rpartition('.')
    return f'{abbr(module, max - len(function) - 3, False)}[.]{function}'


def truncate(text: str, maxlen: int = 128, suffix: str = '...') -> str:
    """`text` cut at the last space before `maxlen`."""
    if maxlen and len(text) >= maxlen:
        return text[:maxlen].rsplit(' ', 1)[0] + suffix
    return text


def pluralize(n: float, text: str, suffix: str = 's') -> str:
    """`text`, in the plural unless `n` is one."""
    return text if n == 1 else text + suffix


def pretty(value: Any, width: int = 80, nl_width: int = 80, sep: str = '\n', **options: Any) -> str:
    """`value` formatted for a terminal; dicts and tuples begin on a line of their own."""
    if isinstance(value, dict):
        return f'{sep} {pformat(value, 4, nl_width)[1:]}'
    if isinstance(value, tuple):
        return f'{sep}    {pformat(value, width=nl_width, **options)}'
    return pformat(value, width=width, **options)


def simple_format(text: str, keys: Mapping[str, str | Callable[[], str]]) -> str:
    """`text` with each ``%x`` replaced by ``keys['x']``, called if it is a function; ``%%`` is a percent sign.

    Raises:
        ValueError: `text` has a ``%x`` that is not in `keys`.
    """
    return _FORMAT_KEY.sub(_Expansion(text, {'%': '%', **keys}), text) if text else text


class _Expansion:
    """Replaces one ``%x``."""

    __slots__ = ('keys', 'text')

    def __init__(self, text: str, keys: Mapping[str, str | Callable[[], str]]) -> None:
        self.text = text
        self.keys = keys

    def __call__(self, match: re.Match[str]) -> str:
        try:
            found = self.keys[match[1]]
        except KeyError:
            raise ValueError(f'unknown %{match[1]} in {self.text!r}; write %% for a percent sign') from None
        return found() if callable(found) else found
