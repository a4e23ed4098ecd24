"""The step that consumes: the last one, in which a worker spends its life."""

from __future__ import annotations

from typing import Any

from kombu.utils.imports import symbol_by_name

from canvaslite import bootsteps

__all__ = ('Consumer',)


class Consumer(bootsteps.StartStopStep):
    """The consumer."""

    requires = ('canvaslite.worker.steps.pool:Pool',)
    last = True

    def create(self, w: Any) -> Any:
        consumer_class = symbol_by_name(w.consumer_cls)
        w.consumer = w.outcomes.consumer = consumer_class(w.app, w, init_callback=w.on_consumer_ready)
        return w.consumer
