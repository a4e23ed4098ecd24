"""What a setting is called: in a namespace, by its old name, or nearly."""

from __future__ import annotations

import difflib
import warnings

from canvaslite.app.defaults import FOREIGN_PREFIXES, SETTINGS
from canvaslite.exceptions import UnknownSettingWarning
from canvaslite.utils.callers import user_stacklevel

__all__ = ('OLD_NAMES', 'nearest_name', 'setting_name', 'warn_of_unknown')

#: First word of a setting, and what stood there in the upper-case names of Celery 3.
_OLD_FIRST_WORDS = {
    'beat_': 'CELERYBEAT_', 'worker_': 'CELERYD_', 'task_': 'CELERY_', 'result_': 'CELERY_RESULT_',
    'cache_': 'CELERY_CACHE_', 'event_': 'CELERY_EVENT_', 'redis_': 'CELERY_REDIS_', 'security_': 'CELERY_SECURITY_',
}
#: Settings without a first word; their old names had one.
_OLD_GENERAL = ('accept_content', 'enable_utc', 'imports', 'include', 'timezone')
#: Old names that follow no rule.
_OLD_EXCEPTIONS = {
    'CELERYD_TASK_LOG_FORMAT': 'worker_task_log_format',
    'CELERYD_TASK_SOFT_TIME_LIMIT': 'task_soft_time_limit',
    'CELERYD_TASK_TIME_LIMIT': 'task_time_limit',
    'CELERYD_SOFT_TIME_LIMIT': 'task_soft_time_limit',
    'CELERYD_TIME_LIMIT': 'task_time_limit',
    'CELERYD_WORKER_LOST_WAIT': 'worker_lost_wait',
    'CELERY_DISABLE_RATE_LIMITS': 'worker_disable_rate_limits',
    'CELERY_EAGER_PROPAGATES_EXCEPTIONS': 'task_eager_propagates',
    'CELERY_ENABLE_REMOTE_CONTROL': 'worker_enable_remote_control',
    'CELERY_MAX_CACHED_RESULTS': 'result_cache_max',
    'CELERY_MESSAGE_COMPRESSION': 'task_compression',
    'CELERY_REDIRECT_STDOUTS': 'worker_redirect_stdouts',
    'CELERY_REDIRECT_STDOUTS_LEVEL': 'worker_redirect_stdouts_level',
    'CELERY_RESULT_DBURI': 'database_url',
    'CELERY_RESULT_DB_SHORT_LIVED_SESSIONS': 'database_short_lived_sessions',
    'CELERY_RESULT_DB_TABLENAMES': 'database_table_names',
    'CELERY_RESULT_DB_TABLE_NAMES': 'database_table_names',
    'CELERY_RESULT_ENGINE_OPTIONS': 'database_engine_options',
    'CELERY_SEND_EVENTS': 'worker_send_task_events',
    'CELERY_SEND_TASK_SENT_EVENT': 'task_send_sent_event',
    'CELERY_TASK_RESULT_EXPIRES': 'result_expires',
    'CELERY_WORKER_DIRECT': 'worker_direct',
    'CELERY_WORKER_LOG_FORMAT': 'worker_log_format',
    'CELERY_WORKER_TASK_LOG_FORMAT': 'worker_task_log_format',
    'ENABLE_UTC': 'enable_utc',
    'RESULT_ACCEPT_CONTENT': 'result_accept_content',
}


def _old_names() -> dict[str, str]:
    found = {}
    for name in SETTINGS:
        word = name.partition('_')[0] + '_'
        if name in _OLD_GENERAL:
            found[f'CELERY_{name.upper()}'] = name
        elif word in _OLD_FIRST_WORDS:
            found[_OLD_FIRST_WORDS[word] + name[len(word):].upper()] = name
        else:
            found[name.upper()] = name
        if word == 'task_':  # some had both words
            found[f'CELERY_{name.upper()}'] = name
    found.update(_OLD_EXCEPTIONS)
    return found


#: Upper-case name of Celery 3 to the name of the setting.
OLD_NAMES = _old_names()

_warned: set[str] = set()


def setting_name(key: str, prefix: str = '') -> str | None:
    """The setting that `key` means, or None: by its name, its old name, or its name behind `prefix`.

    >>> setting_name('CELERY_TASK_SERIALIZER', 'CELERY_')
    'task_serializer'
    """
    if key in SETTINGS:
        return key
    if prefix and key.startswith(prefix):
        name = key[len(prefix):].lower()
        if name in SETTINGS:
            return name
    return OLD_NAMES.get(key)


def nearest_name(key: str) -> str | None:
    """The setting whose name is most like `key`, if any is much like it."""
    found = difflib.get_close_matches(key.lower(), SETTINGS, n=1, cutoff=0.75)
    return found[0] if found else None


def warn_of_unknown(key: str) -> None:
    """Warn, once a process, that there is no setting `key`; it is kept for whoever reads it."""
    if key in _warned:
        return
    _warned.add(key)
    warnings.warn(UnknownSettingWarning(_describe_unknown(key)), stacklevel=user_stacklevel())


def _describe_unknown(key: str) -> str:
    if key.lower().startswith(FOREIGN_PREFIXES):
        return f'setting {key!r} has no effect: it belongs to a result backend that canvaslite does not have'
    near = nearest_name(key)
    return f'unknown setting {key!r}' + (f', did you mean {near!r}?' if near else '; canvaslite makes no use of it')
