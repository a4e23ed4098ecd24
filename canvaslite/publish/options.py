"""Options of a call: which there are, and the times among them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from numbers import Real
from typing import Any

from canvaslite import current

__all__ = ('RetryPolicy', 'drop_callers_own', 'eta_text', 'expires_text', 'given', 'listed', 'relate_to_parent',
           'seconds_to', 'seconds_until')

logger = logging.getLogger('canvaslite.publish')

#: Options that steer the caller and say nothing about the message.
_CALLERS_OWN = frozenset({
    'add_to_parent', 'event_dispatcher', 'producer', 'publisher', 'result_cls', 'router', 'route_name', 'task_type',
    'connection', 'create_sent_event',
})
#: No earlier moment can be said (Celery's limit: a signed 32-bit number of seconds).
_LEAST_SECONDS = -2147483648


def drop_callers_own(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that concern the message or its way."""
    return {name: value for name, value in options.items() if name not in _CALLERS_OWN}


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


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
    """When the task may run, ISO 8601; a countdown (seconds from `now`) wins over `eta`.

    Raises ValueError for a countdown that is out of range.
    """
    if countdown:
        return _moment_after(app, countdown, 'countdown', now).isoformat()
    return eta.isoformat() if isinstance(eta, datetime) else eta or None


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


def seconds_until(app: Any, expires: float | datetime | str, task_id: str) -> float:
    """Seconds that the broker may keep the message: at least 0, with a warning when it has expired already."""
    if isinstance(expires, Real):
        seconds = float(expires)
    elif isinstance(expires, (datetime, str)):
        seconds = (_aware(expires) - _aware(app.now())).total_seconds()
    else:
        raise TypeError(f'expires is a number of seconds, a datetime or ISO 8601 text, not {expires!r}')
    if seconds >= 0:
        return seconds
    logger.warning('%s has expired %.3fs before it was sent: it is sent with an expiration of 0, so that the broker '
                   'drops it unless a worker takes it at once.', task_id, -seconds)
    return 0.0


def seconds_to(app: Any, eta: datetime | str) -> float:
    """Seconds from now to `eta`; negative when it has passed."""
    return (_aware(eta) - _aware(app.now())).total_seconds()


def _aware(moment: datetime | str) -> datetime:
    """In UTC; a time without a zone is taken as UTC."""
    when = _parse(moment) if isinstance(moment, str) else moment
    return when.replace(tzinfo=timezone.utc) if when.tzinfo is None else when.astimezone(timezone.utc)


def _parse(text: str) -> datetime:
    # Python 3.10 does not know the Z.
    return datetime.fromisoformat(text[:-1] + '+00:00' if text.endswith(('Z', 'z')) else text)


class RetryPolicy:
    """How sending is tried again when the connection is lost: ``task_publish_retry`` and its policy.

    `limit` is the number of tries after the first; None for ever.
    """

    __slots__ = ('errors', 'interval_max', 'interval_start', 'interval_step', 'limit')

    def __init__(self, retry: bool, policy: Mapping[str, Any]) -> None:
        limit = policy.get('max_retries', 3)
        self.limit: int | None = 0 if not retry else None if limit is None else int(limit)
        self.interval_start = float(policy.get('interval_start') or 0)
        self.interval_step = float(policy.get('interval_step', 0.2) or 0)
        self.interval_max = float(policy.get('interval_max', 1) or 0)
        #: Further exceptions to try again on.
        self.errors: tuple[type[BaseException], ...] = tuple(policy.get('retry_errors') or ())

    def exhausted(self, tries: int) -> bool:
        """Whether no further try is allowed after `tries` that failed."""
        return self.limit is not None and tries > self.limit

    def pause(self, tries: int) -> float:
        """Seconds to wait after `tries` that failed."""
        return min(self.interval_start + (tries - 1) * self.interval_step, self.interval_max)
