"""Handing messages to RabbitMQ so that none is lost: write, confirm, and try again after an error.

What is known to have arrived is never sent again. Without publisher confirms that is known after an answer from the
broker to anything on the same channel, because it handles a channel's methods in order. So a message may arrive twice
when the connection breaks between its writing and that knowledge, but it does not get lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from kombu.exceptions import OperationalError

from canvaslite.publish.channels import PublishChannel
from canvaslite.publish.destination import Destination
from canvaslite.publish.errors import lost_connection, unreachable_broker
from canvaslite.publish.options import RetryPolicy
from canvaslite.transport.confirms import BurstNacked

__all__ = ('RawMessage', 'Sender')

logger = logging.getLogger('canvaslite.publish')

#: Bytes gathered before they are written.
CHUNK = 65536
#: Bytes written before the broker is asked whether all have arrived; what is not known to is kept to be sent again.
UNKNOWN_AT_MOST = 4 * 1024 * 1024


class RawMessage(NamedTuple):
    """A message as bytes, and where it goes."""

    destination: Destination
    properties: bytes
    body: bytes


class _NotConnected(Exception):
    """No connection could be made this time; `error` says it to the user."""

    def __init__(self, error: OperationalError) -> None:
        self.error = error
        super().__init__(str(error))


class Sender:
    """Sends messages over one `PublishChannel`, keeping those that are not known to have arrived.

    `timeout` is the most seconds for one write, `confirm_timeout` for the wait between two confirms.
    """

    __slots__ = ('_app', '_kept', '_lent', '_unknown', '_writes', '_written', 'confirm_timeout', 'policy', 'timeout')

    def __init__(self, app: Any, channel: PublishChannel, policy: RetryPolicy) -> None:
        self._app = app
        self._lent = channel
        #: Written, and not known to have arrived; how many bytes that is.
        self._kept: list[RawMessage] = []
        self._unknown = 0
        self._writes = 0
        #: How many messages of the running `_write` are in `_kept`.
        self._written = 0
        self.policy = policy
        self.timeout: float | None = None
        self.confirm_timeout: float | None = None

    def send(self, messages: Sequence[RawMessage], settle: bool = False) -> None:
        """Write messages; with `settle` return when they are known to have arrived.

        Raises OperationalError when the broker cannot be reached or the retries are used up, and
        `amqp.ChannelError` for a message or a declaration that it does not accept.
        """
        self._send(messages, settle, self._attempt(messages, settle))

    def send_again(self, message: RawMessage, failure: BaseException) -> None:
        """Send a message whose first try, not made here, ended with `failure`. Raises as `send`."""
        self._kept, self._written = [message], 1
        self._send([message], False, failure)
        self.finish()

    def _send(self, messages: Sequence[RawMessage], settle: bool, failure: BaseException | None) -> None:
        tries = 0
        while failure is not None:
            tries += 1
            messages = self._take_unsent(failure, messages)
            if self.policy.exhausted(tries):
                raise self._final_error(failure, tries) from failure
            pause = self.policy.pause(tries)
            logger.warning('Publishing failed (%s): trying again in %.1fs.', failure or repr(failure), pause)
            time.sleep(pause)
            failure = self._attempt(messages, settle)

    def _attempt(self, messages: Sequence[RawMessage], settle: bool) -> BaseException | None:
        """Try once. Returns the error after which another try makes sense."""
        try:
            self._open()
            self._write(messages)
            if settle or self._unknown > UNKNOWN_AT_MOST:
                self._settle()
        except self._retried_errors() as exc:
            return exc
        return None

    def finish(self) -> None:
        """Learn that all has arrived, with publisher confirms or after more than one write. Raises as `send`.

        Without confirms a single write is left to the network, as a message sent alone is.
        """
        if self._kept and (self._writes > 1 or self._confirming):
            self.send((), settle=True)

    @property
    def _confirming(self) -> bool:
        channel = self._lent.channel
        return channel is not None and channel.connection is not None and channel.connection.confirm_publish

    def _retried_errors(self) -> tuple[type[BaseException], ...]:
        connection = self._lent.connection
        return (_NotConnected, *connection.recoverable_connection_errors, *connection.recoverable_channel_errors,
                *self.policy.errors)

    def _final_error(self, exc: BaseException, tries: int) -> BaseException:
        if isinstance(exc, _NotConnected):
            return exc.error
        return lost_connection(self._app, self._lent.connection, exc, tries)

    def _forget_kept(self) -> None:
        self._kept.clear()
        self._unknown = 0

    def _open(self) -> None:
        self._written = 0
        if self._lent.channel is not None:
            return
        connection = self._lent.connection
        try:
            self._lent.open()
        except connection.connection_errors + connection.channel_errors as exc:
            error = unreachable_broker(self._app, connection, exc)
            if isinstance(exc, connection.recoverable_connection_errors):
                raise _NotConnected(error) from exc
            # Refused credentials, no such virtual host: another try would end the same.
            raise error from exc

    def _write(self, messages: Sequence[RawMessage]) -> None:
        channel = self._lent.channel
        declared = self._lent.declared
        frames: list[bytes] = []
        size = 0
        for count, (destination, properties, body) in enumerate(messages, 1):
            if destination not in declared:
                self._lent.declare(destination)
            frame = channel.frames(destination.exchange, destination.routing_key, properties, body,
                                   destination.mandatory)
            frames.append(frame)
            size += len(frame)
            if size >= CHUNK or count == len(messages):
                # Kept before it is written: if that is interrupted, nobody knows what arrived.
                self._kept += messages[self._written:count]
                self._written = count
                self._unknown += size
                self._writes += 1
                channel.write_frames(b''.join(frames), len(frames), self._routes(len(frames)), self.timeout)
                frames, size = [], 0

    def _routes(self, count: int) -> Sequence[tuple[str, str]]:
        """Exchange and routing key of the last `count` messages, for the error if one is refused."""
        if not self._confirming:
            return ()
        return [(message.destination.exchange, message.destination.routing_key) for message in self._kept[-count:]]

    def _settle(self) -> None:
        """Learn that all that was written has arrived."""
        channel = self._lent.channel
        if self._confirming:
            channel.wait_for_confirms(self.confirm_timeout or self.timeout)
        else:
            channel.basic_qos(0, 0, False)  # changes nothing; its answer comes after all that was published before it
        self._forget_kept()

    def _take_unsent(self, exc: BaseException, messages: Sequence[RawMessage]) -> list[RawMessage]:
        """What is to be sent again after `exc`, in order. The channel is left so that the next try can open it."""
        kept = list(self._kept)
        self._forget_kept()
        if isinstance(exc, BurstNacked):
            # The broker has answered for all of them: what it did not refuse is there.
            return [*(kept[position] for position in exc.positions), *messages[self._written:]]
        if isinstance(exc, self._lent.connection.recoverable_channel_errors):
            self._lent.drop_channel()
        else:
            self._lent.drop()
        return [*kept, *messages[self._written:]]
