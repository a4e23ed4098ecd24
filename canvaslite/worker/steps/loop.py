"""The step that runs the loop, until the connection is lost or the worker is to stop."""

from __future__ import annotations

from typing import Any

from canvaslite import bootsteps

__all__ = ('EventLoop',)


class EventLoop(bootsteps.StartStopStep):
    """Turns of the loop."""

    last = True

    def start(self, c: Any) -> None:
        c.on_ready()
        shutdown, turn = c.shutdown_request, c.turn
        while shutdown.warm is None and shutdown.cold is None:
            turn()
        shutdown.check()
