"""Options of a call: which there are, and the times among them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from numbers import Real
from typing import Any

from canvaslite import current, wire
from canvaslite.utils.time import parse_time

logger = logging.getLogger('celery.publish')

#: Options that say that others wait for the task.
_AWAITED = ('chain', 'chord', 'link', 'group_id')
#: No earlier moment can be said (Celery's limit: a signed 32-bit number of seconds).
_LEAST_SECONDS = -2147483648


def check_arguments(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments, empty where None. Raises TypeError when they cannot be positional and keyword arguments."""
    args, kwargs = args or (), kwargs or {}
    if not isinstance(args, (list, tuple)):
        raise TypeError('task args must be a list or tuple')
    if not isinstance(kwargs, Mapping):
        raise TypeError('task keyword arguments must be a mapping')
    return args, kwargs


def relate_to_parent(app: Any, root_id: str | None, parent_id: str | None) -> tuple[str | None, str | None, int | None]:
    """Root and parent id as given, else from the task that runs in this thread; and the priority to inherit from it."""
    if root_id and parent_id:
        return root_id, parent_id, None
    parent = current.get_current_worker_task()
    if parent is None:
        return root_id, parent_id, None
    request = parent.request
    priority = (request.delivery_info or {}).get('priority') if app.conf.task_inherit_parent_priority else None
    return root_id or request.root_id or request.id, parent_id or request.id, priority


def listed(value: Any) -> Any:
    """A signature or a sequence of them as a list; None stays None."""
    if value is None or isinstance(value, (list, tuple)):
        return value
    return [value] if isinstance(value, (Mapping, str)) or not hasattr(value, '__iter__') else list(value)


def eta_text(app: Any, countdown: float | None, eta: datetime | str | None, now: datetime | None = None) -> str | None:
    """When the task may run, ISO 8601; a countdown wins over `eta`.

    Raises ValueError where that is out of range, AttributeError for an eta that is no time.
    """
    if countdown:
        return _moment_after(app, countdown, 'countdown', now).isoformat()
    return eta.isoformat() if eta and not isinstance(eta, str) else str(eta) if eta else None


def expires_text(app: Any, expires: float | datetime | str | None, now: datetime | None = None) -> str | None:
    """When the task is no longer to be run, ISO 8601; a number is in seconds from `now`."""
    if isinstance(expires, Real):
        return _moment_after(app, float(expires), 'expires', now).isoformat()
    return expires.isoformat() if isinstance(expires, datetime) else str(expires) if expires else None


def _moment_after(app: Any, seconds: float, what: str, now: datetime | None) -> datetime:
    if seconds < _LEAST_SECONDS:
        raise ValueError(f'{what} is out of range: {seconds!r}')
    now = now or app.now()
    delta = timedelta(seconds=seconds)
    if now.tzinfo is None:
        return (now + delta).replace(tzinfo=timezone.utc).astimezone(app.timezone)
    # Over UTC, so that elapsed time counts, not what the clocks of a zone with summer time show.
    return (now.astimezone(timezone.utc) + delta).astimezone(now.tzinfo)


def seconds_until(app: Any, moment: float | datetime | str) -> float:
    """Seconds from now to `moment`, which may be such a number itself; negative when it has passed."""
    if isinstance(moment, Real):
        return float(moment)
    if not isinstance(moment, (datetime, str)):
        raise TypeError(f'a time is a number of seconds, a datetime or ISO 8601 text, not {moment!r}')
    return (parse_time(moment, timezone.utc) - parse_time(app.now(), timezone.utc)).total_seconds()


def seconds_to_live(app: Any, options: Mapping[str, Any], task_id: str) -> float | None:
    """Seconds that the broker may keep the message: at least 0, with a warning when it has expired already.

    None if it may keep it for ever: also where others wait for this task. The broker tells nobody what it drops; a
    worker that gets it records that it has expired, and ends what waits for it.
    """
    expires = options.get('expires')
    if expires is None or any(options.get(name) for name in _AWAITED) or wire.WINDOW_HEADER in (
            options.get('headers') or ()):
        return None
    seconds = seconds_until(app, expires)
    if seconds < 0:
        logger.warning('%s has expired %.3fs before it was sent: it is sent with an expiration of 0, so that the '
                       'broker drops it unless a worker takes it at once.', task_id, -seconds)
    return max(seconds, 0.0)
