"""Time zones, the machine's among them."""

from __future__ import annotations

import os
from datetime import datetime, tzinfo
from functools import lru_cache
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
