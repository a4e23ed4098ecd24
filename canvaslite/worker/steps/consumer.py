"""The steps of a consumer, started anew with each connection: connection, remote control, tasks, event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NoReturn

from amqp.exceptions import AccessRefused, AMQPNotImplementedError, NotFound, RecoverableConnectionError, ResourceLocked
from kombu import Consumer as KombuConsumer
from kombu.common import Broadcast, ignore_errors
from kombu.transport.native_delayed_delivery import bind_queue_to_native_delayed_delivery_exchange
from kombu.transport.virtual import Channel as VirtualChannel

from canvaslite import bootsteps
from canvaslite.exceptions import WorkerShutdown
from canvaslite.publish.prepared import has_quorum_queue
from canvaslite.transport.delays import declare_levels
from canvaslite.utils.log import worker_logger as logger
from canvaslite.utils.redact import censor, one_line
from canvaslite.worker.commands import Panel, PanelState
from canvaslite.worker.connection import INTERVAL_START, Binding, FreeProcesses
from canvaslite.worker.delays import outlives_worker
from canvaslite.worker.intake import Intake
from canvaslite.worker.receipts import MessageReceipts, NoReceipts, RawReceipts

#: Seconds after which a mailbox that another worker holds is asked for again.
LOCKED_RETRY = 1.0


class Connection(bootsteps.StartStopStep):
    """The consumer's connection. It outlives this step: running tasks are still to be acknowledged on it."""

    def start(self, c: Any) -> None:
        conf = c.app.conf
        connection = c.recovery.connect(conf.broker_heartbeat)
        c.connection = c.delays.source = connection
        c.connection_errors = c.recovery.errors_of(connection)
        c.binding = Binding(c.hub, connection, conf.broker_heartbeat_checkrate)
        logger.info('Connected to %s', connection.as_uri())

    def info(self, c: Any) -> dict[str, Any]:
        if c.connection is None:
            return {'broker': 'N/A'}
        return {'broker': {**censor(c.connection.info()), 'password': None, 'alternates': []}}


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
        """Listen to the mailbox, or try later while a worker of our name holds it, which may have been killed."""
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
        except connection.channel_errors as exc:
            logger.error('This worker gets no remote control: %s. Let the user of the broker_url use %s, or turn '
                         'worker_enable_remote_control off.', one_line(exc), self.node.mailbox.exchange.name)
            ignore_errors(connection, self.node.channel.close)
        else:
            if hasattr(self.node.channel, 'cancel_callbacks'):
                on_cancel = partial(self._on_cancel, c, connection)
                self.node.channel.cancel_callbacks.update(dict.fromkeys(self.consumer._active_tags.values(), on_cancel))

    def _on_cancel(self, c: Any, connection: Any, tag: str) -> None:
        """The broker has ended the consumer: the queue was deleted, or moved. Without this the connection would end."""
        logger.warning('consumer: The broker has cancelled consuming from %s, by which remote control comes: declaring '
                       'it anew.', ', '.join(self.consumer._active_tags))
        ignore_errors(connection, self.node.channel.close)
        c.hub.call_soon(self._open_mailbox, c, connection)

    def _on_message(self, body: Any, message: Any) -> None:
        try:
            self.node.handle_message(body, message)
        except Exception as exc:
            self.node.refuse(exc)

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
        intake.subscription = self
        self._is_paused = False
        super().__init__(channel, list(queues), on_message=intake.on_message, on_decode_error=intake.on_decode_error)

    def pause(self) -> None:
        """No process is free."""
        self._is_paused = True

    def resume(self) -> None:
        """One is again."""
        if self._is_paused:
            self._is_paused = False
            self.consume()


class RawSubscription(Subscription):
    """Consumers of a channel of ours, which gives messages as bytes."""

    def _basic_consume(self, queue: Any, consumer_tag: str | None = None, no_ack: bool | None = None,
                       nowait: bool = True) -> None:
        if queue.name not in self._active_tags and not (self._is_paused and _can_wait(queue)):
            on_delivery = self.intake.on_delivery
            callback = partial(on_delivery, receipts=NoReceipts()) if queue.no_ack else on_delivery
            self.channel.consume_raw(
                queue.name, callback, no_ack=queue.no_ack, consumer_tag=self._add_tag(queue, consumer_tag),
                arguments=queue.consumer_arguments, on_cancel=self._on_cancel)

    def pause(self) -> None:
        """End those consumers whose queues do not mind: unlike other transports, RabbitMQ does not ask us."""
        super().pause()
        for name, tag in list(self._active_tags.items()):
            if _can_wait(self._queues[name]):
                self.channel.basic_cancel(tag)
                del self._active_tags[name]

    def queue_of(self, delivery: Any) -> Any:
        """The queue from which a message came; None if it is no longer consumed from."""
        return next((self._queues.get(name) for name, tag in self._active_tags.items()
                     if tag == delivery.consumer_tag), None)

    def _on_cancel(self, tag: str) -> None:
        """The broker has ended a consumer: its queue was deleted, or moved. Declare it and consume again."""
        for name in [name for name, known in self._active_tags.items() if known == tag]:
            logger.warning('consumer: The broker has cancelled consuming from %s: consuming again.', name)
            del self._active_tags[name]
            self.intake.hub.call_soon(self._consume_anew)

    def _consume_anew(self) -> None:
        self.declare()
        self.consume()


def _can_wait(queue: Any) -> bool:
    """Whether the queue stays without a consumer, and gives its messages to others just then."""
    return outlives_worker(queue) and not (queue.queue_arguments or {}).get('x-single-active-consumer')


class Tasks(bootsteps.StartStopStep):
    """Consumers of the task queues."""

    requires = (Control,)

    def start(self, c: Any) -> None:
        channel = c.connection.default_channel
        queues = list(c.app.amqp.queues.consume_from.values())
        c.prefetch.is_static = self._counts_for_each(c, queues)
        c.qos_global = not (c.prefetch.is_static or c.connection.qos_semantics_matches_spec)
        raw = hasattr(channel, 'consume_raw')
        c.receipts = RawReceipts(channel) if raw else MessageReceipts()
        c.intake = Intake(c, c.receipts, c.prefetch, c.returns)
        try:
            subscription = (RawSubscription if raw else Subscription)(channel, queues, c.intake)
            if isinstance(c.prefetch, FreeProcesses) and isinstance(channel, VirtualChannel):
                c.prefetch.bind(channel.qos)
            c.prefetch.update(partial(c.tell_prefetch, subscription))
            c.binding.attach()
            subscription.consume()
        except AMQPNotImplementedError:
            # What RabbitMQ closes the connection with. Without such a queue among ours it would only come again.
            c.has_hidden_quorum_queue = True
            raise
        except c.connection.channel_errors as exc:
            if isinstance(exc, c.connection_errors):
                raise
            self._refuse(c, exc)
        c.task_consumer = subscription

    def _refuse(self, c: Any, exc: Exception) -> NoReturn:
        """The broker does not let us consume. At the start somebody is there to mend it; a worker that has worked waits
        until it does: a broker that has just come back may lack queues for a while."""
        advice = ('Have task_queues, task_default_queue_type and task_queue_max_priority say what the queue is, or '
                  'delete it')
        if isinstance(exc, AccessRefused):
            advice = 'Give the user of the broker_url the permission'
        logger.critical('Cannot consume from the task queues: %s. %s.', one_line(exc), advice)
        if c.restart_count == 0:
            raise WorkerShutdown(1) from exc
        c.wait(INTERVAL_START)
        raise RecoverableConnectionError(str(exc)) from exc

    def _counts_for_each(self, c: Any, queues: list[Any]) -> bool:
        """Whether there is no count for all queues together, but one for each consumer, as quorum queues have it.

        A queue may be a quorum queue by the broker's choice, which shows when it refuses the one count.
        """
        if c.has_hidden_quorum_queue or (c.app.conf.worker_detect_quorum_queues and any(
                (queue.queue_arguments or {}).get('x-queue-type') == 'quorum' for queue in queues)):
            logger.info('Global QoS is disabled: there are quorum queues. Prefetch count is now static.')
            return True
        return False

    def stop(self, c: Any) -> None:
        c.task_consumer = None

    terminate: Any = stop

    def info(self, c: Any) -> dict[str, Any]:
        return {'prefetch_count': c.prefetch.value}


class DelayedDelivery(bootsteps.StartStopStep):
    """The delay queues to which senders give tasks with an ETA where quorum queues are used, by Celery's rules."""

    requires = (Tasks,)

    def include_if(self, c: Any) -> bool:
        return has_quorum_queue(c.app.amqp.queues)

    def start(self, c: Any) -> None:
        if c.connection.transport.driver_type != 'amqp':
            return
        kind = c.app.conf.broker_native_delayed_delivery_queue_type
        queues = c.app.amqp.queues
        refusals = self._try(c, partial(self._declare, c, kind))
        for queue in queues.values():
            if not (isinstance(queue, Broadcast) or (queue.exchange and queue.exchange.type == 'direct')):
                # One that is not to be had keeps the others from nothing; those of other workers may not be there yet.
                refusals += self._try(c, partial(bind_queue_to_native_delayed_delivery_exchange, c.connection, queue),
                                      () if queue.name in queues.consume_from else NotFound)
        if refusals:
            logger.error('Senders cannot have the broker delay tasks, or not for all queues: %s. Are its queues '
                         "celery_delayed_0 to 27 of broker_native_delayed_delivery_queue_type = '%s', and may this "
                         'user declare them?', '; '.join(refusals), kind)

    def _declare(self, c: Any, kind: str) -> None:
        with c.connection.channel() as channel:
            declare_levels(channel, kind)

    def _try(self, c: Any, function: Callable[[], Any], expected: Any = ()) -> list[str]:
        """Call `function`; what the broker has against it, unless that is `expected`."""
        try:
            function()
        except c.connection.channel_errors as exc:
            return [] if isinstance(exc, expected) else [one_line(exc)]
        return []


class EventLoop(bootsteps.StartStopStep):
    """Turns of the loop, until the connection is lost or the worker is to stop; the last step."""

    last = True

    def start(self, c: Any) -> None:
        c.on_ready()
        shutdown, turn = c.shutdown_request, c.hub.run_once
        while shutdown.warm is None and shutdown.cold is None:
            turn()
        shutdown.check()
