"""The channels through which an app publishes, so that no message is lost: write, confirm, try again after an error.

Every channel has a connection to itself, so threads never share a socket, and an error on one concerns nobody else.

What the broker has confirmed is never sent again; what it has not is kept. A burst, and the first message after a
long silence or to a new destination, is confirmed before its caller goes on. Messages that follow one by one are a
*stream*: its callers go on at once, and the confirms are gathered in windows. What the broker does not confirm of a
stream is sent again, by the next caller or by the pool's thread; what it refuses can no longer be told to a caller, so
it is logged with its id, and the channel makes no more streams. A queue that may refuse messages, or a route that is
not known to lead to a queue, is no place for a stream.

With ``confirm_publish`` off, a message is known to have arrived after an answer from the broker to anything on the same
channel, because it handles a channel's methods in order. Either way a message may arrive twice when the connection
breaks between its writing and that knowledge.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from amqp.exceptions import ChannelError
from kombu.common import maybe_declare
from kombu.exceptions import OperationalError

from canvaslite.current import get_current_worker_task
from canvaslite.publish.messages import Destination, RawMessage
from canvaslite.publish.options import logger
from canvaslite.transport.confirms import BrokerBlocked, BurstNacked, MessagesReturned
from canvaslite.transport.properties import decode_properties
from canvaslite.utils.redact import one_line

__all__ = ('CHUNK', 'PublishChannel', 'unreachable_broker')

#: Bytes gathered before they are written.
CHUNK = 65536
#: Bytes written before the broker is asked whether all have arrived; what is not known to is kept to be sent again.
_UNKNOWN_AT_MOST = 4 * 1024 * 1024
#: Destinations that a channel remembers; others are looked up again, which costs little.
_DESTINATIONS_KEPT = 1000
#: Seconds between two messages of a stream at most; without one until somebody else looks after it; and until the
#: first of a window must be confirmed.
_STREAM_GAP, QUIET, _WINDOW_TIME = 60.0, 0.1, 1.0
#: Messages of a stream after which the confirms that have come are read.
_LOOK_EVERY = 32
#: Bytes of a message that is confirmed alone: the broker may find it too large.
_LARGE = 1024 * 1024
#: Task ids named in a log line.
_IDS_SHOWN = 20
#: Errors after which another try would end the same.
_FINAL = (BrokerBlocked, MessagesReturned)
#: Seconds for which a task waits for a broker that takes no messages: what was sent it takes when it can, and what is
#: sent again twice.
_BLOCKED_AT_MOST = 600.0


class _Blocked(OperationalError):
    """The broker takes no messages now, but will take those that were written."""


class _Refused(OperationalError):
    """The broker answered, and does not take a message."""


class PublishChannel:
    """One connection and its channel, used by one thread at a time; keeps messages not known to have arrived."""

    def __init__(self, app: Any) -> None:
        conf = app.conf
        self._app = app
        #: Seconds without a confirm after which the connection is taken for lost.
        self._patience: float | None = conf.broker_confirm_timeout
        self.connection: Any = app.connection_for_write(transport_options={
            'write_timeout': self._patience, **conf.broker_transport_options,
            'confirm_publish': conf.broker_transport_options.get('confirm_publish', True)})
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
        #: What the channel knows of the broker's confirms; it stays readable when the channel is lost.
        self._confirms: Any = None
        #: The messages of a stream that are not known to have arrived, and whether they must be written again.
        self._streamed: list[RawMessage] = []
        self._adrift = False
        #: Most messages of a window, 1 for no streams; when the running one must be confirmed.
        self._window: int = conf.broker_confirm_window if conf.broker_pool_limit != 0 else 1
        self._settle_by = 0.0
        #: When a message alone was last sent.
        self._last = -_STREAM_GAP

    # --- sending ---------------------------------------------------------------------------------

    def send_one(self, message: RawMessage) -> bool:
        """Publish one message; whether it is one of a stream, which somebody has to settle. Raises as `send` does."""
        now, destination, channel = monotonic(), message.destination, self.channel
        follows, self._last = now - self._last < _STREAM_GAP, now
        if channel is not None and self._is_declared(destination):
            if follows and self._window > 1 and destination.streams and len(message.body) < _LARGE and self._confirming:
                if len(self._streamed) >= self._window or self._unknown > _UNKNOWN_AT_MOST or now > self._settle_by:
                    self.settle_stream()
                    self._settle_by = now + _WINDOW_TIME
                if self.channel is not None:  # it was lost, if the stream had to be sent again
                    self._add_to_stream(message)
                    return bool(self._streamed)
            elif not self._streamed:
                self._send_alone(message)
                return False
        self.send((message,))
        self.finish()
        self.rest()
        return False

    def _send_alone(self, message: RawMessage) -> None:
        self._kept = [message]
        try:
            self._write_one(message)
            if self._confirming:
                self._settle(message.destination)
        except self._recoverable as exc:
            self.send((), settle=True, failure=exc)
        self.rest()

    def _add_to_stream(self, message: RawMessage) -> None:
        self._streamed.append(message)
        self._unknown += len(message.body)
        try:
            # What is confirmed by now need not be sent again if the connection is lost.
            self._write_one(message, look=len(self._streamed) % _LOOK_EVERY == 0)
        except Exception as exc:
            self._kept, self._streamed = self._streamed, []
            try:
                if not isinstance(exc, self._recoverable):
                    raise
                self.send((), settle=True, failure=exc)
            except Exception:
                self._keep_stream([kept for kept in self._kept if kept is not message])  # that one's caller is told
                raise
            self.rest()

    def _write_one(self, message: RawMessage, look: bool = True) -> None:
        destination, properties, body = message
        channel = self.channel
        channel.write_frames(channel.frames(destination.exchange, destination.routing_key, properties, body,
                                            self._must_arrive(destination)), 1, (), destination.timeout, look)

    @property
    def streams(self) -> int:
        """How many messages of a stream are not known to have arrived."""
        return len(self._streamed)

    @property
    def is_quiet(self) -> bool:
        """Whether a stream has ended, or been forgotten: nobody has sent more of it for a while."""
        return bool(self._streamed) and monotonic() - self._last > QUIET

    def settle_stream(self) -> None:
        """Learn that all of the stream has arrived. What the broker refuses is logged. Raises `OperationalError` when
        the broker cannot be reached; the messages are kept, and sent again the next time."""
        streamed, self._streamed = self._streamed, []
        if not streamed:
            return
        self._kept = [] if self._adrift else streamed
        try:
            self.send(streamed if self._adrift else (), settle=True, stream=True)
        except _Blocked:
            self._streamed = self._kept
            self.rest()
            raise
        except (_Refused, ChannelError) as exc:
            self._window = 1
            lost = [_id_of(message) for message in self._doubtful(self._kept)]
            logger.error('The broker did not take %d message(s) whose senders have gone on, of the tasks %s: %s. From '
                         'now on each message is confirmed before its sender goes on.', len(lost),
                         ', '.join(lost[:_IDS_SHOWN]) + (', ...' if len(lost) > _IDS_SHOWN else ''), one_line(exc))
        except BaseException:
            self._keep_stream(self._kept)
            raise
        self.rest()

    def _keep_stream(self, messages: list[RawMessage]) -> None:
        """Nobody knows whether they arrived: they are to be sent again over another channel."""
        self._streamed, self._adrift = messages, True
        self.forget()
        self.rest()

    def send(self, messages: Sequence[RawMessage], settle: bool = False, failure: BaseException | None = None,
             stream: bool = False) -> None:
        """Write messages; with `settle` return when they are known to have arrived.

        `failure` is the error of a first try that was made elsewhere. The last message's destination says how often
        and how long to try again. Raises OperationalError when the broker cannot be reached or the retries are used up,
        and `amqp.ChannelError` for a message or a declaration that it does not accept.
        """
        if self._streamed:
            self.settle_stream()
        destination = (messages or self._kept)[-1].destination
        self._written = 0
        if failure is None:
            failure = self._attempt(messages, settle, destination)
        policy = destination.retry_policy
        limit = 0 if policy is None else policy.get('max_retries', 3)
        tries, declared_anew = 0, False
        while failure is not None:
            if stream and isinstance(failure, BrokerBlocked) and self._written == len(messages):
                raise _Blocked(one_line(failure)) from failure
            messages = self._take_unsent(failure, messages)
            if isinstance(failure, MessagesReturned) and not declared_anew and any(
                    message.destination.declare for message in messages):
                logger.warning('%s: it is declared anew.', one_line(failure))
                declared_anew = True
                failure = self._attempt(messages, settle, destination)
                continue
            tries += 1
            if policy is None or (limit is not None and tries > limit) or isinstance(failure, _FINAL):
                self._kept = list(messages)
                if isinstance(failure, (OperationalError, MessagesReturned)):
                    raise failure
                raise (_Refused if isinstance(failure, BurstNacked) else OperationalError)(
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
        except (*self._recoverable, *further) as exc:
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
            self._confirms, self._adrift = None, False

    def _write(self, messages: Sequence[RawMessage], timeout: float | None) -> None:
        channel = self.channel
        frames: list[bytes] = []
        size = 0
        for count, (destination, properties, body) in enumerate(messages, 1):
            if destination not in self.declared:
                self._declare(destination)
            frame = channel.frames(destination.exchange, destination.routing_key, properties, body,
                                   self._must_arrive(destination))
            frames.append(frame)
            size += len(frame)
            if size >= CHUNK or count == len(messages):
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
        for entity in destination.declare:
            if not self._is_known(entity):
                maybe_declare(entity, self.channel)
        if destination.declared_once:
            if len(self.declared) >= _DESTINATIONS_KEPT:
                self.declared.clear()
            self.declared.add(destination)

    def _is_declared(self, destination: Destination) -> bool:
        return destination in self.declared or all(map(self._is_known, destination.declare))

    def _is_known(self, entity: Any) -> bool:
        # kombu asks the same, but only after it has copied the entity.
        return bool(entity.can_cache_declaration and hash(entity) in self.connection.declared_entities)

    @property
    def _recoverable(self) -> tuple[type[BaseException], ...]:
        """The errors after which another try makes sense."""
        connection = self.connection
        return (*connection.recoverable_connection_errors, *connection.recoverable_channel_errors, MessagesReturned)

    def _must_arrive(self, destination: Destination) -> bool:
        """Whether the broker is to send a message back that no queue gets."""
        return destination.mandatory or (destination.expected and self._confirming)

    @property
    def _confirming(self) -> bool:
        channel = self.channel
        return channel is not None and channel.connection is not None and channel.connection.confirm_publish

    def _settle(self, destination: Destination) -> None:
        """Learn that all that was written has arrived."""
        if self._confirming:
            self._confirms = self.channel.confirms
            patience, since = destination.confirm_timeout or destination.timeout or self._patience, monotonic()
            while True:
                try:
                    self.channel.wait_for_confirms(patience, resumable=True)
                    break
                except BrokerBlocked:
                    if get_current_worker_task() is None or monotonic() - since > _BLOCKED_AT_MOST:
                        raise
        else:
            self.channel.basic_qos(0, 0, False)  # changes nothing; its answer comes after all published before it
        self._kept, self._unknown = [], 0

    def _take_unsent(self, exc: BaseException, messages: Sequence[RawMessage]) -> list[RawMessage]:
        """What is to be sent again after `exc`, in order. The channel is left so that the next try can open it."""
        kept, self._kept, self._unknown = self._kept, [], 0
        if isinstance(exc, BurstNacked):
            # The broker has answered for all of them: what it did not refuse is there.
            return [*(kept[position] for position in exc.positions), *messages[self._written:]]
        if isinstance(exc, MessagesReturned):
            came_back = {each.properties for each in exc.returned}
            self.declared.clear()
            self.connection.declared_entities.clear()
            return [*(message for message in kept if message.properties in came_back), *messages[self._written:]]
        kept = self._doubtful(kept)
        if isinstance(exc, self.connection.recoverable_channel_errors):
            self.channel = None  # the broker closed it; the connection is kept
        else:
            self.forget()
            self.connection.collect()
            self.connection.maybe_switch_next()
        return [*kept, *messages[self._written:]]

    def _doubtful(self, messages: list[RawMessage]) -> list[RawMessage]:
        """Those of the `messages` since the last verdict that the broker has not confirmed."""
        confirms = self._confirms if self.channel is None else self.channel.confirms or self._confirms
        if confirms is None:
            return messages
        return [messages[position] for position in confirms.unconfirmed(len(messages))]

    # --- the end ---------------------------------------------------------------------------------

    def forget(self) -> None:
        """Forget the channel and what was declared on it."""
        self.channel = self._confirms = None
        self._adrift = bool(self._streamed)
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


def _id_of(message: RawMessage) -> str:
    return str(decode_properties(message.properties).get('correlation_id'))


def unreachable_broker(app: Any, connection: Any, exc: BaseException) -> OperationalError:
    """The error for a broker to which no connection can be made."""
    setting = 'broker_url' if app.conf.broker_write_url == app.conf.broker_url else 'broker_write_url'
    return OperationalError(f'Cannot connect to the broker at {connection.as_uri()}: {one_line(exc)}. Start it there, '
                            f'or correct the setting {setting}.')


def _pause(policy: Mapping[str, Any], tries: int) -> float:
    """Seconds to wait after `tries` that failed."""
    start, step, most = policy.get('interval_start'), policy.get('interval_step', 0.2), policy.get('interval_max', 1)
    return min(float(start or 0) + (tries - 1) * float(step or 0), float(most or 0))
