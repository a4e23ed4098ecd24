"""`Publisher`: from a task's name, arguments and options to a message at the broker.

Steps: the options give a route (`routes`), the call a message (`amqp.AMQP.create_task_message`, `messages`), and a
channel or a producer takes it (`channels`). On RabbitMQ the first step and most of the second are done once
per task and set of options and kept as bytes (`prepared`); anything unusual goes the long way, to the same message.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from kombu import Exchange
from kombu.exceptions import OperationalError

from canvaslite import signals, wire
from canvaslite.publish.amqp import AMQP, publish_announced
from canvaslite.publish.channels import unreachable_broker
from canvaslite.publish.messages import Outgoing, RawMessage
from canvaslite.publish.options import listed, relate_to_parent, seconds_to_live, seconds_until
from canvaslite.publish.pool import Burst, ChannelPool, Held
from canvaslite.publish.prepared import PreparedMessages, has_quorum_queue
from canvaslite.publish.windows import Gathered, end_member, fill
from canvaslite.transport.delays import LEVELS, delay_key
from canvaslite.utils.functional import given
from canvaslite.utils.undecoded import Undecoded
from canvaslite.utils.uuid import uuid

#: Options that steer the caller and say nothing about the message.
_CALLERS_OWN = frozenset({
    'add_to_parent', 'event_dispatcher', 'producer', 'publisher', 'result_cls', 'router', 'route_name', 'task_type',
    'connection', 'create_sent_event',
})
#: Options that `AMQP.create_task_message` writes into the message; what is left concerns its way.
_OF_THE_MESSAGE = (
    'task_id', 'countdown', 'eta', 'expires', 'group_id', 'group_index', 'retries', 'chord', 'chain', 'link',
    'link_error', 'reply_to', 'time_limit', 'soft_time_limit', 'root_id', 'parent_id', 'shadow', 'origin',
    'ignore_result', 'argsrepr', 'kwargsrepr', 'replaced_task_nesting',
)
_NO_OPTIONS: dict[str, Any] = {}


class Publisher:
    """Publishes the tasks of one app. May be used from many threads, and after a fork."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._held = Held()
        self._lock = threading.Lock()
        self._prepared = PreparedMessages(app)
        #: Channels to RabbitMQ; None where another transport is used, or before that is known.
        self._pool: ChannelPool | None = None
        self._raw: bool | None = None
        #: What was set as ``app.amqp.send_task_message``.
        self.sender: Any = None
        _publishers.add(self)

    def publish(self, name: str, args: Any = None, kwargs: Any = None, options: Mapping[str, Any] = _NO_OPTIONS,
                task: Any = None, producer: Any = None) -> str:
        """Send a task message; returns the task's id.

        `options` are those of ``apply_async``, `task`'s own merged in. `producer` is a `Burst`, or a `kombu.Producer`
        of the caller's; without one the message leaves at once. Raises TypeError for arguments that are none,
        `EncodeError`, `QueueNotFound`, and `OperationalError` when the broker cannot be reached.
        """
        task_id: str = options.get('task_id') or uuid()
        if self._held.marks is not None:
            options = {**options, 'headers': {**(options.get('headers') or {}), **self._held.marks}}
        if self._raw and (producer is None or producer.__class__ is Burst) and not (
                signals.before_task_publish.receivers or signals.after_task_publish.receivers
                or signals.task_sent.receivers):
            prepared = self._prepared.find(name, args, kwargs, options, task)
            if prepared is not None:
                message = prepared.message(task_id, args, kwargs, options)
                if producer is None:
                    self._send_alone(message)
                else:
                    producer.add(message)
                return task_id
        self._publish_generally(task_id, name, args, kwargs, options, task, producer)
        return task_id

    def burst(self, producer: Any = None) -> AbstractContextManager[Any]:
        """A new `Burst` (on other transports than ours a `kombu.Producer`), or `producer`, which stays its owner's."""
        if producer is not None:
            return nullcontext(producer)
        return Burst(self._channels(), self._held) if self._is_raw() else self._one_producer()

    @contextmanager
    def arriving(self) -> Iterator[Any]:
        """As `burst`: when the ``with`` block has been left, all that was published is known to be at the broker."""
        with self.burst() as burst:
            yield burst
            if burst.__class__ is Burst:
                burst.settle()

    @contextmanager
    def _holding(self, name: str, held: Any) -> Iterator[None]:
        before = getattr(self._held, name)
        setattr(self._held, name, held)
        try:
            yield
        finally:
            setattr(self._held, name, before)

    def marked(self, headers: Mapping[str, Any]) -> AbstractContextManager[None]:
        """All that this thread publishes within ``with`` gets these headers."""
        return self._holding('marks', headers or None)

    def errbacks_through(self, producer: Any) -> AbstractContextManager[None]:
        """The errbacks that this thread sends within ``with`` leave through `producer`."""
        return self._holding('errbacks', producer)

    def followed_by(self, producer: Any) -> AbstractContextManager[None]:
        """What `producer`, a `Burst`, has gathered follows the task whose success is stored within ``with``."""
        return self._holding('following', producer if producer.__class__ is Burst else None)

    def handing_over_what_follows(self) -> AbstractContextManager[Sequence[RawMessage]]:
        """What was said to `followed_by`, for a store that sends it with the result, in one step (`Burst.handed_over`).
        """
        following = self._held.following
        return nullcontext(()) if following is None else following.handed_over()

    @property
    def errback_producer(self) -> Any:
        """What was said to `errbacks_through`, or None."""
        return self._held.errbacks

    @property
    def sends_again(self) -> bool:
        """Whether what this thread publishes may have been published before."""
        return self._held.marks is not None and wire.AGAIN_HEADER in self._held.marks

    def fill_window(self, producer: Any, *members: Any) -> None:
        """Publish through `producer` what makes a window; `members` are said as for `windows.fill`."""
        for outgoing in fill(self.app.conf, *members):
            self._dispatch(outgoing, producer)

    def end_member(self, window: str, member_id: str) -> None:
        """A member of a group with a window has ended: send the next."""
        end_member(self.app, window, member_id)

    @contextmanager
    def _one_producer(self) -> Iterator[Any]:
        """A `kombu.Producer` for all that this thread publishes meanwhile: a burst, where the transport is not ours."""
        held = self._held.producers
        if held:
            yield held[-1]
            return
        with self.app.producer_or_acquire(None) as producer:
            held.append(producer)
            try:
                yield producer
            finally:
                held.pop()

    def send_by(self, sender: Any) -> None:
        """Give `sender` all messages; None: send them ourselves again."""
        self.sender, self._raw = sender, None

    def reset(self) -> None:
        """Forget what was prepared, where settings, routes or queues were changed in place."""
        self._prepared.reset()

    def settle_streams(self) -> None:
        """Learn that what was sent in streams has arrived. Raises `OperationalError` when the broker is away: the
        messages are kept, and sent again when it is back."""
        if self._pool is not None:
            self._pool.settle_streams()

    def finish_streams(self) -> None:
        """As `settle_streams`, before the process ends: what cannot be sent is logged."""
        if self._pool is not None:
            self._pool.finish_streams()

    def close(self) -> None:
        """Close the connections. Publishing again opens new ones."""
        with self._lock:
            pool, self._pool, self._raw = self._pool, None, None
        self.reset()
        if pool is not None:
            pool.close()

    # --- channels ------------------------------------------------------------------------------

    def _is_raw(self) -> bool:
        """Whether the broker is RabbitMQ through our own transport."""
        if self._raw is None:
            transport = self.app.connection_for_write().get_transport_cls()
            channel = getattr(getattr(transport, 'Connection', None), 'Channel', None)
            self._raw = hasattr(channel, 'publish_raw') and not self._sends_otherwise()
        return self._raw

    def _sends_otherwise(self) -> bool:
        """Whether ``app.amqp.send_task_message`` is another one: set on the app's `AMQP`, or of a class of its own."""
        return (self.sender is not None
                or getattr(type(self.app.amqp), 'send_task_message', None) is not AMQP.send_task_message)

    def _channels(self) -> ChannelPool:
        with self._lock:
            if self._pool is None:
                self._pool = ChannelPool(self.app)
            return self._pool

    def _send_alone(self, message: RawMessage) -> None:
        """Send one message over a pooled channel."""
        pool = self._pool or self._channels()
        lent = pool.take()
        if lent is None and self._held.bursts:
            # This thread holds a channel itself and must not wait for another: it might wait for itself.
            self._held.bursts[-1].add(message)
            self._held.bursts[-1].finish()
            return
        lent = lent or pool.acquire()
        try:
            if lent.send_one(message):
                pool.watch_streams()
        except BaseException:
            lent.discard()
            raise
        finally:
            pool.release(lent)

    # --- the long way ----------------------------------------------------------------------------

    def _publish_generally(self, task_id: str, name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any,
                           producer: Any) -> None:
        app = self.app
        left = {option: value for option, value in options.items() if option not in _CALLERS_OWN}
        said = {option: left.pop(option, None) for option in _OF_THE_MESSAGE}
        for option in ('chain', 'chord'):
            if isinstance(said[option], Undecoded):
                said[option] = said[option].decode()
        stamped = left.pop('stamped_headers', None)
        stamps = {stamp: left.pop(stamp, None) for stamp in stamped or ()}
        router = options.get('router') or app.amqp.router
        routed = given(router.route(left, options.get('route_name') or name, args, kwargs, task))
        root_id, parent_id, inherited = relate_to_parent(app, said['root_id'], said['parent_id'])
        if inherited is not None:
            routed.setdefault('priority', inherited)
        if (said['countdown'] or said['eta']) and producer.__class__ is not Gathered:
            self._delay_at_broker(routed, said)
        expiration = seconds_to_live(app, options, task_id)
        if expiration is not None:
            routed['expiration'] = expiration
        message = app.amqp.create_task_message(
            task_id, name, args, kwargs, said['countdown'], said['eta'], said['group_id'], said['group_index'],
            said['expires'], said['retries'] or 0, said['chord'], listed(said['link']), listed(said['link_error']),
            said['reply_to'] or app.thread_oid, said['time_limit'], said['soft_time_limit'], False, root_id, parent_id,
            said['shadow'], said['chain'], origin=said['origin'], ignore_result=said['ignore_result'],
            argsrepr=said['argsrepr'], kwargsrepr=said['kwargsrepr'], stamped_headers=stamped,
            replaced_task_nesting=said['replaced_task_nesting'] or 0, **stamps)
        if options.get('connection') is not None:
            producer = app.amqp.Producer(options['connection'], auto_declare=False)
        if producer.__class__ is not Gathered and self._sends_otherwise():
            with app.producer_or_acquire(producer) as one:
                app.amqp.send_task_message(one, name, message, **routed)
            return
        outgoing = app.amqp.prepare_message(name, message, **routed)
        publish_announced(outgoing, lambda: self._dispatch(outgoing, producer))

    def _delay_at_broker(self, routed: dict[str, Any], said: Mapping[str, Any]) -> None:
        """Route a task with eta or countdown so that RabbitMQ keeps it until then, where Celery does: quorum queues are
        used, and its exchange is not direct. Elsewhere the worker sees to that (`worker.delays`)."""
        app = self.app
        if not self._is_raw() or not has_quorum_queue(app.amqp.queues):
            return
        queue = routed.get('queue')
        if (routed.get('exchange_type') if queue is None else queue.exchange.type) == 'direct':
            return
        seconds = int(seconds_until(app, said['eta'] or said['countdown']))
        if seconds < 1:
            return
        routing_key = routed.get('routing_key') if queue is None else queue.routing_key
        routed.pop('queue', None)
        routed.update(routing_key=delay_key(seconds, routing_key or ''),
                      exchange=Exchange(wire.DELAY_LEVEL.format(LEVELS - 1), type='topic'))

    def _dispatch(self, outgoing: Outgoing, producer: Any) -> None:
        """Hand a message to the producer, or to a channel of the pool when there is none."""
        if producer.__class__ is Gathered:
            producer.outgoing.append(outgoing)
        elif producer is None and not self._is_raw():
            with self._one_producer() as one:
                self._publish_through(one, outgoing)
        elif producer is None and outgoing.timeout is None and outgoing.confirm_timeout is None:
            self._send_alone(outgoing.encode())
        elif producer is None or producer.__class__ is Burst:
            with self.burst(producer) as burst:
                burst.add(outgoing.encode())
        else:
            self._publish_through(producer, outgoing)

    def _publish_through(self, producer: Any, outgoing: Outgoing) -> None:
        """Send with a `kombu.Producer`; the loss of its connection is our `OperationalError`."""
        connection = producer.connection
        try:
            outgoing.publish_through(producer)
        except (OperationalError, *connection.recoverable_connection_errors) as exc:
            raise unreachable_broker(self.app, connection, exc) from exc


_publishers: weakref.WeakSet[Publisher] = weakref.WeakSet()


def _reset_in_child() -> None:
    for publisher in list(_publishers):
        publisher._lock = threading.Lock()
        publisher.reset()  # the origin header names the process
        if publisher._pool is not None:
            publisher._pool.abandon()


@atexit.register
def _finish_streams() -> None:
    for publisher in list(_publishers):
        publisher.finish_streams()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_reset_in_child)
