"""The steps of a worker: the event loop, the pool, and the consumer in which it spends its life."""

from __future__ import annotations

from typing import Any

from kombu.asynchronous import Hub as KombuHub
from kombu.asynchronous import set_event_loop
from kombu.utils.imports import symbol_by_name

from canvaslite import bootsteps
from canvaslite.pools.base import Preparation
from canvaslite.worker import statefile, sweeping

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


class StateFile(bootsteps.StartStopStep):
    """What survives a restart, if that is wished."""

    requires = (Hub,)

    def include_if(self, w: Any) -> bool:
        return bool(w.statedb)

    def create(self, w: Any) -> None:
        self.file = statefile.StateFile(w.statedb, w.state.revoked, w.app.control.mailbox.clock, w.hub)

    def stop(self, w: Any) -> None:
        self.file.close()

    terminate: Any = stop


class Pool(bootsteps.StartStopStep):
    """What runs the tasks."""

    requires = (Hub,)

    def create(self, w: Any) -> None:
        w.pool = w.outcomes.pool = w.pool_cls(
            w.concurrency, Preparation(w.app, w.hostname, w.pool_cls, log=(w.loglevel, w.logfile)), w.outcomes,
            release=w.release_inherited, start_method=w.app.conf.worker_pool_start_method,
            max_tasks_per_child=w.max_tasks_per_child, max_memory_per_child=w.max_memory_per_child,
            alive_timeout=w.app.conf.worker_proc_alive_timeout, timeout=w.time_limit, soft_timeout=w.soft_time_limit,
            patience=w.app.conf.worker_soft_shutdown_timeout)
        w.shutdown.interrupt = w.pool.interrupt

    def start(self, w: Any) -> None:
        w.pool.start(w.hub)

    def stop(self, w: Any) -> None:
        w.pool.stop(STOP_TIMEOUT)

    def terminate(self, w: Any) -> None:
        w.pool.terminate()

    def info(self, w: Any) -> dict[str, Any]:
        return {'pool': w.pool.info}


class Autoscaler(bootsteps.StartStopStep):
    """What changes the pool's size, if that is wished."""

    requires = (Pool,)

    def include_if(self, w: Any) -> bool:
        return w.autoscale is not None

    def create(self, w: Any) -> Any:
        w.autoscaler = symbol_by_name(w.app.conf.worker_autoscaler)(w.pool, *w.autoscale, worker=w)
        return w.autoscaler

    def info(self, w: Any) -> dict[str, Any]:
        return {'autoscaler': self.obj.info()}


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

    requires = (Sweeper, Autoscaler)
    last = True

    def create(self, w: Any) -> Any:
        consumer_class = symbol_by_name(w.consumer_cls)
        w.consumer = w.outcomes.consumer = consumer_class(w.app, w, init_callback=w.on_consumer_ready)
        return w.consumer
