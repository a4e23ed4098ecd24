"""Results as messages: each process that sends tasks has a queue, and the results of its tasks come back to it there.

Only the process that sent a task can read its result, and nothing is kept after it was read. A chord's parts are kept
in a queue of the chord's own (`queuejoin`), which takes RabbitMQ; on other brokers chords are refused.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, NoReturn

import kombu
from kombu.utils.encoding import ensure_bytes
from kombu.utils.functional import LRUCache

from canvaslite import exceptions, states, wire
from canvaslite.backends.base import AsyncBackendMixin, Backend, BaseResultConsumer
from canvaslite.backends.codec import Meta
from canvaslite.backends.queuejoin import QueueJoin, names_queue
from canvaslite.backends.queuelink import LOST
from canvaslite.backends.waiting import _Wait
from canvaslite.current import get_current_task
from canvaslite.transport.amqp import Transport
from canvaslite.transport.connection import close_inherited

__all__ = ('RPCBackend',)

logger = logging.getLogger('celery.backends.rpc')

NO_CHORDS = ('The "rpc" result backend supports chords (of which a group chained with a task is one) only on RabbitMQ: '
             'use amqp://, or as result_backend redis, db+sqlite, db+postgresql or file')

#: Results that nobody has asked for yet are kept, the newest of them.
RESULTS_KEPT = 16384

#: Seconds after which a reading thread looks whether another thread's queue is to be read too.
LONGEST_READ = 0.1

#: Seconds between attempts to reach a broker that is away.
PAUSE_BETWEEN_CONNECTIONS = 1.0


class ReplyConsumer(BaseResultConsumer):
    """Reads the reply queues of this process, on a connection of its own."""

    _connection: Any = None

    def __init__(self, backend: RPCBackend) -> None:
        super().__init__(backend)
        self.reset()

    def reset(self) -> None:
        """Forget the connection without speaking on it, and the queues: they are the parent's."""
        if self._connection is not None:
            close_inherited(self._connection)
        self._connection = None
        self._consumer: Any = None
        self._wanted: set[str] = set()
        self._arrived: list[Meta] = []
        self._complained = False

    def subscribe(self, task_ids: Collection[str]) -> None:
        """Read the queues of all threads: whichever of them has sent a task, its result comes to one of these."""
        self._wanted.update(tuple(self.backend.declared), (self.backend.app.thread_oid,))

    def unsubscribe(self, task_ids: Collection[str]) -> None:
        """Nothing to do: the queue is read as long as somebody waits for anything."""

    def look(self, task_ids: Collection[str]) -> Iterable[Meta]:
        """The results that have been read already."""
        received = self.backend.received
        return [received[task_id] for task_id in task_ids if task_id in received]

    def read(self, timeout: float) -> Iterable[Meta]:
        """Wait for a result; connect first where there is no connection."""
        try:
            if self._connection is None:
                self._connect()
            for name in tuple(self._wanted):
                if not self._consumer.consuming_from(name):
                    self._read_queue(name)
            self._connection.drain_events(timeout=max(0.001, min(timeout, LONGEST_READ)))
        except TimeoutError:
            pass  # nothing has come
        except self._recoverable() as exc:
            self._lose_connection(exc)
            time.sleep(min(timeout, PAUSE_BETWEEN_CONNECTIONS))
        arrived, self._arrived = self._arrived, []
        return arrived

    def poll(self) -> None:
        """Take what has arrived, if no other thread is reading."""
        with suppress(exceptions.TimeoutError):  # another thread was faster
            self._wait_turn(_Wait(set()), time.monotonic() + 0.005, None)

    def check(self) -> None:
        """Notice a connection that the broker has closed: the queue went with it, and must be declared anew."""
        connection = self._connection
        if connection is None or self._reading:
            return
        sock = getattr(getattr(connection, '_connection', None), 'sock', None)
        if sock is not None and select.select([sock], (), (), 0)[0]:
            self.poll()

    def _recoverable(self) -> tuple[type[BaseException], ...]:
        connection = self._connection or self.backend.app.connection_for_read()
        return (*connection.recoverable_connection_errors, *connection.recoverable_channel_errors, OSError)

    def _connect(self) -> None:
        connection = self.backend.app.connection_for_read()
        connection.connect()
        self._consumer = kombu.Consumer(connection.default_channel, [], on_message=self._on_message,
                                        accept=self.backend.accept, no_ack=True)
        self._connection = connection
        self._complained = False

    def _read_queue(self, name: str) -> None:
        queue = self.backend.reply_queue(name)
        bound = queue(self._consumer.channel)
        bound.declare()
        # What is there already is fetched, so that a result that has come is seen at the first look.
        while (message := bound.get(no_ack=True, accept=self.backend.accept)) is not None:
            self._on_message(message)
        self._consumer.add_queue(queue)
        self._consumer.consume()

    def _on_message(self, message: Any) -> None:
        task_id = message.properties.get('correlation_id')
        try:
            meta = self.backend.meta_from_decoded(message.payload)
        except Exception as exc:
            # Whoever waits must hear of it: no other message will come.
            logger.error('Result backend rpc: the result of %s cannot be read: %r', task_id, exc)
            meta = {'status': states.FAILURE, 'result': exc, 'traceback': None, 'children': None}
        meta['task_id'] = task_id = task_id or meta.get('task_id')
        if not self.backend.has_ended(task_id):
            self.backend.received[task_id] = meta
            self._arrived.append(meta)

    def _lose_connection(self, exc: BaseException) -> None:
        if not self._complained:
            self._complained = True
            logger.warning('Result backend rpc: the connection is lost (%s), connecting again; '
                           'results sent meanwhile are lost too', exc)
        connection, self._connection, self._consumer = self._connection, None, None
        if connection is not None:
            with suppress(Exception):  # it is broken: any error on closing it says the same
                connection.close()


def _attempt_of(request: Any) -> str | None:
    """What a chord's body says of its queue."""
    attempt = (request.headers or {}).get(wire.ATTEMPT_HEADER)
    return attempt if names_queue(attempt) else None


class RPCBackend(AsyncBackendMixin, Backend):
    """Results as messages on the queue named in the task message's ``reply_to``."""

    thread_safe = True
    persistent = False
    keeps_results = False
    supports_autoexpire = True
    supports_native_join = True

    result_consumer: ReplyConsumer
    join: QueueJoin

    def __init__(self, app: Any, persistent: bool | None = None, auto_delete: bool = True, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self.persistent = self.prepare_persistent(persistent)
        self.auto_delete = auto_delete
        #: The results that have arrived, by task id.
        self.received: Any = LRUCache(limit=RESULTS_KEPT)
        #: The reply queues of this process's threads.
        self.declared: set[str] = set()
        self.result_consumer = ReplyConsumer(self)
        self.join = QueueJoin(self, self.prepare_expires(app.conf.get('result_chord_expires')))

    def on_after_fork(self) -> None:
        """Begin anew in a child: the queues, the connection and the results are its parent's."""
        self.declared.clear()
        self.received = LRUCache(limit=RESULTS_KEPT)
        self.join.abandon()
        super().on_after_fork()

    def reply_queue(self, name: str) -> kombu.Queue:
        """A reply queue, as Celery declares it."""
        return kombu.Queue(name, kombu.Exchange(''), name, auto_delete=self.auto_delete, expires=self.expires)

    def as_uri(self, include_password: bool = False) -> str:
        """``rpc://``."""
        return 'rpc://'

    # -- sending ----------------------------------------------------------------------------------------------------

    def on_task_call(self, producer: Any, task_id: str) -> Any:
        """Have the reply queue there before the task is sent: a result without a queue would be dropped."""
        self.result_consumer.check()
        name = self.app.thread_oid
        if name not in self.declared:
            with self.app.connection_or_acquire() as connection:
                self.reply_queue(name)(connection.default_channel).declare()
            self.declared.add(name)
        return {}

    def store_result(self, task_id: str, result: Any, state: str, traceback: str | None = None, request: Any = None,
                     **kwargs: Any) -> Any:
        """Send the state and the result to who asked for them; to nobody if nobody did.

        Raises `RuntimeError` outside a task without a request.
        """
        if request is None:
            request = getattr(get_current_task(), 'request', None)
        if request is None:
            raise RuntimeError(f'The rpc backend needs the request of task {task_id} to know whom to reply to')
        if not request.reply_to:
            return None
        meta = self._get_result_meta(result=self.encode_result(result, state), state=state, traceback=traceback,
                                     request=request)
        meta['task_id'] = task_id
        options = {'exchange': '', 'routing_key': request.reply_to, 'serializer': self.serializer,
                   'correlation_id': request.correlation_id or task_id, 'compression': self.compression,
                   'delivery_mode': 2 if self.persistent else 1}
        attempt = _attempt_of(request)
        if state == states.SUCCESS and attempt and self.app.tasks[request.task].acks_late:
            with self.app.publisher.handing_over_what_follows() as following:
                self.join.keep_outcome(attempt, task_id, ensure_bytes(self.encode(meta)),
                                       lambda producer: producer.publish(meta, **options), following)
            return result
        with self.app.producer_or_acquire() as producer:
            producer.publish(meta, retry=True, retry_policy=self.retry_policy, **options)
        return result

    def get_outcome(self, task_id: str, request: Any) -> Meta:
        """What the queue of the chord says whose body the task is; of another it is not known."""
        attempt = _attempt_of(request)
        found = self.join.outcome(attempt, task_id) if attempt else None
        return dict(found or {'status': states.PENDING, 'result': None})

    # -- reading ----------------------------------------------------------------------------------------------------

    def _get_task_meta_for(self, task_id: str) -> Meta:
        """What has come of a task. Takes what has arrived, and does not wait."""
        if not self.has_ended(task_id):
            self._get_task_metas_for((task_id,))
        return self.received.get(task_id) or {'status': states.PENDING, 'result': None}

    def _get_task_metas_for(self, task_ids: Collection[str]) -> dict[str, Meta]:
        self.result_consumer.subscribe(task_ids)
        self.result_consumer.poll()
        return {task_id: self.received[task_id] for task_id in task_ids if task_id in self.received}

    def has_ended(self, task_id: str) -> bool:
        """Whether a final outcome has come of the task."""
        meta = self.received.get(task_id)
        return meta is not None and meta['status'] in states.READY_STATES

    def _forget(self, task_id: str) -> None:
        self.received.pop(task_id, None)

    # -- chords -------------------------------------------------------------------------------------------------------

    def ensure_chords_allowed(self) -> None:
        """Raise `NotImplementedError` where the broker is not RabbitMQ."""
        if not issubclass(self.app.connection_for_write().get_transport_cls(), Transport):
            raise NotImplementedError(NO_CHORDS)

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Whether the broker may be back later."""
        return isinstance(exc, LOST)

    # -- what messages cannot do -----------------------------------------------------------------------------------

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError('The rpc result backend keeps nothing: groups cannot be saved or restored, nor '
                                  'results be read again; use another result_backend, such as redis or db+sqlite')

    save_group = restore_group = get_group_meta = delete_group = reload_task_result = reload_group_result = _refuse

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), 'persistent': self.persistent, 'expires': self.expires,
                                         'serializer': self.serializer, 'auto_delete': self.auto_delete})
