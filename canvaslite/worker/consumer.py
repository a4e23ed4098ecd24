"""`Consumer`: the part of a worker that lives as long as one broker connection, and is started anew with each."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from queue import Empty
from typing import Any

from canvaslite import bootsteps
from canvaslite.transport.connection import close_inherited
from canvaslite.utils.log import worker_logger as logger
from canvaslite.utils.redact import for_log
from canvaslite.worker.connection import Binding, FreeProcesses, Prefetch, Recovery
from canvaslite.worker.delays import Delays
from canvaslite.worker.intake import Intake
from canvaslite.worker.receipts import MessageReceipts, Returns
from canvaslite.worker.request import Request, Stage

#: Seconds that the farewell to a broken connection may take, and that a stop waits for the broker to confirm what it is
#: to keep until its ETA.
CLOSE_TIMEOUT, DELAY_TIMEOUT = 5.0, 5.0
#: Seconds that a cold stop waits for the store to learn of tasks that nobody will run again.
LAST_WORDS = 3.0


class Consumer:
    """Takes messages and tells the broker what became of them; steps and commands use what has no underscore."""

    class Blueprint(bootsteps.Blueprint):
        """What is started with each connection; the last step runs the loop."""

        name = 'Consumer'
        default_steps = tuple(f'canvaslite.worker.steps.consumer:{step}'
                              for step in ('Connection', 'Control', 'Tasks', 'DelayedDelivery', 'EventLoop'))

    def __init__(self, app: Any, controller: Any, init_callback: Callable[[Any], Any] | None = None) -> None:
        self.app = app
        #: The worker.
        self.controller = controller
        self.hostname: str = controller.hostname
        self.hub = controller.hub
        self.timer = controller.hub.timer
        self.pool = controller.pool
        self.state = controller.state
        self.policies = controller.policies
        self.outcomes = controller.outcomes
        self.shutdown_request = controller.shutdown
        self.init_callback = init_callback
        self.restart_count = -1
        self.prefetch_multiplier: int = controller.prefetch_multiplier
        self.prefetch = self._make_prefetch(app.conf)
        self.returns: Returns = controller.returns
        self.recovery = Recovery(app, self.wait)
        self.delays = Delays(app, controller.bell.ring)
        self.event_dispatcher: Any = None
        #: Messages come in.
        self.is_consuming = False
        # Of one connection:
        self.connection: Any = None
        self.connection_errors: tuple[type[BaseException], ...] = controller.connection_errors
        self.binding: Binding | None = None
        self.receipts: Any = None
        self.intake: Intake | None = None
        self.task_consumer: Any = None
        self.qos_global = True
        self.has_hidden_quorum_queue = False
        self.steps: list[Any] = []
        self.blueprint = self.Blueprint(steps=app.steps['consumer'])
        self.blueprint.apply(self)
        self.hub.on_tick.add(self.hand_over)

    def _make_prefetch(self, conf: Any) -> Prefetch:
        if conf.worker_disable_prefetch:
            self.prefetch_multiplier = 1
            return FreeProcesses(self.state, lambda: self.controller.max_concurrency, conf.worker_eta_task_limit)
        return Prefetch(self.controller.max_concurrency * self.prefetch_multiplier, conf.worker_eta_task_limit,
                        self.prefetch_multiplier)

    # -- life

    def start(self) -> None:
        """Consume until told to stop, with one connection after the other."""
        while True:
            self.shutdown_request.check()
            self.restart_count += 1
            try:
                self.blueprint.start(self)
            except Exception as exc:
                if not self._is_survivable(exc):
                    raise
                self.is_consuming = False
                self.blueprint.restart(self)
                self.drop_connection()
                self.recovery.note_loss(exc)
                if self.app.conf.worker_cancel_long_running_tasks_on_connection_loss:
                    self._cancel_late_tasks()

    def _is_survivable(self, exc: BaseException) -> bool:
        """Whether another connection may help: when this one is lost, or when a channel that worked was closed.

        RabbitMQ closes a channel on which a message stays unacknowledged for too long (``consumer_timeout``). An error
        while starting, as for a queue declared otherwise, would only come again. kombu's transports for other brokers
        raise anything for what is no message at all, and have taken it off the queue by then.
        """
        if isinstance(exc, self.connection_errors):
            return True
        return self.is_consuming and self.connection is not None and (
            isinstance(self.receipts, MessageReceipts) or isinstance(exc, self.connection.channel_errors))

    def drop_connection(self) -> None:
        """Let go of the connection and of all messages that wait here: the broker delivers them again."""
        connection = self._detach()
        receipts, self.receipts = self.receipts, None
        self.task_consumer = self.intake = None
        self.prefetch.forget()
        self.delays.gathered.clear()
        if receipts is not None:
            for request in self.take_back_unstarted():
                self.state.let_go(request)
            running = self.state.requests()
            self.returns.expect(running, receipts.remembered)
            if self.app.conf.worker_enable_prefetch_count_reduction:
                self.prefetch.hold_back(running)
        self._close_broken(connection)

    def _detach(self) -> Any:
        """Take the connection off the loop and end its receipts; returns it, if there was one."""
        connection, self.connection = self.connection, None
        if self.binding is not None:
            self.binding.detach()
            self.binding = None
        if self.receipts is not None:
            self.receipts.close()
        return connection

    def _close_broken(self, connection: Any) -> None:
        if connection is not None:
            try:
                connection.collect(socket_timeout=CLOSE_TIMEOUT)
                connection.release()
            except Exception as exc:
                logger.debug('While closing a broken connection: %r', exc)

    def _cancel_late_tasks(self) -> None:
        for request in self.state.requests(Stage.ACTIVE):
            if not request.early and request.verdict is None:
                logger.warning('Task %s cannot be acknowledged after a connection loss since late acknowledgement is '
                               'enabled for it. Terminating it instead.', request)
                self.outcomes.cancel(request)

    def take_back_unstarted(self) -> list[Request]:
        """The requests that did not start, taken from wherever they wait."""
        taken: list[Request] = self.pool.withdraw(lambda request: request.stage is not Stage.ACTIVE)
        taken += self.state.requests(Stage.SCHEDULED)
        taken += self.policies.empty_buckets()
        for request in set(self.state.requests()).difference(taken):
            request.stage = Stage.ACTIVE
        return taken

    def stop(self) -> None:
        """Stop warmly: take nothing more, give back what did not start, let end what runs."""
        self.stop_consuming()
        self._drain()
        self.blueprint.stop(self)
        self.shutdown()

    def stop_consuming(self) -> None:
        """Take nothing more, and give back what did not start."""
        if self.intake is not None:
            self.intake.closed = True
        if self.task_consumer is not None:
            self._guarded(self.task_consumer.cancel)
            self.task_consumer = None
        self.delays.gathered.clear()
        self._settle_delayed(DELAY_TIMEOUT)
        for request in self.take_back_unstarted():
            self._guarded(request.reject, True)
            self.state.let_go(request)

    def _drain(self, timeout: float | None = None) -> None:
        """Let the loop run until the pool has nothing more to do, or for `timeout` seconds."""
        shutdown = self.shutdown_request
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.pool.pending():
            if deadline is None:
                shutdown.check_cold()
            elif time.monotonic() > deadline or not shutdown.is_patient:
                break
            self._guarded(self.hub.run_once)
        self._guarded(self.hand_over)

    def _guarded(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function`; with the connection lost, go on without one."""
        try:
            function(*args)
        except Exception as exc:
            if not isinstance(exc, self.connection_errors):
                raise
            logger.warning('consumer: Connection to broker lost while stopping: %r', exc)
            self.drop_connection()

    def terminate(self) -> None:
        """Stop coldly: after ``worker_soft_shutdown_timeout``, whatever runs is killed."""
        patience = self.app.conf.worker_soft_shutdown_timeout
        if patience and (self.pool.pending() or self.app.conf.worker_enable_soft_shutdown_on_idle):
            logger.warning('Initiating Soft Shutdown, terminating in %s seconds', patience)
            self.stop_consuming()
            self._drain(patience)
        if self.intake is not None:
            self.intake.deaf = True
        self.task_consumer = None
        self._guarded(self.outcomes.flush)
        self._end_running()
        # Before the broker hears of it: it gives the messages of late tasks to others at once.
        self.pool.terminate()
        connection, self.connection = self.connection, None
        # No farewell: a broker that is silent must not keep us. It has the messages back when the socket is closed.
        self._close_broken(connection)
        self.blueprint.stop(self, terminate=True)
        self.shutdown()

    def _end_running(self) -> None:
        """End what runs. Of that, the broker has what is acknowledged late; the rest is recorded as lost."""
        self.outcomes.stopping_cold = True
        for request in self.take_back_unstarted():
            self.state.let_go(request)
        self.pool.end_running()
        self.shutdown_request.is_patient = True
        self._drain(LAST_WORDS)

    def shutdown(self) -> None:
        """Say goodbye to the broker."""
        self.blueprint.send_all(self, 'shutdown')
        self.delays.close()
        connection = self._detach()
        if connection is not None:
            try:
                connection.close()
            except Exception as exc:
                logger.debug('While closing the connection: %r', exc)

    # -- the loop

    def hand_over(self) -> None:
        """Give the processes what they are to have, and the broker its answers: in each turn, before the loop waits."""
        self._adjust_prefetch()
        if self.delays.gathered:
            self.delays.send()
        if self.delays.under_way:
            self._settle_delayed()
        self.pool.pump()
        if self.receipts is not None:
            self.receipts.flush()
        due = self.timer._queue
        if self.hub._ready or (due and due[0][0] <= time.monotonic()) or self._has_other_prefetch():
            # The loop would look at these only after it has waited: kombu's takes ten timers a turn, and what has run
            # in this thread just now has freed it.
            self.controller.bell.ring()

    def _settle_delayed(self, timeout: float = 0.0) -> None:
        """Acknowledge what the broker keeps until its ETA, and hold what it does not; wait up to `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.delays.under_way:
            try:
                batch, error = self.delays.take_answer(max(deadline - time.monotonic(), 0.0))
            except Empty:
                return
            for request in (parcel.request for parcel in batch):
                if error is None:
                    if not (request.acknowledged or request.received.is_lost):
                        self.prefetch.decrement()
                    self.outcomes.on_delayed(request)
                elif self.intake is not None and request.stage is Stage.SCHEDULED:
                    self.intake.hold_until_eta(request)

    def _adjust_prefetch(self) -> None:
        # Waiting for the broker's answer may bring more messages, which may change the count again.
        while self._has_other_prefetch():
            self.prefetch.update(partial(self.tell_prefetch, self.task_consumer))

    def _has_other_prefetch(self) -> bool:
        return self.task_consumer is not None and self.prefetch.value != self.prefetch.told

    def tell_prefetch(self, subscription: Any, count: int) -> None:
        """Have the broker send at most so many messages; with -1 none, from queues that can do without a consumer."""
        self.connection.default_channel.basic_qos(0, abs(count), self.qos_global)
        if count < 0:
            subscription.pause()
        else:
            subscription.resume()

    def flush(self) -> None:
        """Tell the broker what it is to know before a task runs in this thread. The count comes first: an
        acknowledgement makes room for another message."""
        self._adjust_prefetch()
        if self.receipts is not None:
            self.receipts.flush()

    def wait(self, seconds: float) -> None:
        """Let the loop run for `seconds`, without a connection. Raises when the worker is to stop."""
        deadline = time.monotonic() + seconds
        timer = self.hub.call_later(seconds, lambda: None)
        while time.monotonic() < deadline:
            self.shutdown_request.check()
            self.hub.run_once()
        timer.cancel()

    def on_ready(self) -> None:
        """Messages come in."""
        self.is_consuming = True
        if self.recovery.lost_at is not None:
            logger.info('consumer: Consuming again, %.1f seconds after the connection was lost.',
                        time.monotonic() - self.recovery.lost_at)
            self.recovery.lost_at = None
        callback, self.init_callback = self.init_callback, None
        if callback is not None:
            callback(self)

    def call_soon(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Have the loop call `function`. Its error is logged, and no more, but for a lost connection."""
        return self.hub.call_soon(self._call_safely, partial(function, *args, **kwargs))

    def _call_safely(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception as exc:
            if isinstance(exc, self.connection_errors):
                raise
            logger.error('A remote control command failed: %s', for_log(repr(exc)))
            logger.debug('That was:', exc_info=True)

    # -- for remote control

    def add_task_queue(self, queue: str, exchange: str | None = None, exchange_type: str | None = None,
                       routing_key: str | None = None, **options: Any) -> None:
        """Consume from one more queue, made if it is not known."""
        queues = self.app.amqp.queues
        if queue in queues:
            added = queues.select_add(queues[queue])
        else:
            added = queues.select_add(queue, exchange=queue if exchange is None else exchange,
                                      exchange_type=exchange_type or 'direct', routing_key=routing_key, **options)
        if self.task_consumer is not None and not self.task_consumer.consuming_from(added.name):
            if not self._can_declare(added):
                queues.deselect([added.name])
                return
            self.task_consumer.add_queue(added)
            self.task_consumer.consume()
            logger.info('Started consuming from %s', queue)

    def _can_declare(self, queue: Any) -> bool:
        """Declare `queue` on a channel that may be closed for it: the one with the tasks must not be."""
        try:
            with self.connection.channel() as channel:
                queue(channel).declare()
        except self.connection.channel_errors as exc:
            logger.error('Cannot consume from %s: %s', queue.name, exc)
            return False
        return True

    def cancel_task_queue(self, queue: str) -> None:
        """Consume from the queue no longer."""
        logger.info('Canceling queue %s', queue)
        queues = self.app.amqp.queues
        queues.deselect([queue])
        if self.task_consumer is not None:
            aliased = queues.aliases.get(queue)
            self.task_consumer.cancel_by_queue(queue if aliased is None else aliased.name)

    def update_prefetch(self) -> None:
        """The pool has another size."""
        if self.prefetch.base:
            self.prefetch.base = self.controller.max_concurrency * self.prefetch_multiplier

    def reset_rate_limits(self) -> None:
        """Read the tasks' rate limits again; what waits, waits for the new ones."""
        waiting = self.policies.empty_buckets()
        self.policies.refresh()
        for request in waiting:
            self.submit(request)

    def submit(self, request: Request) -> None:
        """On to the pool, or to the task's bucket where its rate is limited."""
        if request.policy.bucket is not None:
            request.policy.bucket.add(request, self.pool.submit, self.hub)
        else:
            self.pool.submit(request)

    def release_inherited(self) -> None:
        """In a child: let go of the parent's connection."""
        self.delays.release_inherited()
        if self.connection is not None:
            close_inherited(self.connection)
            self.connection = None

