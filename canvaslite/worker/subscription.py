"""Subscriptions: the queues a worker consumes from, on RabbitMQ as raw deliveries, elsewhere as kombu messages."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

from kombu import Consumer as KombuConsumer

from canvaslite.worker.intake import Intake
from canvaslite.worker.receipts import MessageReceipts, NoReceipts, RawReceipts

__all__ = ('MessageSubscription', 'RawSubscription', 'is_raw_channel', 'make_receipts')

logger = logging.getLogger('canvaslite.worker')


def is_raw_channel(channel: Any) -> bool:
    """Whether `channel` gives messages as bytes (`transport.channel.Channel`)."""
    return hasattr(channel, 'consume_raw')


def make_receipts(channel: Any) -> RawReceipts | MessageReceipts:
    """Receipts for the messages of `channel`."""
    return RawReceipts(channel) if is_raw_channel(channel) else MessageReceipts()


class RawSubscription:
    """Consumers of a channel of ours. `queues` are kombu queues; each is declared, then consumed from."""

    def __init__(self, channel: Any, queues: Iterable[Any], intake: Intake) -> None:
        self.channel = channel
        self.intake = intake
        self._queues = {queue.name: queue for queue in queues}
        self._tags: dict[str, str] = {}

    @property
    def queues(self) -> list[Any]:
        return list(self._queues.values())

    def consume(self) -> None:
        """Start consuming from the queues that are not consumed from yet."""
        for queue in self.queues:
            if queue.name not in self._tags:
                self._consume_from(queue)

    def _consume_from(self, queue: Any) -> None:
        bound = queue(self.channel)
        if not queue.no_declare:
            bound.declare()
        on_delivery = self.intake.on_delivery
        callback = partial(on_delivery, receipts=NoReceipts()) if queue.no_ack else on_delivery
        self._tags[queue.name] = self.channel.consume_raw(
            bound.name, callback, no_ack=queue.no_ack, arguments=queue.consumer_arguments, on_cancel=self._on_cancel)

    def _on_cancel(self, tag: str) -> None:
        """The broker has ended a consumer: its queue was deleted, or moved. Declare it and consume again."""
        for name in [name for name, known in self._tags.items() if known == tag]:
            logger.warning('consumer: The broker has cancelled consuming from %s: consuming again.', name)
            del self._tags[name]
            self.intake.hub.call_soon(self.consume)

    def add_queue(self, queue: Any) -> None:
        self._queues[queue.name] = queue

    def consuming_from(self, queue: Any) -> bool:
        return getattr(queue, 'name', queue) in self._queues

    def cancel_by_queue(self, name: str) -> None:
        """Consume from the queue `name` no longer."""
        self._queues.pop(name, None)
        tag = self._tags.pop(name, None)
        if tag is not None:
            self.channel.basic_cancel(tag)

    def cancel(self) -> None:
        """Consume from no queue any longer."""
        for name in list(self._tags):
            self.channel.basic_cancel(self._tags.pop(name))

    def set_prefetch(self, count: int, apply_global: bool) -> None:
        self.channel.basic_qos(0, count, apply_global)


class MessageSubscription(KombuConsumer):  # type: ignore[misc]
    """A kombu consumer."""

    def __init__(self, channel: Any, queues: Iterable[Any], intake: Intake) -> None:
        super().__init__(channel, list(queues), on_message=intake.on_message, on_decode_error=intake.on_decode_error)

    def set_prefetch(self, count: int, apply_global: bool) -> None:
        self.qos(prefetch_count=count, apply_global=apply_global)
