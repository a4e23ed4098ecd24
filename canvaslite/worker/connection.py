"""The worker's connection: getting one, also when it is lost, while the loop goes on; reading from it, and how much."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable
from typing import Any

from amqp.exceptions import ConsumerCancelled

from canvaslite.exceptions import WorkerShutdown, WorkerTerminate
from canvaslite.utils.log import worker_logger as logger
from canvaslite.utils.redact import for_log, one_line
from canvaslite.worker.request import Request, Stage
from canvaslite.worker.state import State

#: Seconds before the second try, by how much more before each further one, and at most: with the time that one try may
#: take, less than the 10 s in which a worker is to be back. Celery waits longer, and gives up after as many seconds.
INTERVAL_START, INTERVAL_STEP, INTERVAL_MAX, CELERYS_MAX = 2.0, 2.0, 5.0, 30.0
#: Losing the connection as often within this many seconds means that something is wrong: wait a moment.
FREQUENT, PERIOD, PAUSE = 5, 1.0, 1.0
#: Seconds between two looks for messages of a transport that cannot wait for them: busy, and at most.
BUSY_INTERVAL, IDLE_INTERVAL = 0.001, 0.05
#: Messages taken in one look.
_PER_LOOK = 100
#: The largest prefetch count that AMQP can say; 0 says that there is no limit.
_LARGEST = 65535


class Recovery:
    """Connects as ``broker_connection_*`` say; `wait(seconds)` lets the loop run, and raises when it is to stop."""

    def __init__(self, app: Any, wait: Callable[[float], None]) -> None:
        self.app = app
        self.wait = wait
        self.first = True
        #: When the connection was lost that was not replaced yet.
        self.lost_at: float | None = None
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
        attempt, waited = 0, 0.0
        while True:
            try:
                connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
            except Exception as exc:
                if not isinstance(exc, errors) or not self.may_retry():
                    self._give_up(connection, exc)
                attempt += 1
                waited += self._wait_for_next(connection, exc, attempt, waited)
            else:
                self.first = False
                return connection

    def _wait_for_next(self, connection: Any, exc: BaseException, attempt: int, waited: float) -> float:
        """Go to the next URL, after all of them wait; the seconds that this took."""
        _refuse_exhaustion(exc)
        most = self.app.conf.broker_connection_max_retries
        patience = _celerys_patience((most or 0) // (len(connection.alt) or 1))
        if most and attempt > most and waited >= patience:
            self._give_up(connection, exc)
        if connection.alt and not connection.completes_cycle(attempt - 1):
            logger.error('consumer: Cannot connect to %s: %s. Will retry using next failover.',
                         connection.as_uri(), one_line(exc))
            connection.maybe_switch_next()
            return 0.0
        rounds = attempt // (len(connection.alt) or 1)
        interval = min(INTERVAL_START + INTERVAL_STEP * (rounds - 1), INTERVAL_MAX)
        logger.error('consumer: Cannot connect to %s: %s. Trying again in %.2f seconds... (try %s, %s)',
                     connection.as_uri(), one_line(exc), interval, attempt,
                     f'giving up after {patience:.0f} seconds' if most else 'without end')
        connection.maybe_switch_next()
        self.wait(interval)
        return interval

    def _give_up(self, connection: Any, exc: BaseException) -> None:
        setting = 'broker_connection_retry_on_startup' if self.first else 'broker_connection_retry'
        advice = '' if self.may_retry() else f' ({setting} is off)'
        logger.critical('consumer: Cannot connect to the broker_url %s: %s%s. Check that the broker runs there '
                        'and lets this user in.', connection.as_uri(), one_line(exc), advice)
        raise WorkerShutdown(1) from exc

    def note_loss(self, exc: BaseException) -> None:
        """The connection is lost. Raises `WorkerShutdown` when no other is to be had."""
        _refuse_exhaustion(exc)
        if not self.may_retry():
            logger.critical('consumer: Connection to broker lost (%s), and broker_connection_retry is off. '
                            'Shutting down...', exc)
            raise WorkerShutdown(1) from exc
        self.lost_at = time.monotonic()
        logger.warning('consumer: Connection to broker lost. Trying to re-establish the connection... (%s)',
                       for_log('the broker has cancelled a consumer: its queue was deleted, or moved' if isinstance(
                           exc, ConsumerCancelled) else f'{type(exc).__name__}: {exc}'))
        now = time.monotonic()
        self._losses = [*[then for then in self._losses if now - then < PERIOD], now]
        if len(self._losses) > FREQUENT:
            logger.critical('consumer: The connection was lost %s times within %s seconds.', len(self._losses), PERIOD)
            self.wait(PAUSE)


def _celerys_patience(retries: int) -> float:
    """The seconds that Celery waits in all with so many retries."""
    return sum(min(INTERVAL_START + INTERVAL_STEP * number, CELERYS_MAX) for number in range(retries))


class Binding:
    """Has the loop read from `connection`.

    Transports that the loop can wait for are registered with it, as kombu means it. The others (``filesystem``,
    ``memory``, …) are asked again and again: often while messages come, every `IDLE_INTERVAL` seconds otherwise.
    """

    def __init__(self, hub: Any, connection: Any, heartbeat_rate: float) -> None:
        self.hub = hub
        self.connection = connection
        self.rate = heartbeat_rate
        self.waits = bool(connection.transport.implements.asynchronous)
        self._interval = BUSY_INTERVAL
        self._timers: list[Any] = []
        self._ticks: set[Any] = set()

    def attach(self) -> None:
        """Start reading and, where the connection has them, heartbeats."""
        hub = self.hub
        if self.waits:
            # Transports put things of their own on the loop; what is new afterwards is theirs.
            timers, ticks = {id(entry.entry) for entry in hub.timer._queue}, set(hub.on_tick)
            self.connection.register_with_event_loop(hub)
            self._timers = [entry.entry for entry in hub.timer._queue if id(entry.entry) not in timers]
            self._ticks = hub.on_tick - ticks
        else:
            self._timers = [hub.call_later(self._interval, self._look)]
        interval = self.connection.get_heartbeat_interval()
        if interval and self.connection.supports_heartbeats:
            self._timers.append(hub.call_repeatedly(interval / self.rate, self.connection.heartbeat_check, self.rate))

    def detach(self) -> None:
        """Take everything off the loop that `attach` put there."""
        hub = self.hub
        transport = self.connection.transport
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        hub.on_tick -= self._ticks
        for fd, registered in list(hub.readers.items()):
            if registered is not None and getattr(registered[0], '__self__', None) is transport:
                hub.remove(fd)
        inner = self.connection._connection
        if self.waits and inner is not None and hasattr(transport, 'unregister_from_event_loop'):
            with contextlib.suppress(Exception):  # it is broken: that is why we are here
                transport.unregister_from_event_loop(inner, hub)

    def _look(self) -> None:
        self._interval = BUSY_INTERVAL if self.look() else min(self._interval * 2, IDLE_INTERVAL)
        self._timers = [self.hub.call_later(self._interval, self._look)]

    def look(self) -> int:
        """Take what messages there are; the number of events. Raises the transport's errors."""
        for taken in range(_PER_LOOK):
            try:
                self.connection.drain_events(timeout=0)
            except TimeoutError:
                return taken
        return _PER_LOOK


class Prefetch:
    """A count that is told to the broker at most once per turn of the loop; 0 means no limit, and stays so. Messages
    that wait for their ETA do not count: each makes room for another, up to `limit` in all. `each` is for one process.
    """

    def __init__(self, initial: int, limit: int | None = None, each: int = 1) -> None:
        self.base = initial
        self.each = each
        self.extra = 0
        self.limit = limit
        #: The consumers that there are keep the count with which they began.
        self.is_static = False
        self.told: int | None = None
        self._busy: list[Request] = []

    @property
    def value(self) -> int:
        """The count as it should be."""
        if not self.base or self.is_static:
            return self.base
        value = self._with_eta(self._without_eta())
        return value if value <= _LARGEST else 0

    def _with_eta(self, least: int) -> int:
        value = least + self.extra
        return value if self.limit is None else max(min(value, self.limit), least)

    def _without_eta(self) -> int:
        if not self._busy:
            return self.base
        self._busy = [request for request in self._busy if request.stage is not Stage.READY]
        if not self._busy:
            logger.info('consumer: What ran when the connection was lost has ended: the prefetch count is %s again.',
                        self.base)
        # Those that are acknowledged late are to find room when their messages come back.
        late = sum(not request.acknowledged for request in self._busy)
        return min(max(self.base - self.each * len(self._busy), self.each, late), self.base)

    @property
    def is_full(self) -> bool:
        """Whether a message that waits for its ETA would take the place of one that can run."""
        return self.is_static or (self.limit is not None and self.base + self.extra >= self.limit)

    def increment(self, n: int = 1) -> None:
        self.extra += n

    def decrement(self, n: int = 1) -> None:
        self.extra = max(self.extra - n, 0)

    def forget(self) -> None:
        """The messages are gone with the connection, and the broker knows nothing of the count any more."""
        self.extra = 0
        self.told = None

    def hold_back(self, running: list[Request]) -> None:
        """Have as many messages as the free processes need, and at least those of one, until these requests end."""
        self._busy = running
        if running and self.base and not self.is_static:
            logger.info('consumer: The prefetch count is %s at first, and comes back to %s as the %s running tasks end '
                        '(worker_enable_prefetch_count_reduction).', self._without_eta(), self.base, len(running))

    def update(self, tell: Any) -> None:
        """Call `tell(count)` when the broker was told another one."""
        value = self.value
        if value != self.told:
            self.told = value
            tell(value)


class FreeProcesses(Prefetch):
    """As many messages as there are processes for them, as ``worker_disable_prefetch`` wishes: a task that was
    acknowledged when it started takes a process, but no room among the unacknowledged messages. -1 means none: to a
    broker 0 would mean no limit. `processes` says how many there are."""

    def __init__(self, state: State, processes: Callable[[], int], limit: int | None = None) -> None:
        super().__init__(processes(), limit)
        self._state = state
        self._processes = processes

    @property
    def value(self) -> int:
        if self.is_static:
            return self.base
        taken = sum(request.acknowledged for request in self._state.requests())
        return min(self._with_eta(max(self._processes() - taken, 0)), _LARGEST) or -1

    def free(self) -> int:
        """How many more messages may come."""
        return self._processes() + self.extra - len(self._state)

    def bind(self, qos: Any) -> None:
        """Have `qos`, that of a channel for whose broker kombu counts, ask here before a message is fetched."""
        may, most = qos.can_consume, qos.can_consume_max_estimate
        qos.can_consume = lambda: self.free() > 0 and may()
        qos.can_consume_max_estimate = lambda: max(min(self.free(), most()), 0)


def _refuse_exhaustion(exc: BaseException) -> None:
    if isinstance(exc, OSError) and exc.errno == errno.EMFILE:
        logger.critical('Too many open files. Aborting...')
        raise WorkerTerminate(1) from exc
