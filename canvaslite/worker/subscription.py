"""Subscriptions: the queues a worker consumes from, on RabbitMQ as raw deliveries, elsewhere as kombu messages."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from kombu import Consumer as KombuConsumer

from canvaslite.utils.log import worker_logger as logger
from canvaslite.worker.intake import Intake
from canvaslite.worker.receipts import NoReceipts


class Subscription(KombuConsumer):  # type: ignore[misc]
    """Consumers of one channel, as kombu messages; each queue is declared before it is consumed from."""

    def __init__(self, channel: Any, queues: Iterable[Any], intake: Intake) -> None:
        self.intake = intake
        super().__init__(channel, list(queues), on_message=intake.on_message, on_decode_error=intake.on_decode_error)


class RawSubscription(Subscription):
    """Consumers of a channel of ours, which gives messages as bytes."""

    def _basic_consume(self, queue: Any, consumer_tag: str | None = None, no_ack: bool | None = None,
                       nowait: bool = True) -> None:
        if queue.name not in self._active_tags:
            on_delivery = self.intake.on_delivery
            callback = partial(on_delivery, receipts=NoReceipts()) if queue.no_ack else on_delivery
            self._active_tags[queue.name] = self.channel.consume_raw(
                queue.name, callback, no_ack=queue.no_ack, arguments=queue.consumer_arguments,
                on_cancel=self._on_cancel)

    def _on_cancel(self, tag: str) -> None:
        """The broker has ended a consumer: its queue was deleted, or moved. Declare it and consume again."""
        for name in [name for name, known in self._active_tags.items() if known == tag]:
            logger.warning('consumer: The broker has cancelled consuming from %s: consuming again.', name)
            del self._active_tags[name]
            self.intake.hub.call_soon(self.declare)
            self.intake.hub.call_soon(self.consume)
