"""The step that makes the pool."""

from __future__ import annotations

from typing import Any

from canvaslite import bootsteps
from canvaslite.worker.preparation import ProcessPreparation, ThreadPreparation

__all__ = ('Pool',)

#: Seconds that idle processes have to end by themselves.
STOP_TIMEOUT = 10.0


class Pool(bootsteps.StartStopStep):
    """What runs the tasks."""

    requires = ('canvaslite.worker.steps.hub:Hub',)

    def create(self, w: Any) -> None:
        pool_class = w.pool_cls
        if pool_class.can_interrupt:
            preparation: Any = ProcessPreparation(w.app, w.hostname, w.loglevel, w.logfile)
        else:
            preparation = ThreadPreparation(w.app, w.hostname, announces=pool_class.name == 'solo')
        w.pool = w.outcomes.pool = pool_class(
            w.concurrency, preparation, w.outcomes, max_tasks_per_child=w.max_tasks_per_child,
            max_memory_per_child=w.max_memory_per_child, release=w.release_inherited,
            timeout=w.time_limit, soft_timeout=w.soft_time_limit)

    def start(self, w: Any) -> None:
        w.pool.start(w.hub)

    def stop(self, w: Any) -> None:
        w.pool.stop(STOP_TIMEOUT)

    def terminate(self, w: Any) -> None:
        w.pool.terminate()

    def info(self, w: Any) -> dict[str, Any]:
        return {'pool': w.pool.info}
