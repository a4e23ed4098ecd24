"""Reading the configuration of an app from a module, an object, or a dict."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from canvaslite.app.defaults import FOREIGN_PREFIXES, SETTINGS
from canvaslite.app.names import OLD_NAMES, nearest_name, setting_name, warn_of_unknown
from canvaslite.utils.imports import import_from_cwd, symbol_by_name

__all__ = ('CONFIG_MODULE_VARIABLE', 'read_environment_module', 'read_source')

#: Environment variable that names the configuration module of apps that were given none.
CONFIG_MODULE_VARIABLE = 'CELERY_CONFIG_MODULE'

#: First words of settings: what begins with one, in a module full of other things, was meant to be a setting.
_FIRST_WORDS = tuple(sorted({name.partition('_')[0] + '_' for name in SETTINGS if '_' in name})) + FOREIGN_PREFIXES


def read_source(source: Any, namespace: str | None = None, silent: bool = False) -> dict[str, Any]:
    """What `source` says, by setting name where it is one.

    `source` is a mapping, an object with attributes, or the name of a module or of something in one (``module:name``,
    ``module.name``). With `namespace`, settings are those named ``NAMESPACE_...``; lower-case settings count as well.
    A name that was meant for a setting and is none is warned of.

    Raises:
        ImportError: there is no such module, unless `silent`.
    """
    if isinstance(source, str):
        try:
            source = _import_source(source)
        except (ImportError, AttributeError):
            if silent:
                return {}
            raise
    values = dict(source) if isinstance(source, Mapping) else _attributes(source)
    prefix = _prefix(namespace)
    found = _select(values, prefix)
    _warn_of_unknown_in(values, prefix, explicit=isinstance(source, Mapping))
    if values.get('TIME_ZONE') and found.get('timezone') is None:
        found['timezone'] = values['TIME_ZONE']  # Django's
    return found


def read_environment_module() -> dict[str, Any]:
    """What the module named by ``CELERY_CONFIG_MODULE`` says; nothing where the variable is not set."""
    name = os.environ.get(CONFIG_MODULE_VARIABLE)
    return read_source(name) if name else {}


def _import_source(name: str) -> Any:
    if ':' in name:
        return symbol_by_name(name, imp=import_from_cwd)
    try:
        return import_from_cwd(name)
    except ModuleNotFoundError as exc:
        # Only where it is this very name that is missing may it be module.attribute: an import that fails inside
        # the module is the error to show.
        if exc.name is None or not f'{name}.'.startswith(f'{exc.name}.'):
            raise
        if name.endswith('.py'):
            raise ImportError(f'there is no module {name!r}, did you mean {name[:-3]!r}?', name=name) from exc
        return _import_attribute(name, exc)


def _import_attribute(name: str, not_found: ModuleNotFoundError) -> Any:
    if '.' not in name:
        raise not_found
    try:
        return symbol_by_name(name, imp=import_from_cwd)
    except (ImportError, AttributeError):
        raise not_found from None


def _attributes(source: Any) -> dict[str, Any]:
    """Public data of a module or object; what cannot be read is no setting."""
    found = {}
    for name in dir(source):
        if name.startswith('_'):
            continue
        value = getattr(source, name, None)
        if isinstance(value, ModuleType) or (name not in SETTINGS and not _is_data(value)):
            continue
        found[name] = value
    return found


def _is_data(value: Any) -> bool:
    return not (inspect.isroutine(value) or inspect.isclass(value))


def _prefix(namespace: str | None) -> str:
    return f'{namespace.rstrip("_")}_' if namespace else ''


def _select(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The settings among `values`. Of several spellings of one the prefixed counts, else the lower-case one."""
    found: dict[str, Any] = {}
    for key in sorted(values, key=_Rank(prefix)):
        name = setting_name(key, prefix)
        if name is not None:
            found[name] = values[key]
        elif not prefix:
            found[key] = values[key]
        elif key.startswith(prefix):
            found[key[len(prefix):].lower()] = values[key]
    return found


class _Rank:
    """Sorts the strongest spelling last."""

    __slots__ = ('prefix',)

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __call__(self, key: str) -> int:
        if self.prefix and key.startswith(self.prefix) and key[len(self.prefix):].lower() in SETTINGS:
            return 2
        return 1 if key in SETTINGS else 0


def _warn_of_unknown_in(values: Mapping[str, Any], prefix: str, explicit: bool) -> None:
    for key in values:
        if setting_name(key, prefix) is None and _was_meant(key, prefix, explicit):
            warn_of_unknown(key[len(prefix):].lower() if prefix and key.startswith(prefix) else key)


def _was_meant(key: str, prefix: str, explicit: bool) -> bool:
    """Whether somebody who wrote `key` meant a setting by it."""
    if prefix:
        return key.startswith(prefix)
    if key.isupper():
        return not key.startswith('_') and _is_nearly_old(key)
    return explicit or key.startswith(_FIRST_WORDS) or nearest_name(key) is not None


def _is_nearly_old(key: str) -> bool:
    return key.startswith(('CELERY_', 'CELERYD_', 'CELERYBEAT_', 'BROKER_')) and key not in OLD_NAMES
