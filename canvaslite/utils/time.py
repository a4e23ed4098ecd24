"""Time zones, the machine's among them, and moments in ISO 8601."""

from __future__ import annotations

import os
from datetime import datetime, timezone, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

UTC = ZoneInfo('UTC')


@lru_cache(maxsize=1)
def local_timezone() -> tzinfo:
    """The machine's time zone: ``$TZ``, else what ``/etc/localtime`` is; today's offset where that has no name."""
    name = os.environ.get('TZ', '').lstrip(':') or os.path.realpath('/etc/localtime').partition('zoneinfo/')[2]
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # no such zone, or no name
        return datetime.now().astimezone().tzinfo or UTC


def parse_time(value: Any, local: tzinfo) -> datetime:
    """The moment, in UTC, of a datetime or ISO 8601 text; in zone `local` if it names none. Raises `ValueError`."""
    if isinstance(value, str):  # Python 3.10 does not know the Z
        text = value.strip()
        moment = datetime.fromisoformat(text[:-1] + '+00:00' if text[-1:] in 'zZ' else text)
    elif isinstance(value, datetime):
        moment = value
    else:
        raise ValueError(f'not a time: {value!r:.100}')
    # Arithmetic with an extreme date can overflow; find out here.
    try:
        return (moment.replace(tzinfo=local) if moment.tzinfo is None else moment).astimezone(timezone.utc)
    except OverflowError as exc:
        raise ValueError(f'out of range: {value!r:.100}') from exc


def second_done(meta: Any) -> float | None:
    """When the task of a stored result ended, in seconds since 1970; None if the store does not say it."""
    done = meta.get('date_done')
    return parse_time(done, timezone.utc).timestamp() if done else None
