"""`Control`: tells workers what to do, as ``app.control``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partialmethod
from typing import Any

from kombu.pidbox import Mailbox

from canvaslite.control.inspect import Inspect
from canvaslite.exceptions import ImproperlyConfigured


class Control:
    """Remote control through Celery's mailbox; commands take `destination` (names of nodes) and what `broadcast` takes.
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
        """Delete all waiting messages of the queues that a worker of this app consumes from; how many they were."""
        with self.app.connection_or_acquire(connection) as conn:
            return int(self.app.amqp.TaskConsumer(conn).purge())

    discard_all = purge

    def revoke(self, task_id: Any, destination: Any = None, terminate: bool = False, signal: Any = 'SIGTERM',
               **kwargs: Any) -> Any:
        """Have workers ignore a task, or several; with `terminate` also end the process that runs it, by `signal`."""
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
        return self.broadcast('rate_limit', destination=destination,
                              arguments={'task_name': task_name, 'rate_limit': rate_limit}, **kwargs)

    def time_limit(self, task_name: str, soft: float | None = None, hard: float | None = None,
                   destination: Any = None, **kwargs: Any) -> Any:
        """Set the time limits of a task, in seconds."""
        return self.broadcast('time_limit', destination=destination,
                              arguments={'task_name': task_name, 'hard': hard, 'soft': soft}, **kwargs)

    def add_consumer(self, queue: str, exchange: str | None = None, exchange_type: str = 'direct',
                     routing_key: str | None = None, options: dict[str, Any] | None = None, destination: Any = None,
                     **kwargs: Any) -> Any:
        """Have workers consume from one more queue."""
        arguments = {'queue': queue, 'exchange': exchange, 'exchange_type': exchange_type, 'routing_key': routing_key}
        return self.broadcast('add_consumer', destination=destination, arguments={**arguments, **(options or {})},
                              **kwargs)

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
        """Have workers replace their processes."""
        return self.broadcast('pool_restart', destination=destination,
                              arguments={'modules': modules, 'reload': reload, 'reloader': reloader}, **kwargs)

    def _tell(self, command: str, destination: Any = None, **kwargs: Any) -> Any:
        return self.broadcast(command, arguments={}, destination=destination, **kwargs)

    #: Have workers send task events, send none, send a heartbeat now, stop warmly.
    enable_events, disable_events = partialmethod(_tell, 'enable_events'), partialmethod(_tell, 'disable_events')
    heartbeat, shutdown = partialmethod(_tell, 'heartbeat'), partialmethod(_tell, 'shutdown')

    def broadcast(self, command: str, arguments: dict[str, Any] | None = None, destination: Any = None,
                  connection: Any = None, reply: bool = False, timeout: float | None = 1.0, limit: int | None = None,
                  callback: Callable[[Any], Any] | None = None, channel: Any = None, pattern: str | None = None,
                  matcher: str | None = None, **extra_kwargs: Any) -> Any:
        """Send a command; with `reply` wait `timeout` seconds for answers. `pattern` and `matcher` choose nodes by
        name.
        """
        chosen = {'pattern': pattern, 'matcher': matcher} if pattern and matcher else {}
        with self.app.connection_or_acquire(connection) as conn:
            return self.mailbox(conn)._broadcast(command, {**(arguments or {}), **extra_kwargs}, destination, reply,
                                                 timeout, limit, callback, channel=channel, **chosen)
