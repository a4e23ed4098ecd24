"""Whether a setting's value is of a type that the setting may have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from numbers import Integral, Real
from typing import Any

from canvaslite.app.defaults import Setting
from canvaslite.exceptions import ImproperlyConfigured

__all__ = ('check_value',)

_TRUTH = {'true': True, 'yes': True, 'on': True, '1': True, 'false': False, 'no': False, 'off': False, '0': False}


def _to_bool(value: Any) -> bool:
    if isinstance(value, str):
        return _TRUTH[value.strip().lower()]
    if isinstance(value, Integral):
        return bool(value)
    raise TypeError


def _to_int(value: Any) -> int:
    if isinstance(value, (str, Integral)):
        return int(value)
    if isinstance(value, Real) and float(value).is_integer():
        return int(float(value))
    raise TypeError


def _to_float(value: Any) -> Any:
    if isinstance(value, str):
        return float(value)
    if isinstance(value, Real):
        return value
    raise TypeError


def _to_str(value: Any) -> str:
    if isinstance(value, str):
        return value
    return os.fsdecode(os.fspath(value))


def _to_list(value: Any) -> Any:
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)):
        return value
    raise TypeError


def _to_class(value: Any) -> Any:
    if isinstance(value, str) or callable(value):
        return value
    raise TypeError


class _Instance:
    """Accepts what is an instance of a class."""

    __slots__ = ('kind',)

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def __call__(self, value: Any) -> Any:
        if isinstance(value, self.kind):
            return value
        raise TypeError


def _to_callable(value: Any) -> Any:
    if callable(value):
        return value
    raise TypeError


def _to_any(value: Any) -> Any:
    return value


#: For each kind: what returns the value as it is used, or raises where it cannot be of the kind.
_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    'bool': _to_bool, 'int': _to_int, 'float': _to_float, 'str': _to_str, 'list': _to_list, 'class': _to_class,
    'callable': _to_callable, 'any': _to_any, 'dict': _Instance(Mapping), 'timedelta': _Instance(timedelta),
    'bytes': _Instance(bytes),
}


def check_value(setting: Setting, value: Any) -> Any:
    """`value` as the setting keeps it: numbers and truth values may be given as text, paths as path objects.

    Raises:
        ImproperlyConfigured: it is of no type that the setting may have.
    """
    if value is None:
        return None
    for kind in setting.kind.split('|'):
        try:
            return _CONVERTERS[kind](value)
        except (TypeError, ValueError, KeyError, OverflowError):
            continue
    wanted = ' or '.join(setting.kind.split('|'))
    raise ImproperlyConfigured(
        f'setting {setting.name!r} must be {wanted}, not {type(value).__name__}: {_show(setting, value)}')


def _show(setting: Setting, value: Any) -> str:
    secret = any(word in setting.name for word in ('password', 'key', 'url', 'backend'))
    return '(not shown)' if secret else repr(value)[:100]
