"""Times, time zones, and intervals."""

from __future__ import annotations

import os
import random
import re
import time as _time
from datetime import datetime, timedelta, tzinfo
from datetime import timezone as fixed_timezone
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from canvaslite.utils.text import pluralize

__all__ = ('LocalTimezone', 'adjust_timestamp', 'get_exponential_backoff_interval', 'humanize_seconds', 'is_naive',
           'localize', 'make_aware', 'maybe_iso8601', 'maybe_make_aware', 'maybe_timedelta', 'parse_iso8601', 'rate',
           'subtract_datetimes', 'timezone', 'to_utc', 'utc_now', 'utcoffset')

_SECONDS_IN = {'s': 1, 'm': 60, 'h': 3600}
_UNITS = (('day', 86400.0), ('hour', 3600.0), ('minute', 60.0), ('second', 1.0))
_ISO8601 = re.compile(r"""
    (?P<year>\d{4})-?(?P<month>\d\d)-?(?P<day>\d\d)
    (?:[T ](?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9})\d*)?)?
    \s*(?P<zone>[Zz]|[+-]\d\d:?(?:\d\d)?)?)?
""", re.VERBOSE)


def utc_now() -> datetime:
    """The time in UTC, aware."""
    return datetime.now(fixed_timezone.utc)


class LocalTimezone(tzinfo):
    """This machine's time zone by the C library, where its name cannot be found out."""

    def __init__(self) -> None:
        self.standard = timedelta(seconds=-_time.timezone)
        self.summer = timedelta(seconds=-_time.altzone) if _time.daylight else self.standard

    def __repr__(self) -> str:
        return f'<LocalTimezone: UTC{int(self.summer.total_seconds() // 3600):+03d}>'

    def utcoffset(self, dt: datetime | None) -> timedelta:
        return self.summer if dt is not None and self._is_summer(dt) else self.standard

    def dst(self, dt: datetime | None) -> timedelta:
        return self.utcoffset(dt) - self.standard

    def tzname(self, dt: datetime | None) -> str:
        return _time.tzname[bool(dt is not None and self._is_summer(dt))]

    def fromutc(self, dt: datetime) -> datetime:
        stamp = dt.replace(tzinfo=fixed_timezone.utc).timestamp()
        offset = timedelta(seconds=_time.localtime(stamp).tm_gmtoff)
        return (dt + offset).replace(tzinfo=self)

    @staticmethod
    def _is_summer(dt: datetime) -> bool:
        stamp = _time.mktime((dt.year, dt.month, dt.day, dt.hour, dt.minute, dt.second, dt.weekday(), 0, -1))
        return _time.localtime(stamp).tm_isdst > 0


class _Zones:
    """Time zones by name, the local one, and UTC."""

    @cached_property
    def utc(self) -> tzinfo:
        return ZoneInfo('UTC')

    @cached_property
    def local(self) -> tzinfo:
        """The machine's time zone: ``$TZ``, else what ``/etc/localtime`` is."""
        name = os.environ.get('TZ', '').lstrip(':') or _name_of_localtime()
        try:
            return ZoneInfo(name)
        except (KeyError, OSError, ValueError):  # no such zone, or no name
            return LocalTimezone()

    def get_timezone(self, zone: str | tzinfo) -> tzinfo:
        """The zone of that name; a zone is returned as it is.

        Raises:
            ZoneInfoNotFoundError: there is none (a KeyError).
        """
        return ZoneInfo(zone) if isinstance(zone, str) else zone

    def tz_or_local(self, tzinfo: str | tzinfo | None = None) -> tzinfo:
        """The zone, or the local one where it is None."""
        return self.local if tzinfo is None else self.get_timezone(tzinfo)

    def to_local(self, dt: datetime, local: tzinfo | None = None, orig: tzinfo | None = None) -> datetime:
        """`dt` in the zone `local`; if naive it is taken to be in `orig`, or in UTC."""
        if is_naive(dt):
            dt = make_aware(dt, orig or self.utc)
        return localize(dt, self.tz_or_local(local))

    def to_system(self, dt: datetime) -> datetime:
        """`dt` in the system's zone."""
        return dt.astimezone(tz=None)

    def to_local_fallback(self, dt: datetime) -> datetime:
        """`dt` in the local zone; if naive it is taken to be there already."""
        return make_aware(dt, self.local) if is_naive(dt) else localize(dt, self.local)


timezone = _Zones()


def _name_of_localtime() -> str:
    try:
        return str(Path('/etc/localtime').resolve()).partition('zoneinfo/')[2]
    except OSError:
        return ''


def maybe_timedelta(delta: Any) -> Any:
    """A number of seconds as a timedelta; anything else as it is."""
    return timedelta(seconds=delta) if isinstance(delta, (int, float)) else delta


def rate(limit: Any) -> float:
    """A rate in units a second: of ``'100/m'``, ``'2/h'``, ``'0.5/s'``, ``'10'`` or a number; 0 for none."""
    if not isinstance(limit, str):
        return limit or 0
    count, _, unit = limit.partition('/')
    return float(count) / _SECONDS_IN[unit or 's'] if count else 0


def humanize_seconds(secs: float, prefix: str = '', sep: str = '', now: str = 'now',
                     microseconds: bool = False) -> str:
    """Seconds in the largest unit that fits: ``1.00 minute``, ``2.00 hours``; `now` for less than one."""
    secs = round(float(secs), 2)
    for unit, size in _UNITS:
        if secs >= size:
            count = secs / size
            return f'{prefix}{sep}{count:.2f} {pluralize(count, unit)}'
    return f'{prefix}{sep}{secs:.2f} seconds' if microseconds and secs > 0 else now


def parse_iso8601(text: str) -> datetime:
    """The time that an ISO 8601 text says: aware if it has an offset.

    Raises:
        ValueError: it is no such text.
    """
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return _parse_iso8601_slowly(text)


def _parse_iso8601_slowly(text: str) -> datetime:
    """For the forms that Python 3.10 does not know: ``Z``, any number of decimals, no separators."""
    match = _ISO8601.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'not an ISO 8601 time: {text!r}')
    found = match.groupdict()
    day = [int(found[name]) for name in ('year', 'month', 'day')]
    time = [int(found[name] or 0) for name in ('hour', 'minute', 'second')]
    microsecond = int((found['fraction'] or '').ljust(6, '0')[:6])
    return datetime(day[0], day[1], day[2], time[0], time[1], time[2], microsecond, _parse_offset(found['zone']))


def _parse_offset(zone: str | None) -> tzinfo | None:
    if zone is None:
        return None
    if zone in 'Zz':
        return fixed_timezone.utc
    digits = zone[1:].replace(':', '').ljust(4, '0')
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return fixed_timezone(-offset if zone[0] == '-' else offset)


def maybe_iso8601(dt: datetime | str | None) -> datetime | None:
    """A time given as text or as itself; None for nothing."""
    if not dt:
        return None
    return dt if isinstance(dt, datetime) else parse_iso8601(dt)


def is_naive(dt: datetime) -> bool:
    """Whether the time has no time zone."""
    return dt.tzinfo is None or dt.tzinfo.utcoffset(dt) is None


def make_aware(dt: datetime, tz: tzinfo) -> datetime:
    """The wall clock time `dt` in `tz`; one that occurs twice is the first, one that is skipped moves forward."""
    dt = dt.replace(tzinfo=tz)
    there_and_back = dt.astimezone(fixed_timezone.utc).astimezone(tz)
    return dt if there_and_back.replace(tzinfo=None) == dt.replace(tzinfo=None) else there_and_back


def localize(dt: datetime, tz: tzinfo) -> datetime:
    """The moment `dt` in the zone `tz`; if naive it is taken to be there already."""
    return make_aware(dt, tz) if is_naive(dt) else dt.astimezone(tz)


def to_utc(dt: datetime) -> datetime:
    """The wall clock time `dt` in UTC."""
    return make_aware(dt, timezone.utc)


def maybe_make_aware(dt: datetime, tz: tzinfo | None = None, naive_as_utc: bool = True) -> datetime:
    """A naive time as one in UTC (or, without `naive_as_utc`, in `tz`), shown in `tz`; an aware one as it is."""
    if not is_naive(dt):
        return dt
    if naive_as_utc:
        dt = to_utc(dt)
    return localize(dt, timezone.utc if tz is None else timezone.tz_or_local(tz))


def subtract_datetimes(end: datetime, start: datetime) -> timedelta:
    """The time that passes from `start` to `end`; naive times are in UTC."""
    return maybe_make_aware(end).astimezone(fixed_timezone.utc) - maybe_make_aware(start).astimezone(fixed_timezone.utc)


def utcoffset() -> float:
    """How many hours the local time is behind UTC."""
    return (_time.altzone if _time.localtime().tm_isdst else _time.timezone) / 3600


def adjust_timestamp(ts: float, offset: float) -> float:
    """A timestamp of a machine that is `offset` hours behind UTC, as one of this machine."""
    return ts - (offset - utcoffset()) * 3600


def get_exponential_backoff_interval(factor: float, retries: int, maximum: float, full_jitter: bool = False) -> float:
    """Seconds before the next try: `factor` doubled with each, at most `maximum`; any part of it with `full_jitter`."""
    countdown = min(maximum, factor * 2 ** retries)
    if full_jitter:
        countdown = random.randrange(int(countdown) + 1)
    return max(0, countdown)
