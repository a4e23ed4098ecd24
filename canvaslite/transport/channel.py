"""A RabbitMQ channel for messages as bytes. Like py-amqp's, a channel is used by one thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from amqp import spec
from amqp.exceptions import RecoverableConnectionError
from kombu.transport import pyamqp
from vine import promise

from canvaslite.transport.confirms import BrokerBlocked, Confirms, Returned, raise_returned
from canvaslite.transport.frames import content_frames, encode_ack, encode_reject, message_bytes, publish_frame
from canvaslite.transport.inbound import RawConsumer, RawDelivery


class Channel(pyamqp.Channel):  # type: ignore[misc]
    """A channel that also publishes, consumes and acknowledges messages as bytes."""

    #: The `amqp.Connection` of this package, ``None`` once the channel is closed.
    connection: Any
    channel_id: int
    is_closing: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Set while the channel is in confirm mode.
        self.confirms: Confirms | None = None
        #: The properties of the last message that the broker sent back, as bytes.
        self.returned_properties = b''
        super().__init__(*args, **kwargs)

    def publish_raw(self, exchange: str, routing_key: str, properties: bytes, body: bytes, mandatory: bool = False,
                    timeout: float | None = None, confirm_timeout: float | None = None) -> None:
        """Publish one message in one write; `properties` are those of `properties.encode_properties`.

        With ``confirm_publish`` on the connection it returns when the broker has confirmed the message.
        `timeout` (seconds) limits the writing, `confirm_timeout` (default: `timeout`) each wait for the confirm.
        Raises `BurstNacked` (a `MessageNacked`) or `MessagesReturned` (a `ChannelError`) when the broker refuses the
        message or sends it back, `TimeoutError` when no confirm came, and py-amqp's errors when channel or connection
        are lost.
        """
        frames = self.frames(exchange, routing_key, properties, body, mandatory)
        self.write_frames(frames, 1, ((exchange, routing_key),), timeout)
        if self.confirms is not None:
            self.wait_for_confirms(confirm_timeout or timeout)

    def frames(self, exchange: str, routing_key: str, properties: bytes, body: bytes, mandatory: bool = False) -> bytes:
        """The frames of one message, for `write_frames` on this channel."""
        frame_max = self._open_connection().frame_max
        method = publish_frame(self.channel_id, exchange, routing_key, mandatory)
        return content_frames(self.channel_id, method, properties, body, frame_max)

    def write_frames(self, data: bytes, count: int, routes: Sequence[tuple[str, str]] = (),
                     timeout: float | None = None, look: bool = True) -> None:
        """Write the frames of `count` messages, joined. Does not wait: end a burst with `wait_for_confirms`.

        Without `look` it does not see before what the broker has said meanwhile. `routes` (exchange and routing key of
        each message) name the messages in an error. An error means that any part of the burst may have arrived, and
        that the connection cannot be used any more.
        """
        connection = self._open_connection()
        if look:
            connection.read_pending()
        if connection.confirm_publish:
            self._select_confirms()
        try:
            if self.confirms is not None:
                self.confirms.expect(count, routes)
            connection.send_frames(data, timeout)
        except BaseException:  # also a signal handler's, which may have come before anything was written
            connection.break_off()
            raise

    def wait_for_confirms(self, timeout: float | None = None, resumable: bool = False) -> None:
        """Wait until the broker has answered for every message of this channel; at once when confirms are off.

        `timeout` limits the silence between two answers, in seconds. Raises as `publish_raw` does, and `BrokerBlocked`
        when the broker takes no messages now: later it takes those, and a `resumable` wait may be taken up again.
        `BurstNacked.positions` counts from the first message after the last call.
        """
        confirms, known, give_up, over = self.confirms, None, None, True
        if confirms is None:
            return
        try:
            while confirms.outstanding:
                connection = self._open_connection()
                # Other events are no answer, but that it may answer again is as good as one.
                if timeout is not None and known != (known := (confirms.outstanding, connection.blocked)):
                    give_up = monotonic() + timeout
                connection.await_event(give_up)
        except TimeoutError:
            waited_for = f'The broker did not confirm {confirms.describe()} within {timeout} seconds'
            if self.connection is not None and self.connection.blocked:
                over = not resumable
                raise BrokerBlocked(f'{waited_for}: it blocks publishing ({self.connection.blocked})') from None
            raise TimeoutError(waited_for) from None
        finally:
            if confirms.outstanding and over:
                confirms.give_up()
        confirms.raise_for_refused()

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the broker's answer to a method. Raises `RecoverableConnectionError` when the connection is dead."""
        with self._open_connection().awaiting_answer():
            return super().wait(*args, **kwargs)

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Close it, without waiting for a broker that hears nothing because it blocks the connection."""
        if self.connection is None or not self.connection.blocked:
            return super().close(*args, **kwargs)
        if self.is_open and not self.is_closing:
            self.is_closing = True
            self.send_method(spec.Channel.Close, 'BsBB', (0, '', 0, 0))
        return None

    def confirm_select(self, nowait: bool = False) -> Any:
        """Put the channel into confirm mode."""
        answer = super().confirm_select(nowait)
        self.confirms = Confirms()
        return answer

    def basic_publish_confirm(self, msg: Any, exchange: str = '', routing_key: str = '', *args: Any,
                              confirm_timeout: float | None = None, **kwargs: Any) -> Any:
        """Publish an ``amqp.Message`` and wait for its confirm (what ``basic_publish`` is in confirm mode)."""
        self._select_confirms()
        sent = self._basic_publish(msg, exchange, routing_key, *args, **kwargs)
        self.wait_for_confirms(confirm_timeout or kwargs.get('timeout'))
        return sent

    def _basic_publish(self, msg: Any, exchange: str = '', routing_key: str = '', mandatory: bool = False,
                       immediate: bool = False, timeout: float | None = None, confirm_timeout: float | None = None,
                       **kwargs: Any) -> Any:
        """Publish an ``amqp.Message``; returns, as py-amqp does, a promise that is already kept."""
        frame_max = self._open_connection().frame_max
        method = publish_frame(self.channel_id, exchange, routing_key, mandatory, immediate)
        frames = content_frames(self.channel_id, method, *message_bytes(msg), frame_max)
        self.write_frames(frames, 1, ((exchange, routing_key),), timeout)
        sent = promise()
        sent()
        return sent

    basic_publish = _basic_publish

    def _select_confirms(self) -> None:
        if self.confirms is None:
            self._confirm_selected = True  # py-amqp's own note of it
            self.confirm_select()

    def _open_connection(self) -> Any:
        connection = self.connection
        if connection is None:
            raise RecoverableConnectionError('The channel is closed')
        return connection

    def consume_raw(self, queue: str, callback: Callable[[RawDelivery], Any], no_ack: bool = False,
                    consumer_tag: str = '', arguments: Mapping[str, Any] | None = None, exclusive: bool = False,
                    on_cancel: Callable[[str], Any] | None = None, nowait: bool = False) -> str:
        """Start a consumer that gets each message as a `RawDelivery`; returns its tag.

        `on_cancel(consumer_tag)` is called when the broker ends the consumer (its queue was deleted); without it,
        reading from the connection raises `amqp.ConsumerCancelled`. `basic_cancel` ends it as any other consumer.
        """
        tag: str = self.basic_consume(
            queue, consumer_tag, no_ack=no_ack, exclusive=exclusive, nowait=nowait, callback=RawConsumer(callback),
            arguments=arguments, on_cancel=on_cancel)
        return tag

    def ack_raw(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge a delivery (`multiple`: and all before it) with the connection's next write or flush."""
        self._open_connection().queue_frame(encode_ack(self.channel_id, delivery_tag, multiple))

    def reject_raw(self, delivery_tag: int, requeue: bool = False) -> None:
        """Reject a delivery with the connection's next write or flush."""
        self._open_connection().queue_frame(encode_reject(self.channel_id, delivery_tag, requeue))

    def _on_basic_ack(self, delivery_tag: int, multiple: bool) -> None:
        if self.confirms is not None:
            self.confirms.settle(delivery_tag, multiple, accepted=True)
        super()._on_basic_ack(delivery_tag, multiple)

    def _on_basic_nack(self, delivery_tag: int, multiple: bool) -> None:
        if self.confirms is not None:
            self.confirms.settle(delivery_tag, multiple, accepted=False)
        super()._on_basic_nack(delivery_tag, multiple)

    def _on_basic_return(self, reply_code: int, reply_text: str, exchange: str, routing_key: str, message: Any) -> None:
        """A message came back. Someone may listen for it; otherwise whoever published it gets an error."""
        returned = Returned(reply_code, reply_text, exchange, routing_key, self.returned_properties)
        if self.events.get('basic_return'):
            super()._on_basic_return(reply_code, reply_text, exchange, routing_key, message)
        elif self.confirms is not None and self.confirms.outstanding:
            # Its confirm follows; raising now would leave that confirm to the next publish.
            self.confirms.add_return(returned)
        else:
            raise_returned([returned])

    def _do_revive(self) -> None:
        """The broker closed the channel and it is opened again: no longer in confirm mode, no consumers."""
        self.confirms = None
        super()._do_revive()

    def collect(self) -> None:
        self.confirms = None
        super().collect()
