"""`Autoscaler`: has the pool grow with what there is to do, and shrink when that has been less for a while."""

from __future__ import annotations

import os
import time
from typing import Any

from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.utils.log import worker_logger as logger

#: Seconds for which processes are kept after the last growth; Celery's variable.
KEEPALIVE = float(os.environ.get('AUTOSCALE_KEEPALIVE') or 30)
#: Seconds between two looks.
INTERVAL = 0.5


class Autoscaler:
    """Between `min_concurrency` and `max_concurrency` processes or threads; an app's own is ``worker_autoscaler``."""

    def __init__(self, pool: Any, max_concurrency: int, min_concurrency: int, worker: Any = None,
                 keepalive: float = KEEPALIVE) -> None:
        self.pool = pool
        self.max_concurrency = max_concurrency
        self.min_concurrency = min_concurrency
        self.worker = worker
        self.keepalive = keepalive
        self._last_needed = time.monotonic()
        self._timer: Any = None

    def start(self) -> None:
        self._timer = self.worker.hub.call_repeatedly(INTERVAL, self.maybe_scale)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def qty(self) -> int:
        """How many tasks there are to run, or run."""
        return self.pool.pending()  # type: ignore[no-any-return]

    @property
    def processes(self) -> int:
        return self.pool.num_processes  # type: ignore[no-any-return]

    def maybe_scale(self, req: Any = None) -> None:
        """Grow at once, shrink when the last growth was not needed for `keepalive` seconds."""
        wanted = min(max(self.qty, self.min_concurrency), self.max_concurrency)
        now = time.monotonic()
        if wanted >= self.processes:
            self._last_needed = now
        if wanted != self.processes and (wanted > self.processes or self.processes > self.max_concurrency
                                         or now - self._last_needed > self.keepalive):
            self._resize(wanted)

    def _resize(self, wanted: int) -> None:
        difference = wanted - self.processes
        logger.info('Scaling %s %s processes.', 'up' if difference > 0 else 'down', abs(difference))
        try:
            if difference > 0:
                self.pool.grow(difference)
            else:
                self.pool.shrink(-difference)
        except ValueError as exc:
            logger.debug('Autoscaler: %s', exc)

    def update(self, max: int | None = None, min: int | None = None) -> tuple[int, int]:
        """Change the bounds; those that hold from now on. Raises `ImproperlyConfigured`."""
        self.max_concurrency, self.min_concurrency = read_bounds(
            (self.max_concurrency if max is None else max, self.min_concurrency if min is None else min))
        self.worker.consumer.update_prefetch()
        self.maybe_scale()
        return self.max_concurrency, self.min_concurrency

    def info(self) -> dict[str, int]:
        """What ``inspect stats`` shows of it."""
        return {'max': self.max_concurrency, 'min': self.min_concurrency, 'current': self.processes, 'qty': self.qty}


def read_bounds(given: Any) -> tuple[int, int]:
    """The most and the least processes of ``'10,3'``, ``(10, 3)`` or ``10``. Raises `ImproperlyConfigured`."""
    try:
        bounds = [int(value) for value in (str(given).split(',') if isinstance(given, (str, int)) else given)]
        most, least = bounds if len(bounds) == 2 else (*bounds, 1)
    except (ValueError, TypeError):
        most = least = 0
    least = max(least, 1)
    if most < least:
        raise ImproperlyConfigured(f'--autoscale is {given!r}: it must be MAX,MIN, as 10,3.')
    return most, least
