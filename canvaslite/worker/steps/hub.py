"""The step that makes the event loop."""

from __future__ import annotations

from typing import Any

from kombu.asynchronous import Hub as KombuHub
from kombu.asynchronous import set_event_loop

from canvaslite import bootsteps

__all__ = ('Hub',)


class Hub(bootsteps.StartStopStep):
    """kombu's event loop, with a bell that wakes it for signals."""

    def create(self, w: Any) -> None:
        w.hub = KombuHub()
        w.timer = w.hub.timer
        # Errors of the connection in a timer (heartbeats) are the consumer's to deal with.
        w.hub.propagate_errors = w.connection_errors
        set_event_loop(w.hub)

    def start(self, w: Any) -> None:
        w.bell.register(w.hub)

    def stop(self, w: Any) -> None:
        w.bell.unregister(w.hub)
        w.hub.close()

    def terminate(self, w: Any) -> None:
        self.stop(w)
