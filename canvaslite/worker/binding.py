"""`Binding`: a broker connection on the loop, and off it again when the connection is lost."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

__all__ = ('Binding',)

logger = logging.getLogger('canvaslite.worker')

#: Seconds between two looks for messages of a transport that cannot wait for them: busy, and at most.
BUSY_INTERVAL, IDLE_INTERVAL = 0.001, 0.05
#: Messages taken in one look.
_PER_LOOK = 100


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
            self._schedule_look()
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

    def _schedule_look(self) -> None:
        self._timers = [self.hub.call_later(self._interval, self._look)]

    def _look(self) -> None:
        taken = self.look()
        self._interval = BUSY_INTERVAL if taken else min(self._interval * 2, IDLE_INTERVAL)
        self._schedule_look()

    def look(self) -> int:
        """Take what messages there are; the number of events. Raises the transport's errors."""
        for taken in range(_PER_LOOK):
            try:
                self.connection.drain_events(timeout=0)
            except TimeoutError:
                return taken
        return _PER_LOOK
