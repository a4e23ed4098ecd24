"""The steps of a consumer, started anew with each connection: connection, remote control, tasks, event loop."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from amqp.exceptions import ResourceLocked
from kombu import Consumer as KombuConsumer
from kombu.common import ignore_errors

from canvaslite import bootsteps
from canvaslite.utils.log import worker_logger as logger
from canvaslite.worker.commands import Panel, PanelState
from canvaslite.worker.connection import Binding
from canvaslite.worker.intake import Intake
from canvaslite.worker.receipts import MessageReceipts, NoReceipts, RawReceipts

#: Seconds after which a mailbox that another worker holds is asked for again.
LOCKED_RETRY = 1.0


class Connection(bootsteps.StartStopStep):
    """The consumer's connection. It outlives this step: running tasks are still to be acknowledged on it."""

    def start(self, c: Any) -> None:
        conf = c.app.conf
        connection = c.recovery.connect(conf.broker_heartbeat)
        c.connection = connection
        c.connection_errors = c.recovery.errors_of(connection)
        c.binding = Binding(c.hub, connection, conf.broker_heartbeat_checkrate)
        logger.info('Connected to %s', connection.as_uri())

    def info(self, c: Any) -> dict[str, Any]:
        if c.connection is None:
            return {'broker': 'N/A'}
        # Alternates have passwords in them.
        return {'broker': {**c.connection.info(), 'password': None, 'alternates': []}}


class Control(bootsteps.StartStopStep):
    """This worker's mailbox of remote control, on a channel of its own."""

    requires = (Connection,)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        self.node: Any = None
        self.consumer: Any = None

    def include_if(self, c: Any) -> bool:
        return bool(c.app.conf.worker_enable_remote_control
                    and c.app.connection_for_read().supports_exchange_type('fanout'))

    def start(self, c: Any) -> None:
        state = PanelState(app=c.app, hostname=c.hostname, consumer=c)
        self.node = c.app.control.mailbox.Node(c.hostname, handlers=Panel.data, state=state)
        self._open_mailbox(c, c.connection)

    def _open_mailbox(self, c: Any, connection: Any, tries: int = 0) -> None:
        """Listen to the mailbox, or try later while a worker of our name holds it, which may have been killed just now.
        """
        if c.connection is not connection:
            return
        self.node.channel = connection.channel()
        try:
            self.consumer = self.node.listen(callback=self._on_message)
        except ResourceLocked:
            if tries == 1:
                logger.warning('Another worker named %s is connected: this one gets no remote control until that one '
                               'has stopped. Give it another name with --hostname.', c.hostname)
            c.hub.call_later(LOCKED_RETRY, self._open_mailbox, c, connection, tries + 1)

    def _on_message(self, body: Any, message: Any) -> None:
        try:
            self.node.handle_message(body, message)
        except KeyError as exc:
            logger.error('No such control command: %s', exc)
        except Exception as exc:
            logger.exception('Control command error: %r', exc)

    def stop(self, c: Any) -> None:
        consumer, self.consumer = self.consumer, None
        if c.connection is not None and consumer is not None:
            ignore_errors(c.connection, consumer.cancel)
            ignore_errors(c.connection, self.node.channel.close)

    terminate: Any = stop


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


class Tasks(bootsteps.StartStopStep):
    """Consumers of the task queues."""

    requires = (Control,)

    def start(self, c: Any) -> None:
        channel = c.connection.default_channel
        queues = list(c.app.amqp.queues.consume_from.values())
        c.qos_global = self._is_qos_global(c, queues)
        raw = hasattr(channel, 'consume_raw')
        c.receipts = RawReceipts(channel) if raw else MessageReceipts()
        c.intake = Intake(c, c.receipts, c.prefetch, c.returns)
        subscription = (RawSubscription if raw else Subscription)(channel, queues, c.intake)
        c.prefetch.update(c.tell_prefetch)
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

    terminate: Any = stop

    def info(self, c: Any) -> dict[str, Any]:
        return {'prefetch_count': c.prefetch.value}


class EventLoop(bootsteps.StartStopStep):
    """Turns of the loop, until the connection is lost or the worker is to stop; the last step."""

    last = True

    def start(self, c: Any) -> None:
        c.on_ready()
        shutdown, turn = c.shutdown_request, c.hub.run_once
        while shutdown.warm is None and shutdown.cold is None:
            turn()
        shutdown.check()
