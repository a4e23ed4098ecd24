"""Reading the configuration of an app from a module, an object, or a dict; and what a setting is called there."""

from __future__ import annotations

import difflib
import inspect
import os
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from canvaslite.app.defaults import FOREIGN_PREFIXES, SETTINGS
from canvaslite.exceptions import ImproperlyConfigured, UnknownSettingWarning
from canvaslite.utils.functional import user_stacklevel
from canvaslite.utils.imports import import_from_cwd, symbol_by_name

#: First words of settings: what begins with one, in a module full of other things, was meant to be a setting.
_FIRST_WORDS = (*{name.partition('_')[0] + '_' for name in SETTINGS if '_' in name}, *FOREIGN_PREFIXES)


def read_source(source: Any, namespace: str | None = None, silent: bool = False) -> dict[str, Any]:
    """What `source` says, by setting name where it is one. Raises `ImportError` for a missing module, unless `silent`.

    `source` is a mapping, an object with attributes, or the name of a module or of something in one. With `namespace`,
    settings are those named ``NAMESPACE_...``; lower-case ones count as well. Names meant for a setting are warned of.
    """
    if isinstance(source, str):
        try:
            source = _find_source(source)
        except (ImportError, AttributeError) as exc:
            if silent:
                return {}
            if isinstance(exc, AttributeError):
                raise
            raise ConfigurationNotFound(f'cannot import the configuration {source!r}, named in config_from_object, '
                                        f'--config or CELERY_CONFIG_MODULE: {exc}') from exc
    explicit = isinstance(source, Mapping)
    values = dict(source) if explicit else _attributes(source)
    found = _select(values, prefix_of(namespace), explicit)
    if values.get('TIME_ZONE') and found.get('timezone') is None:
        found['timezone'] = values['TIME_ZONE']  # Django's
    return found


def read_environment_module() -> dict[str, Any]:
    """What the module named by ``CELERY_CONFIG_MODULE`` says; nothing where the variable is not set."""
    name = os.environ.get('CELERY_CONFIG_MODULE')
    return read_source(name) if name else {}


def prefix_of(namespace: str | None) -> str:
    """What the names of the settings in `namespace` begin with."""
    return f'{namespace.rstrip("_")}_' if namespace else ''


class ConfigurationNotFound(ImproperlyConfigured, ModuleNotFoundError):
    """The module with the settings cannot be imported. A ``ModuleNotFoundError`` too, which is what Celery raises."""


def _find_source(name: str) -> Any:
    try:
        return symbol_by_name(name, imp=import_from_cwd) if ':' in name else import_from_cwd(name)
    except ModuleNotFoundError as exc:
        # Only where it is this very name that is missing may it be module.attribute: an import that fails inside
        # the module is the error to show.
        if ':' in name or exc.name is None or not f'{name}.'.startswith(f'{exc.name}.'):
            raise
        if name.endswith('.py'):
            raise ImportError(f'there is no module {name!r}, did you mean {name[:-3]!r}?', name=name) from exc
        try:
            return symbol_by_name(name, imp=import_from_cwd)
        except (ImportError, AttributeError):
            raise exc from None


def _attributes(source: Any) -> dict[str, Any]:
    """Public data of a module or object; what cannot be read is no setting."""
    found = {name: getattr(source, name, None) for name in dir(source) if not name.startswith('_')}
    return {name: value for name, value in found.items() if not isinstance(value, ModuleType)
            and (name in SETTINGS or not (inspect.isroutine(value) or inspect.isclass(value)))}


def _select(values: Mapping[str, Any], prefix: str, explicit: bool) -> dict[str, Any]:
    """The settings among `values`. Of several spellings of one the prefixed counts, else the lower-case one."""
    found: dict[str, Any] = {}
    bare = {key: key[len(prefix):].lower() if prefix and key.startswith(prefix) else '' for key in values}
    for key in sorted(values, key=lambda key: (bare[key] in SETTINGS, key in SETTINGS)):
        name = setting_name(key, prefix)
        if name is None:
            name = bare[key] if prefix else key
            if _was_meant(key, prefix, explicit):
                warn_of_unknown(name)
        if name:
            found[name] = values[key]
    return found


def _was_meant(key: str, prefix: str, explicit: bool) -> bool:
    """Whether somebody who wrote `key`, which is no setting, meant one by it."""
    if prefix:
        return key.startswith(prefix)
    if key.isupper():
        return key.startswith(('CELERY_', 'CELERYD_', 'CELERYBEAT_', 'BROKER_'))
    return explicit or key.startswith(_FIRST_WORDS) or nearest_name(key) is not None


# -- names ---------------------------------------------------------------------------------------------------------

#: How the upper-case names of Celery 3 begin, and what may stand there now.
_OLD_BEGINNINGS = (
    ('CELERYBEAT_', ('beat_',)), ('CELERYD_', ('worker_', '', 'task_')), ('CELERY_', ('task_', '', 'worker_')),
    ('BROKER_', ('broker_',)), ('CONTROL_', ('control_',)), ('DATABASE_', ('database_',)),
)
#: Old names that follow no rule.
_OLD_EXCEPTIONS = {
    'CELERY_EAGER_PROPAGATES_EXCEPTIONS': 'task_eager_propagates', 'CELERY_MAX_CACHED_RESULTS': 'result_cache_max',
    'CELERY_MESSAGE_COMPRESSION': 'task_compression', 'CELERY_RESULT_DBURI': 'database_url',
    'CELERY_RESULT_DB_SHORT_LIVED_SESSIONS': 'database_short_lived_sessions',
    'CELERY_RESULT_DB_TABLENAMES': 'database_table_names', 'CELERY_RESULT_DB_TABLE_NAMES': 'database_table_names',
    'CELERY_RESULT_ENGINE_OPTIONS': 'database_engine_options', 'CELERY_SEND_EVENTS': 'worker_send_task_events',
    'CELERY_SEND_TASK_SENT_EVENT': 'task_send_sent_event', 'CELERY_TASK_RESULT_EXPIRES': 'result_expires',
    'ENABLE_UTC': 'enable_utc', 'RESULT_ACCEPT_CONTENT': 'result_accept_content',
}

_warned: set[str] = set()


def setting_name(key: str, prefix: str = '') -> str | None:
    """The setting that `key` means, or None: by its name, its old name, or its name behind `prefix`."""
    if key in SETTINGS:
        return key
    if prefix and key.startswith(prefix) and key[len(prefix):].lower() in SETTINGS:
        return key[len(prefix):].lower()
    return _of_old_name(key) if key.isupper() else None


def _of_old_name(key: str) -> str | None:
    if key in _OLD_EXCEPTIONS:
        return _OLD_EXCEPTIONS[key]
    for old, beginnings in _OLD_BEGINNINGS:
        if key.startswith(old):
            names = (beginning + key[len(old):].lower() for beginning in beginnings)
            return next((name for name in names if name in SETTINGS), None)
    return None


def nearest_name(key: str) -> str | None:
    """The setting whose name is most like `key`, if any is much like it."""
    found = difflib.get_close_matches(key.lower(), SETTINGS, n=1, cutoff=0.75)
    return found[0] if found else None


def warn_of_unknown(key: str) -> None:
    """Warn, once a process, that there is no setting `key`; it is kept for whoever reads it."""
    if key in _warned:
        return
    _warned.add(key)
    if key.lower().startswith(FOREIGN_PREFIXES):
        text = f'setting {key!r} has no effect: it belongs to a result backend that canvaslite does not have'
    else:
        near = nearest_name(key)
        text = f'unknown setting {key!r}' + (f', did you mean {near!r}?' if near else '; canvaslite makes no use of it')
    warnings.warn(UnknownSettingWarning(text), stacklevel=user_stacklevel())
