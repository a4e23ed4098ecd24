"""Times in message headers."""

from __future__ import annotations

from datetime import datetime, timezone, tzinfo
from typing import Any

__all__ = ('parse_time',)


def parse_time(value: Any, local: tzinfo) -> datetime:
    """The moment that a header names, in ISO 8601; one without an offset is in `local` time.

    Raises `ValueError` when it names none.
    """
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str):
        text = value.strip()
        moment = datetime.fromisoformat(text[:-1] + '+00:00' if text[-1:] in 'zZ' else text)
    else:
        raise ValueError(f'not a time: {value!r:.100}')
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=local)
    # Arithmetic with an extreme date can overflow; find out here.
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError as exc:
        raise ValueError(f'out of range: {value!r:.100}') from exc
