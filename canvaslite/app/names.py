"""What a setting is called: in a namespace, by its old name, or nearly."""

from __future__ import annotations

import difflib
import warnings

from canvaslite.app.defaults import FOREIGN_PREFIXES, SETTINGS
from canvaslite.exceptions import UnknownSettingWarning
from canvaslite.utils.functional import user_stacklevel

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
    if key not in _warned:
        _warned.add(key)
        warnings.warn(UnknownSettingWarning(_describe_unknown(key)), stacklevel=user_stacklevel())


def _describe_unknown(key: str) -> str:
    if key.lower().startswith(FOREIGN_PREFIXES):
        return f'setting {key!r} has no effect: it belongs to a result backend that canvaslite does not have'
    near = nearest_name(key)
    return f'unknown setting {key!r}' + (f', did you mean {near!r}?' if near else '; canvaslite makes no use of it')
