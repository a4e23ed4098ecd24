"""The client's side of remote control: `Control` (``app.control``) tells workers what to do, `Inspect` asks them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, partialmethod
from typing import Any

from kombu import Consumer, Producer, pidbox
from kombu.matcher import match
from kombu.serialization import dumps

from canvaslite import wire
from canvaslite.exceptions import DuplicateNodenameWarning, ImproperlyConfigured, SecurityError
from canvaslite.transport import signed
from canvaslite.transport.delays import purge_own_levels
from canvaslite.utils.log import worker_logger as logger
from canvaslite.utils.redact import for_log
from canvaslite.utils.uuid import uuid


def flatten_reply(reply: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """``[{node: answer}, ...]`` as one dict by node; warns of nodes that answered twice."""
    nodes: dict[str, Any] = {}
    twice: set[str] = set()
    for answer in reply:
        twice.update(name for name in answer if name in nodes)
        nodes.update(answer)
    if twice:
        warnings.warn(DuplicateNodenameWarning(
            f'Several workers answered as {", ".join(sorted(twice))}: give each its own name with worker -n.'),
            stacklevel=2)
    return nodes


class Inspect:
    """Questions to all workers, to those named in `destination`, or to those whose name fits `pattern`.

    `timeout` (seconds) is how long answers are waited for, `limit` how many at most; `callback` gets each.
    Every method returns ``{node: answer}``, or the answer itself when `destination` is one name; None without answers.
    """

    app: Any = None

    def __init__(self, destination: Any = None, timeout: float = 1.0, callback: Callable[[Any], Any] | None = None,
                 connection: Any = None, app: Any = None, limit: int | None = None, pattern: str | None = None,
                 matcher: str | None = None) -> None:
        self.app = app or self.app
        self.connection, self.callback = connection, callback
        self.destination, self.pattern, self.matcher = destination, pattern, matcher
        self.timeout, self.limit = timeout, limit

    def _request(self, command: str, **arguments: Any) -> Any:
        destination = [self.destination] if isinstance(self.destination, str) else self.destination
        return self._prepare(self.app.control.broadcast(
            command, arguments=arguments, destination=destination, callback=self.callback, connection=self.connection,
            limit=self.limit, timeout=self.timeout, reply=True, pattern=self.pattern, matcher=self.matcher))

    def _prepare(self, reply: Any) -> Any:
        if not reply:
            return None
        by_node = flatten_reply(reply)
        if isinstance(self.destination, str):
            return by_node.get(self.destination)
        if self.pattern:
            return {node: answer for node, answer in by_node.items() if match(node, self.pattern, self.matcher)}
        return by_node

    #: Information for bug reports, logical clocks, statistics, ids of revoked tasks, queues that are consumed from.
    report, clock = partialmethod(_request, 'report'), partialmethod(_request, 'clock')
    stats, revoked = partialmethod(_request, 'stats'), partialmethod(_request, 'revoked')
    active_queues = partialmethod(_request, 'active_queues')

    def active(self, safe: bool | None = None) -> Any:
        """Tasks that run; with `safe` their arguments as representations."""
        return self._request('active', safe=safe)

    def scheduled(self, safe: bool | None = None) -> Any:
        """Tasks that wait for their ETA."""
        return self._request('scheduled')

    def reserved(self, safe: bool | None = None) -> Any:
        """Tasks that wait for a process."""
        return self._request('reserved')

    def registered(self, *taskinfoitems: str) -> Any:
        """Tasks that the workers know, with these of their attributes."""
        return self._request('registered', taskinfoitems=taskinfoitems)

    registered_tasks = registered

    def ping(self, destination: Any = None) -> Any:
        """Who is there."""
        if destination:
            self.destination = destination
        return self._request('ping')

    def query_task(self, *ids: Any) -> Any:
        """Where the tasks with these ids are, as far as the workers have them."""
        if len(ids) == 1 and isinstance(ids[0], (list, tuple)):
            ids = tuple(ids[0])
        return self._request('query_task', ids=list(ids))

    def conf(self, with_defaults: bool = False) -> Any:
        """Configurations, without passwords."""
        return self._request('conf', with_defaults=with_defaults)

    def hello(self, from_node: str, revoked: Any = None) -> Any:
        """What a new worker should know."""
        return self._request('hello', from_node=from_node, revoked=revoked)


class Node(pidbox.Node):  # type: ignore[misc]
    """A worker's end of the mailbox: whatever comes, and whatever a command does, is one line in the log."""

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self.refuse(exc)

    def handle_message(self, body: Any, message: Any = None) -> Any:
        """Do what is asked for. Raises `SecurityError` where messages are signed and this one is not, or not new."""
        if message is not None and _check(message):
            self.mailbox.arrivals.note(self.hostname, message.headers.get(wire.SENT_HEADER))
        return super().handle_message(body, message)

    def refuse(self, exc: Exception) -> None:
        """What came is no command."""
        logger.error('A remote control message is of no use: %s', for_log(f'{type(exc).__name__}: {exc}'))
        logger.debug('That was:', exc_info=exc)

    def handle(self, method: Any, arguments: Any = None) -> Any:
        """What the command replies; its error, where it raises one."""
        try:
            return super().handle(method, arguments)
        except Exception as exc:
            logger.error('The remote control command %s failed: %s', for_log(repr(method))[:100], for_log(repr(exc)))
            logger.debug('That was:', exc_info=True)
            return {'error': for_log(repr(exc))}


class SigningProducer(Producer):  # type: ignore[misc]
    """Sends messages that are signed as a whole."""

    def publish(self, body: Any, *, serializer: str, headers: dict[str, Any], **options: Any) -> Any:
        content_type, content_encoding, payload = dumps(body, serializer=serializer)
        headers[wire.SENT_HEADER] = [time.time(), uuid()]
        signed.sign_message(headers, {}, payload.encode())
        return super().publish(payload, content_type=content_type, content_encoding=content_encoding, headers=headers,
                               **options)


class Mailbox(pidbox.Mailbox):  # type: ignore[misc]
    """Where commands and replies are sent."""

    node_cls = Node

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.arrivals = signed.Arrivals()

    @contextmanager
    def producer_or_acquire(self, producer: Any = None, channel: Any = None) -> Iterator[Any]:
        if signed.in_use:
            yield SigningProducer(channel, auto_declare=False)
        else:
            with super().producer_or_acquire(producer, channel) as producer:
                yield producer

    def _collect(self, ticket: str, limit: int | None = None, timeout: float | None = 1,
                 callback: Callable[[Any], Any] | None = None, channel: Any = None, accept: Any = None) -> Any:
        if not signed.in_use:
            return super()._collect(ticket, limit, timeout, callback, channel, accept)
        replies: list[Any] = []

        def take(body: Any, message: Any) -> None:
            try:
                _check(message)
            except SecurityError as exc:
                logger.error('A reply is refused: %s', for_log(str(exc)))
                return
            if message.headers.get('ticket') == ticket:
                replies.append(body)
                if callback is not None:
                    callback(body)

        with Consumer(channel, [self.reply_queue], accept=self.accept, no_ack=True, callbacks=[take]):
            while not limit or len(replies) < limit:
                try:
                    self.connection.drain_events(timeout=timeout)
                except TimeoutError:
                    break
        channel.after_reply_message_received(self.reply_queue.name)
        return replies


def _check(message: Any) -> bool:
    """`signed.check_message` of a message of kombu's, which may have decoded it."""
    body = message.body
    return signed.check_message(message.headers, message.properties, body.encode() if isinstance(body, str) else body)


class Control:
    """Remote control through Celery's mailbox; commands take `destination` (names of nodes), and `broadcast`'s options.
    """

    Mailbox = Mailbox

    def __init__(self, app: Any = None) -> None:
        self.app = app
        conf = app.conf
        if conf.control_queue_durable and conf.control_queue_exclusive:
            raise ImproperlyConfigured('control_queue_durable and control_queue_exclusive cannot both be True: '
                                       'exclusive queues are deleted with their connection.')
        self.mailbox: Any = self.Mailbox(
            conf.control_exchange, type='fanout', accept=conf.accept_content, serializer=conf.task_serializer,
            queue_ttl=conf.control_queue_ttl, reply_queue_ttl=conf.control_queue_ttl,
            queue_expires=conf.control_queue_expires, reply_queue_expires=conf.control_queue_expires,
            queue_exclusive=conf.control_queue_exclusive, queue_durable=conf.control_queue_durable)

    @cached_property
    def inspect(self) -> Any:
        """`Inspect`, bound to the app: ``app.control.inspect(destination=..., timeout=...)``."""
        return type('Inspect', (Inspect,), {'app': self.app, '__doc__': Inspect.__doc__})

    def purge(self, connection: Any = None) -> int:
        """Delete all waiting messages of the queues that a worker of this app consumes from, and those with a far ETA
        that workers have given to the broker to be kept for these queues; how many they were.

        It does not reach what workers hold, nor what senders have given to Celery's delay queues (``celery_delayed_0``
        to ``27``, with quorum queues), where it is not said for which queue that is.
        """
        with self._connected(connection) as conn:
            consumer = self.app.amqp.TaskConsumer(conn)
            kept = [queue.name for queue in consumer.queues] if conn.transport.driver_type == 'amqp' else []
            return (purge_own_levels(conn, kept) if kept else 0) + int(consumer.purge())

    discard_all = purge

    @contextmanager
    def _connected(self, connection: Any) -> Iterator[Any]:
        """`connection`, or one of the pool; not one that was lost while nobody used it: a command is sent once. If the
        broker takes no messages now, the end of that is not waited for."""
        with self.app.connection_or_acquire(connection) as conn:
            if connection is not None or conn.transport.driver_type != 'amqp':
                yield conn
                return
            try:
                conn.default_channel.basic_qos(0, 0, False)
            except conn.connection_errors:
                conn.collect()
            inner = conn.default_channel.connection
            before, inner.write_timeout = inner.write_timeout, self.app.conf.broker_confirm_timeout
            try:
                yield conn
            finally:
                inner.write_timeout = before

    def revoke(self, task_id: Any, destination: Any = None, terminate: bool = False, signal: Any = 'SIGTERM',
               **kwargs: Any) -> Any:
        """Have workers ignore a task, or several; with `terminate` also end the process that runs it, by `signal`.

        `root_ids`: ids of tasks of which everything that comes, at any remove, is to be ignored as well.
        """
        return self.broadcast('revoke', destination=destination,
                              arguments={'task_id': task_id, 'terminate': terminate, 'signal': signal}, **kwargs)

    def revoke_by_stamped_headers(self, headers: Any, destination: Any = None, terminate: bool = False,
                                  signal: Any = 'SIGTERM', **kwargs: Any) -> Any:
        """The same for all tasks with these values in their stamped headers."""
        return self.broadcast('revoke_by_stamped_headers', destination=destination,
                              arguments={'headers': headers, 'terminate': terminate, 'signal': signal}, **kwargs)

    def terminate(self, task_id: Any, destination: Any = None, signal: Any = 'SIGTERM', **kwargs: Any) -> Any:
        """`revoke` with `terminate`."""
        return self.revoke(task_id, destination=destination, terminate=True, signal=signal, **kwargs)

    def ping(self, destination: Any = None, timeout: float = 1.0, **kwargs: Any) -> Any:
        """``[{node: {'ok': 'pong'}}, ...]`` of those that answer within `timeout` seconds."""
        return self.broadcast('ping', reply=True, arguments={}, destination=destination, timeout=timeout, **kwargs)

    def rate_limit(self, task_name: str, rate_limit: Any, destination: Any = None, **kwargs: Any) -> Any:
        """Set the rate limit of a task, as ``'100/m'``."""
        arguments = {'task_name': task_name, 'rate_limit': rate_limit}
        return self.broadcast('rate_limit', arguments=arguments, destination=destination, **kwargs)

    def time_limit(self, task_name: str, soft: float | None = None, hard: float | None = None,
                   destination: Any = None, **kwargs: Any) -> Any:
        """Set the time limits of a task, in seconds."""
        arguments = {'task_name': task_name, 'hard': hard, 'soft': soft}
        return self.broadcast('time_limit', arguments=arguments, destination=destination, **kwargs)

    def add_consumer(self, queue: str, exchange: str | None = None, exchange_type: str = 'direct',
                     routing_key: str | None = None, options: dict[str, Any] | None = None, destination: Any = None,
                     **kwargs: Any) -> Any:
        """Have workers consume from one more queue."""
        arguments = {'queue': queue, 'exchange': exchange, 'exchange_type': exchange_type, 'routing_key': routing_key,
                     **(options or {})}
        return self.broadcast('add_consumer', arguments=arguments, destination=destination, **kwargs)

    def cancel_consumer(self, queue: str, destination: Any = None, **kwargs: Any) -> Any:
        """Have workers no longer consume from a queue."""
        return self.broadcast('cancel_consumer', destination=destination, arguments={'queue': queue}, **kwargs)

    def pool_grow(self, n: int = 1, destination: Any = None, **kwargs: Any) -> Any:
        """Have workers run `n` more processes or threads."""
        return self.broadcast('pool_grow', arguments={'n': n}, destination=destination, **kwargs)

    def pool_shrink(self, n: int = 1, destination: Any = None, **kwargs: Any) -> Any:
        """Have workers run `n` fewer processes or threads."""
        return self.broadcast('pool_shrink', arguments={'n': n}, destination=destination, **kwargs)

    def autoscale(self, max: int, min: int, destination: Any = None, **kwargs: Any) -> Any:
        """Set the bounds of workers that scale by themselves."""
        return self.broadcast('autoscale', arguments={'max': max, 'min': min}, destination=destination, **kwargs)

    def pool_restart(self, modules: Any = None, reload: bool = False, reloader: Any = None, destination: Any = None,
                     **kwargs: Any) -> Any:
        """Have workers import `modules`, with `reload` again (None: those of ``imports``, ``include`` and
        ``autodiscover_tasks``), and replace their processes, where ``worker_pool_restarts`` is on."""
        arguments = {'modules': modules, 'reload': reload, 'reloader': reloader}
        return self.broadcast('pool_restart', arguments=arguments, destination=destination, **kwargs)

    def _tell(self, command: str, destination: Any = None, **kwargs: Any) -> Any:
        return self.broadcast(command, arguments={}, destination=destination, **kwargs)

    #: Have workers send task events, send none, send a heartbeat now, stop warmly.
    enable_events, disable_events = partialmethod(_tell, 'enable_events'), partialmethod(_tell, 'disable_events')
    heartbeat, shutdown = partialmethod(_tell, 'heartbeat'), partialmethod(_tell, 'shutdown')

    def broadcast(self, command: str, arguments: dict[str, Any] | None = None, destination: Any = None,
                  connection: Any = None, reply: bool = False, timeout: float | None = 1.0, limit: int | None = None,
                  callback: Callable[[Any], Any] | None = None, channel: Any = None, pattern: str | None = None,
                  matcher: str | None = None, **extra_kwargs: Any) -> Any:
        """Send a command; with `reply` wait `timeout` seconds for answers. `pattern`, `matcher` choose among nodes."""
        chosen = {'pattern': pattern, 'matcher': matcher} if pattern and matcher else {}
        with self._connected(connection) as conn:
            return self.mailbox(conn)._broadcast(command, {**(arguments or {}), **extra_kwargs}, destination, reply,
                                                 timeout, limit, callback, channel=channel, **chosen)
