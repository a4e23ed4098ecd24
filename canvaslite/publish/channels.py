"""The channels through which an app publishes, so that no message is lost: write, confirm, try again after an error.

`ChannelPool` lends `PublishChannel` objects; a `Burst` sends many messages over one.

Every channel has a connection to itself, so threads never share a socket, and an error on one concerns nobody else.

What is known to have arrived is never sent again. Without publisher confirms that is known after an answer from the
broker to anything on the same channel, because it handles a channel's methods in order. So a message may arrive twice
when the connection breaks between its writing and that knowledge, but it does not get lost.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from kombu.common import maybe_declare
from kombu.exceptions import OperationalError

from canvaslite.publish.messages import Destination, RawMessage
from canvaslite.publish.options import logger
from canvaslite.transport.confirms import BurstNacked
from canvaslite.transport.connection import close_inherited
from canvaslite.utils.redact import one_line

#: Bytes gathered before they are written.
_CHUNK = 65536
#: Bytes of frames, method and channel numbers beside a message's properties and body.
_FRAMING = 80
#: Bytes written before the broker is asked whether all have arrived; what is not known to is kept to be sent again.
_UNKNOWN_AT_MOST = 4 * 1024 * 1024
#: Destinations that a channel remembers; others are looked up again, which costs little.
_DESTINATIONS_KEPT = 1000


class PublishChannel:
    """One connection and its channel, used by one thread at a time; keeps messages not known to have arrived."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.connection: Any = app.connection_for_write()
        #: None until it is opened, and after it was lost.
        self.channel: Any = None
        #: Destinations whose queues and exchanges were declared on this connection.
        self.declared: set[Destination] = set()
        #: Whether it is to be closed when it comes back to the pool.
        self.retired = False
        #: Written, and not known to have arrived; how many bytes that is, in how many writes.
        self._kept: list[RawMessage] = []
        self._unknown = self._writes = 0
        #: How many messages of the running `_write` are in `_kept`.
        self._written = 0

    # --- sending ---------------------------------------------------------------------------------

    def send(self, messages: Sequence[RawMessage], settle: bool = False, failure: BaseException | None = None) -> None:
        """Write messages; with `settle` return when they are known to have arrived.

        `failure` is the error of a first try that was made elsewhere. The last message's destination says how often
        and how long to try again. Raises OperationalError when the broker cannot be reached or the retries are used up,
        and `amqp.ChannelError` for a message or a declaration that it does not accept.
        """
        destination = (messages or self._kept)[-1].destination
        if failure is None:
            failure = self._attempt(messages, settle, destination)
        else:
            self._kept, self._written = list(messages), len(messages)
        policy = destination.retry_policy
        limit = 0 if policy is None else policy.get('max_retries', 3)
        tries = 0
        while failure is not None:
            tries += 1
            messages = self._take_unsent(failure, messages)
            if policy is None or (limit is not None and tries > limit):
                if isinstance(failure, OperationalError):
                    raise failure
                raise OperationalError(
                    f'The broker at {self.connection.as_uri()} did not take the message in {tries} '
                    f'{"try" if tries == 1 else "tries"}: {one_line(failure)}. See the broker\'s log; '
                    'task_publish_retry_policy says how long to go on trying.') from failure
            pause = _pause(policy, tries)
            logger.warning('Publishing failed (%s): trying again in %.1fs.', failure or repr(failure), pause)
            time.sleep(pause)
            failure = self._attempt(messages, settle, destination)

    def finish(self) -> None:
        """Learn that all has arrived, as `send` does. Without confirms a single write is left to the network."""
        if self._kept and (self._writes > 1 or self._confirming):
            self.send((), settle=True)

    def settle(self) -> None:
        """Learn that all has arrived, as `send` does."""
        if self._kept:
            self.send((), settle=True)

    def _attempt(self, messages: Sequence[RawMessage], settle: bool, destination: Destination) -> BaseException | None:
        """Try once. Returns the error after which another try makes sense."""
        self._written = 0
        connection, further = self.connection, (destination.retry_policy or {}).get('retry_errors') or ()
        try:
            self._open()
        except connection.connection_errors + connection.channel_errors as exc:
            error = unreachable_broker(self._app, connection, exc)
            error.__cause__ = exc
            if isinstance(exc, connection.recoverable_connection_errors):
                return error
            raise error from exc  # refused credentials, no such virtual host: another try would end the same
        try:
            self._write(messages, destination.timeout)
            if settle or self._unknown > _UNKNOWN_AT_MOST:
                self._settle(destination)
        except (*connection.recoverable_connection_errors, *connection.recoverable_channel_errors, *further) as exc:
            return exc
        return None

    def _open(self) -> None:
        """Open the channel if it is not. Each host of the URL is tried once. Raises the transport's errors."""
        if self.channel is None:
            connection = self.connection
            hosts = len(connection.alt or ()) or 1
            connection.ensure_connection(max_retries=hosts - 1, interval_start=0, interval_step=0,
                                         reraise_as_library_errors=False)
            self.declared.clear()
            self.channel = connection.channel()

    def _write(self, messages: Sequence[RawMessage], timeout: float | None) -> None:
        channel = self.channel
        frames: list[bytes] = []
        size = 0
        for count, (destination, properties, body) in enumerate(messages, 1):
            if destination not in self.declared:
                self._declare(destination)
            frame = channel.frames(destination.exchange, destination.routing_key, properties, body,
                                   destination.mandatory)
            frames.append(frame)
            size += len(frame)
            if size >= _CHUNK or count == len(messages):
                # Kept before it is written: if that is interrupted, nobody knows what arrived.
                self._kept += messages[self._written:count]
                self._written = count
                self._unknown += size
                self._writes += 1
                # Named in the error if one is refused.
                routes = [(message.destination.exchange, message.destination.routing_key)
                          for message in self._kept[-len(frames):]] if self._confirming else ()
                channel.write_frames(b''.join(frames), len(frames), routes, timeout)
                frames, size = [], 0

    def _declare(self, destination: Destination) -> None:
        """Declare what the destination needs, once per connection where that is possible."""
        known = self.connection.declared_entities
        for entity in destination.declare:
            # kombu asks the same, but only after it has copied the entity.
            if not entity.can_cache_declaration or hash(entity) not in known:
                maybe_declare(entity, self.channel)
        if destination.declared_once:
            if len(self.declared) >= _DESTINATIONS_KEPT:
                self.declared.clear()
            self.declared.add(destination)

    @property
    def _confirming(self) -> bool:
        channel = self.channel
        return channel is not None and channel.connection is not None and channel.connection.confirm_publish

    def _settle(self, destination: Destination) -> None:
        """Learn that all that was written has arrived."""
        if self._confirming:
            self.channel.wait_for_confirms(destination.confirm_timeout or destination.timeout)
        else:
            self.channel.basic_qos(0, 0, False)  # changes nothing; its answer comes after all published before it
        self._kept, self._unknown = [], 0

    def _take_unsent(self, exc: BaseException, messages: Sequence[RawMessage]) -> list[RawMessage]:
        """What is to be sent again after `exc`, in order. The channel is left so that the next try can open it."""
        kept, self._kept, self._unknown = self._kept, [], 0
        if isinstance(exc, BurstNacked):
            # The broker has answered for all of them: what it did not refuse is there.
            kept = [kept[position] for position in exc.positions]
        elif isinstance(exc, self.connection.recoverable_channel_errors):
            self.channel = None  # the broker closed it; the connection is kept
        else:
            self.forget()
            self.connection.collect()
            self.connection.maybe_switch_next()
        return [*kept, *messages[self._written:]]

    # --- the end ---------------------------------------------------------------------------------

    def forget(self) -> None:
        """Forget the channel and what was declared on it."""
        self.channel = None
        self.declared.clear()

    def rest(self) -> None:
        """Forget the messages that were sent: whoever uses it next answers for their own."""
        self._kept, self._unknown, self._writes = [], 0, 0

    def discard(self) -> None:
        """Close the connection in good order: the broker may still answer to what its user has given up."""
        self.forget()
        self.rest()
        with contextlib.suppress(Exception):  # it may be lost already, which is as good
            self.connection.close()


class ChannelPool:
    """Lends at most ``broker_pool_limit`` channels (None: any number; 0: none is kept), the last one that came back
    first."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._limit: int | None = app.conf.broker_pool_limit
        #: Seconds to wait for a free channel.
        self._timeout: float | None = app.conf.broker_pool_acquire_timeout
        self._start_empty()

    def _start_empty(self) -> None:
        #: Taken and given back without a lock: list operations are atomic, and waiting is rare.
        self._free: list[PublishChannel] = []
        self._all: set[PublishChannel] = set()
        self._waiting = 0
        self._changed = threading.Condition()

    def take(self) -> PublishChannel | None:
        """A channel for this thread alone, until `release`; None when one would have to be waited for."""
        try:
            return self._free.pop()
        except IndexError:
            with self._changed:
                return self._take_or_make()

    def acquire(self) -> PublishChannel:
        """As `take`, but waits for a free one. Raises OperationalError when there is none in time."""
        with self._changed:
            # First said, then looked: `release` appends before it asks whether anybody waits.
            self._waiting += 1
            try:
                lent = self._changed.wait_for(self._take_or_make, self._timeout)
            finally:
                self._waiting -= 1
        if lent is None:
            raise OperationalError(f'No connection to the broker became free within {self._timeout}s, all '
                                   f'{self._limit} are in use: raise broker_pool_limit or broker_pool_acquire_timeout.')
        return lent

    def _take_or_make(self) -> PublishChannel | None:
        with contextlib.suppress(IndexError):
            return self._free.pop()
        if self._limit and len(self._all) >= self._limit:
            return None
        made = PublishChannel(self._app)
        self._all.add(made)
        return made

    def release(self, channel: PublishChannel) -> None:
        """Give a channel back."""
        if channel.retired or self._limit == 0:
            self._all.discard(channel)
            channel.forget()
            channel.connection.close()
            return
        self._free.append(channel)
        if self._waiting:
            with self._changed:
                self._changed.notify()

    def close(self) -> None:
        """Close the channels that nobody uses; those in use close when they come back."""
        for channel in tuple(self._all):
            channel.retired = True
        while self._free:
            self.release(self._free.pop())

    def abandon(self) -> None:
        """In a forked child: let go of the parent's connections without a word to the broker."""
        inherited = self._all
        self._start_empty()
        for channel in inherited:
            channel.forget()
            close_inherited(channel.connection)


class Held(threading.local):
    """What each thread holds: bursts that have a channel; producers where the transport is not ours. Innermost last."""

    #: Headers that all it publishes gets.
    marks: Mapping[str, Any] | None = None

    def __init__(self) -> None:
        self.bursts: list[Burst] = []
        self.producers: list[Any] = []


class Burst:
    """Gathers messages and writes them together; leaving the ``with`` block sends what is left.

    With publisher confirms the block ends when all messages are confirmed; without, it waits for the broker only where
    there was more than one write. ``after_task_publish`` is sent when a message is gathered, not when it is written.
    An exception in the block drops the messages that were not written yet: whoever published them gets that exception.

    A burst may be passed on as ``producer=`` to anything called inside the block, so that a whole canvas uses one
    channel. It borrows its channel with the first write and keeps it to the end; it never waits for a second one, so
    threads with a pool of one channel cannot block each other. A burst belongs to one thread.
    """

    def __init__(self, pool: ChannelPool, held: Held) -> None:
        self._pool = pool
        self._held = held
        self._gathered: list[RawMessage] = []
        self._size = 0
        self.lent: PublishChannel | None = None
        self._open = False

    def add(self, message: RawMessage) -> None:
        """Take one message; it is written with the next 64 kB or at the end. Raises RuntimeError outside the block."""
        if not self._open:
            raise RuntimeError('A burst takes messages only inside its with block.')
        self._gathered.append(message)
        self._size += len(message.properties) + len(message.body) + _FRAMING
        if self._size >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if self._gathered:
            messages, self._gathered, self._size = self._gathered, [], 0
            if self.lent is None:
                self.lent = self._borrow()
            self.lent.send(messages)

    def finish(self) -> None:
        """Write what was gathered; with publisher confirms, return when all is confirmed."""
        self.flush()
        if self.lent is not None:
            self.lent.finish()

    def settle(self) -> None:
        """Write what was gathered, and return when all is known to have arrived, also without publisher confirms."""
        self.flush()
        if self.lent is not None:
            self.lent.settle()

    def _borrow(self) -> PublishChannel:
        lent = self._pool.take()
        if lent is None and self._held.bursts:
            # This thread holds a channel already and must not wait for another: it might wait for itself.
            held = self._held.bursts[-1].lent
            assert held is not None
            return held
        lent = lent or self._pool.acquire()
        self._held.bursts.append(self)
        return lent

    def __enter__(self) -> Burst:
        self._open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None,
                 traceback: TracebackType | None) -> None:
        try:
            if exc is None:
                self.finish()
        except BaseException:
            self._give_back(clean=False)
            raise
        self._give_back(clean=exc is None)

    def _give_back(self, clean: bool) -> None:
        self._open = False
        self._gathered, self._size = [], 0
        lent, self.lent = self.lent, None
        if lent is not None and self in self._held.bursts:  # otherwise it was lent to another, who goes on with it
            self._held.bursts.remove(self)
            if clean:
                lent.rest()
            else:
                lent.discard()
            self._pool.release(lent)


def unreachable_broker(app: Any, connection: Any, exc: BaseException) -> OperationalError:
    """The error for a broker to which no connection can be made."""
    setting = 'broker_url' if app.conf.broker_write_url == app.conf.broker_url else 'broker_write_url'
    return OperationalError(f'Cannot connect to the broker at {connection.as_uri()}: {one_line(exc)}. Start it there, '
                            f'or correct the setting {setting}.')


def _pause(policy: Mapping[str, Any], tries: int) -> float:
    """Seconds to wait after `tries` that failed."""
    start, step, most = policy.get('interval_start'), policy.get('interval_step', 0.2), policy.get('interval_max', 1)
    return min(float(start or 0) + (tries - 1) * float(step or 0), float(most or 0))
