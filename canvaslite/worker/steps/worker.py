"""The steps of a worker: the event loop, the pool, and the consumer in which it spends its life."""

from __future__ import annotations

from typing import Any

from kombu.asynchronous import Hub as KombuHub
from kombu.asynchronous import set_event_loop
from kombu.utils.imports import symbol_by_name

from canvaslite import bootsteps
from canvaslite.pools.base import Preparation
from canvaslite.worker import sweeping

#: Seconds that idle processes have to end by themselves.
STOP_TIMEOUT = 10.0


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

    terminate: Any = stop


class Pool(bootsteps.StartStopStep):
    """What runs the tasks."""

    requires = (Hub,)

    def create(self, w: Any) -> None:
        w.pool = w.outcomes.pool = w.pool_cls(
            w.concurrency, Preparation(w.app, w.hostname, w.pool_cls), w.outcomes, release=w.release_inherited,
            max_tasks_per_child=w.max_tasks_per_child, max_memory_per_child=w.max_memory_per_child,
            timeout=w.time_limit, soft_timeout=w.soft_time_limit)

    def start(self, w: Any) -> None:
        w.pool.start(w.hub)

    def stop(self, w: Any) -> None:
        w.pool.stop(STOP_TIMEOUT)

    def terminate(self, w: Any) -> None:
        w.pool.terminate()

    def info(self, w: Any) -> dict[str, Any]:
        return {'pool': w.pool.info}


class Sweeper(bootsteps.StartStopStep):
    """Looks after chords, where the store joins them."""

    requires = (Pool,)

    def include_if(self, w: Any) -> bool:
        return w.app.backend.join is not None

    def start(self, w: Any) -> None:
        self.sweeper = sweeping.Sweeper(w.hub, w.pool)

    def stop(self, w: Any) -> None:
        self.sweeper.stop()

    terminate: Any = stop


class Consumer(bootsteps.StartStopStep):
    """The consumer; the last step."""

    requires = (Sweeper,)
    last = True

    def create(self, w: Any) -> Any:
        consumer_class = symbol_by_name(w.consumer_cls)
        w.consumer = w.outcomes.consumer = consumer_class(w.app, w, init_callback=w.on_consumer_ready)
        return w.consumer
