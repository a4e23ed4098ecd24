"""`Outage`: what a process's log says of a server that is away."""

from __future__ import annotations

import logging
from math import inf
from time import monotonic
from typing import Any

__all__ = ('Outage',)

#: Seconds between two lines about one outage; without a failure for as long, it is over.
EVERY = 30.0


class Outage:
    """One line when a server goes away, one now and then while it is, one when it is back, however many tries there are
    and whoever makes them. The others are at level DEBUG."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._began = self._last = self._told = -inf

    def note(self, level: int, text: str, *args: Any) -> None:
        """A try has failed, as the text says."""
        now, last = monotonic(), self._last
        self._last = now
        if now - last > EVERY:
            self._began, self._told = now, -inf
        if now - self._told < EVERY:
            level = logging.DEBUG
        else:
            self._told = now
        self._logger.log(level, text, *args)

    def end(self, what: str) -> None:
        """What had failed has been done."""
        if self._last != -inf:
            self._last = -inf
            self._logger.warning('%s works again, after %.1f seconds.', what, monotonic() - self._began)
