"""`Recovery`: getting a connection to the broker, and getting another when it is lost.

While there is none the loop goes on: children report, time limits are kept, and the worker can be stopped.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import Any

from canvaslite.exceptions import WorkerShutdown, WorkerTerminate

__all__ = ('Recovery',)

logger = logging.getLogger('canvaslite.worker')

#: Seconds before the second try, by how much more before each further one, and at most.
INTERVAL_START, INTERVAL_STEP, INTERVAL_MAX = 2.0, 2.0, 30.0
#: Losing the connection as often within this many seconds means that something is wrong: wait a moment.
FREQUENT, PERIOD, PAUSE = 5, 1.0, 1.0


class Recovery:
    """Connects as the ``broker_connection_*`` settings say.

    `wait(seconds)` lets the loop run meanwhile, and raises when the worker is to stop.
    """

    def __init__(self, app: Any, wait: Callable[[float], None]) -> None:
        self.app = app
        self.wait = wait
        self.first = True
        self._losses: list[float] = []

    def may_retry(self) -> bool:
        """Whether connecting is tried again when it fails."""
        conf = self.app.conf
        on_startup = conf.broker_connection_retry_on_startup
        return bool(conf.broker_connection_retry if on_startup is None or not self.first else on_startup)

    def errors_of(self, connection: Any) -> tuple[type[BaseException], ...]:
        """What is recovered from."""
        errors = tuple(connection.recoverable_connection_errors) + tuple(connection.connection_errors)
        if self.app.conf.broker_channel_error_retry:
            errors += tuple(connection.channel_errors)
        return errors

    def connect(self, heartbeat: float | None) -> Any:
        """An established connection. Raises `WorkerShutdown` when it cannot be had."""
        connection = self.app.connection_for_read(heartbeat=heartbeat)
        errors = self.errors_of(connection)
        attempt = 0
        while True:
            try:
                connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
            except Exception as exc:
                if not isinstance(exc, errors) or not self.may_retry():
                    self._give_up(connection, exc)
                attempt += 1
                self._wait_for_next(connection, exc, attempt)
            else:
                self.first = False
                return connection

    def _wait_for_next(self, connection: Any, exc: BaseException, attempt: int) -> None:
        _refuse_exhaustion(exc)
        most = self.app.conf.broker_connection_max_retries
        if most and attempt > most:
            self._give_up(connection, exc)
        if connection.alt and not connection.completes_cycle(attempt - 1):
            logger.error('consumer: Cannot connect to %s: %s. Will retry using next failover.',
                         connection.as_uri(), _reason(exc))
            connection.maybe_switch_next()
            return
        rounds = attempt // (len(connection.alt) or 1)
        interval = min(INTERVAL_START + INTERVAL_STEP * (rounds - 1), INTERVAL_MAX)
        logger.error('consumer: Cannot connect to %s: %s. Trying again in %.2f seconds... (%s/%s)',
                     connection.as_uri(), _reason(exc), interval, attempt, most)
        connection.maybe_switch_next()
        self.wait(interval)

    def _give_up(self, connection: Any, exc: BaseException) -> None:
        setting = 'broker_connection_retry_on_startup' if self.first else 'broker_connection_retry'
        advice = '' if self.may_retry() else f' ({setting} is off)'
        logger.critical('consumer: Cannot connect to the broker_url %s: %s%s. Check that the broker runs there '
                        'and lets this user in.', connection.as_uri(), _reason(exc), advice)
        raise WorkerShutdown(1) from exc

    def note_loss(self, exc: BaseException) -> None:
        """The connection is lost. Raises `WorkerShutdown` when no other is to be had."""
        _refuse_exhaustion(exc)
        if not self.may_retry():
            logger.critical('consumer: Connection to broker lost (%s), and broker_connection_retry is off. '
                            'Shutting down...', exc)
            raise WorkerShutdown(1) from exc
        logger.warning('consumer: Connection to broker lost. Trying to re-establish the connection... (%r)', exc)
        now = time.monotonic()
        self._losses = [*[then for then in self._losses if now - then < PERIOD], now]
        if len(self._losses) > FREQUENT:
            logger.critical('consumer: The connection was lost %s times within %s seconds.', len(self._losses), PERIOD)
            self.wait(PAUSE)


def _reason(exc: BaseException) -> str:
    return str(exc).rstrip('.') or type(exc).__name__


def _refuse_exhaustion(exc: BaseException) -> None:
    if isinstance(exc, OSError) and exc.errno == errno.EMFILE:
        logger.critical('Too many open files. Aborting...')
        raise WorkerTerminate(1) from exc
