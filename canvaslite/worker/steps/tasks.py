"""The step that starts consuming tasks."""

from __future__ import annotations

import logging
from typing import Any

from canvaslite import bootsteps
from canvaslite.worker.intake import Intake
from canvaslite.worker.subscription import MessageSubscription, RawSubscription, is_raw_channel, make_receipts

__all__ = ('Tasks',)

logger = logging.getLogger('canvaslite.worker')


class Tasks(bootsteps.StartStopStep):
    """Consumers of the task queues."""

    requires = ('canvaslite.worker.steps.control:Control',)

    def start(self, c: Any) -> None:
        channel = c.connection.default_channel
        queues = list(c.app.amqp.queues.consume_from.values())
        c.qos_global = self._is_qos_global(c, queues)
        c.receipts = make_receipts(channel)
        c.intake = Intake(c, c.receipts, c.prefetch, c.returns)
        kind = RawSubscription if is_raw_channel(channel) else MessageSubscription
        subscription = kind(channel, queues, c.intake)
        c.prefetch.update(lambda count: channel.basic_qos(0, count, c.qos_global))
        c.binding.attach()
        subscription.consume()
        c.task_consumer = subscription

    def _is_qos_global(self, c: Any, queues: list[Any]) -> bool:
        """Whether one count is for all queues together. Quorum queues, and RabbitMQ from 4.0 on, count for each."""
        if c.app.conf.worker_detect_quorum_queues and any(
                (queue.queue_arguments or {}).get('x-queue-type') == 'quorum' for queue in queues):
            logger.info('Global QoS is disabled: there are quorum queues. Prefetch count is now static.')
            return False
        return not c.connection.qos_semantics_matches_spec

    def stop(self, c: Any) -> None:
        c.task_consumer = None

    def terminate(self, c: Any) -> None:
        self.stop(c)

    def info(self, c: Any) -> dict[str, Any]:
        return {'prefetch_count': c.prefetch.value}
