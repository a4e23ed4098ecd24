"""kombu's RabbitMQ transport with a fast path beside it.

`Transport`, `Connection` and `Channel` are kombu's ``pyamqp`` classes: whatever kombu and py-amqp do on theirs works on
these. Added are messages as bytes (see `channel.Channel`), large reads, and gathered writes (`Connection.flush`).
"""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from amqp import spec
from amqp.exceptions import AMQPError, RecoverableConnectionError
from kombu.transport import pyamqp

from canvaslite.transport.channel import Channel
from canvaslite.transport.confirms import BrokerBlocked
from canvaslite.transport.connection import check_amqp_tls
from canvaslite.transport.frames import content_frames, encode_frame, message_bytes
from canvaslite.transport.inbound import InboundFrames
from canvaslite.transport.sockets import RECEIVE_SIZE, BufferedTCP, BufferedTLS

logger = logging.getLogger('celery.transport')

#: Reads in one turn of an event loop, so that other descriptors get theirs.
_READS_PER_TURN = 8
#: Seconds that a closing connection waits for the broker.
_CLOSE_TIMEOUT = 10.0
#: Seconds of silence after which a broker from which an answer is awaited is asked for a sign of life, seconds for
#: that, seconds once it has taken a new connection, and, where it takes none, in all (or the ``write_timeout``).
_ASK_AFTER, _SIGN_WITHIN, _SIGN_AT_LAST, _SILENT_AT_MOST = 1.0, 3.0, 0.5, 10.0


class Connection(pyamqp.Connection):  # type: ignore[misc]
    """A connection that reads in large pieces and gathers small writes."""

    Channel = Channel

    _transport: Any
    _on_inbound_frame: Any
    #: The `kombu.Connection` that this one was made for.
    client: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._queued: list[bytes] = []
        self._write_lock = threading.Lock()
        self._loop: Any = None
        self._turn: Callable[[], Any] | None = None
        self._turn_due = False
        self._dispatching = self._awaits_answer = False
        #: Opened, and closed, to see whether the broker is there.
        self._witness: Any = None
        #: Why the broker takes no messages on this connection; empty while it does.
        self.blocked = ''
        super().__init__(*args, **{**kwargs, 'frame_handler': InboundFrames,
                                   'frame_writer': lambda connection, transport: connection.write_method})

    def Transport(self, host: str, connect_timeout: float | None, ssl: Any = False, read_timeout: float | None = None,
                  write_timeout: float | None = None, **options: Any) -> Any:
        """The socket for this connection (py-amqp calls it so)."""
        return (BufferedTLS if ssl else BufferedTCP)(
            host, connect_timeout=connect_timeout, ssl=ssl, read_timeout=read_timeout, write_timeout=write_timeout,
            **options)

    # --- writing -------------------------------------------------------------------------

    def queue_frame(self, frame: bytes) -> None:
        """Keep `frame` until the next write or `flush`."""
        with self._write_lock:
            self._queued.append(frame)

    def flush(self) -> None:
        """Write what is queued, in one system call."""
        if self._queued:
            self.send_frames(b'')

    def write_method(self, kind: int, channel_id: int, signature: tuple[int, int] | None, arguments: bytes | str | None,
                     message: Any) -> None:
        """Write one frame, or a method with its `message`, an ``amqp.Message`` (py-amqp's ``frame_writer``)."""
        payload = arguments.encode() if isinstance(arguments, str) else arguments or b''
        frame = encode_frame(kind, channel_id, b'' if signature is None else struct.pack('>HH', *signature) + payload)
        if message is not None:
            frame = content_frames(channel_id, frame, *message_bytes(message), self.frame_max)
        self.send_frames(frame)

    def send_frames(self, data: bytes, timeout: float | None = None) -> None:
        """Write whole frames, after what is queued, in `timeout` seconds. Any error leaves the connection unusable."""
        transport = self._live_transport()
        if timeout is not None:
            try:
                with transport.having_timeout(timeout):
                    self.send_frames(data)
            except TimeoutError:
                raise RecoverableConnectionError(f'The broker took no data for {timeout} seconds') from None
            return
        with self._write_lock:
            try:
                if self._queued:
                    data = b''.join(self._queued) + data
                    self._queued.clear()
                transport.write(data)
            except BaseException:  # also a signal handler's: nobody can go on with a frame that is out in part
                transport.break_off()
                raise
            self.bytes_sent += 1  # py-amqp's heartbeat only looks whether it changed

    def _live_transport(self) -> Any:
        transport = self._transport
        if transport is None or not transport.connected:
            raise RecoverableConnectionError('The connection to the broker is closed')
        return transport

    def break_off(self) -> None:
        """End the connection without a word to the broker: its stream can no longer be followed."""
        if self._transport is not None:
            self._transport.break_off()

    # --- reading -------------------------------------------------------------------------

    def drain_events(self, timeout: float | None = None) -> None:
        """Dispatch one event, waited for up to `timeout` seconds (``None``: as long as it takes). Raises
        `TimeoutError`."""
        if timeout is None and self._awaits_answer:
            self.await_event()
        else:
            self._dispatch_one(timeout)

    def _dispatch_one(self, timeout: float | None) -> None:
        inbound = self._on_inbound_frame
        outer, self._dispatching = self._dispatching, True
        try:
            while not inbound.dispatch_next():
                if self._queued:
                    self.flush()
                self._read(timeout)
        finally:
            self._dispatching = outer
            self._announce_rest()

    def read_pending(self) -> None:
        """Dispatch what the broker has said meanwhile, without waiting: a closed channel, a blocked connection.

        Within a callback of this connection it does nothing: whoever called the callback goes on reading, and a
        consumer that publishes for each message would go one level deeper with each message that is here already.
        """
        if self._dispatching:
            return
        try:
            self._read(0)
        except TimeoutError:
            if not self._on_inbound_frame.holds_frame:
                return
        self._dispatch_all()

    def read_available(self) -> None:
        """Dispatch all that is there, without waiting; an event loop calls it when the socket is readable."""
        transport = self._live_transport()
        self._dispatch_all()
        for _ in range(_READS_PER_TURN):
            try:
                size = self._read(0)
            except TimeoutError:
                return
            self._dispatch_all()
            if self._transport is not transport or (size < RECEIVE_SIZE and not transport.pending()):
                return
        if transport.pending():
            self._call_soon()

    def _read(self, timeout: float | None) -> int:
        """Read once, and return how many bytes came."""
        transport = self._live_transport()
        try:
            data = transport.receive(timeout)
            self._on_inbound_frame.feed(data)
        except (OSError, AMQPError):
            raise
        except BaseException:  # a signal handler's: what was read may be lost, and with it the place in the stream
            transport.break_off()
            raise
        return len(data)

    def _dispatch_all(self) -> None:
        outer, self._dispatching = self._dispatching, True
        try:
            self._on_inbound_frame.dispatch_all()
        finally:
            self._dispatching = outer
            self._announce_rest()

    # --- waiting for an answer -----------------------------------------------------------------

    @contextlib.contextmanager
    def awaiting_answer(self) -> Iterator[None]:
        """Within the block the broker owes an answer, so that its silence means something (see `await_event`)."""
        outer, self._awaits_answer = self._awaits_answer, True
        try:
            yield
        finally:
            self._awaits_answer = outer

    def await_event(self, give_up: float | None = None) -> None:
        """Dispatch one event, waited for until `give_up`, a time of `monotonic`. Raises `TimeoutError`.

        A broker that is silent may be slow, or the connection half open: heartbeats, which would tell, are sent only by
        who has a loop. So it is asked, over a channel of its own, which it opens whatever the others wait for. If it
        takes a new connection instead, or stays silent for long, `RecoverableConnectionError` is raised. A broker that
        blocks this connection hears nothing, and has said so: it is waited for (for the ``write_timeout``, then
        `BrokerBlocked` is raised).
        """
        since, pause, asked, takes_others = monotonic(), _ASK_AFTER, False, False
        while True:
            try:
                self._dispatch_one(pause if give_up is None else max(min(pause, give_up - monotonic()), 0))
                return
            except TimeoutError:
                now = monotonic()
                if give_up is not None and now >= give_up:
                    raise
            patience = self.write_timeout
            if self.blocked:
                if give_up is None and patience is not None and now - since > patience:
                    raise BrokerBlocked(f'The broker blocks this connection ({self.blocked})')
            elif not asked:
                asked, pause = True, _SIGN_WITHIN
                self._ask()
            elif not takes_others and now - since <= (patience or _SILENT_AT_MOST):
                takes_others = self._takes_others()
                pause = _SIGN_AT_LAST if takes_others else _SIGN_WITHIN
            else:
                self.break_off()
                raise RecoverableConnectionError(f'The broker has said nothing for {now - since:.0f} seconds, though '
                                                 'asked: the connection is half open')

    def _ask(self) -> None:
        """Have the broker say anything."""
        if self._witness is None or self._witness.connection is None:
            self._witness = self.Channel(self)
            self._witness.send_method(spec.Channel.Open, 's', ('',))
        else:
            self._witness.send_method(spec.Channel.Close, 'BsBB', (0, '', 0, 0))

    def _takes_others(self) -> bool:
        """Whether a new connection to the broker can be had: it is neither away nor too busy."""
        try:
            another = self.client.transport.establish_connection()
        except Exception:
            return False
        with contextlib.suppress(Exception):
            another.close()
        return True

    # --- event loop ------------------------------------------------------------------------

    def attach_loop(self, loop: Any, turn: Callable[[], Any]) -> None:
        """`loop` calls `turn` whenever the socket is readable; frames that are already here are announced to it."""
        self._loop, self._turn = loop, turn
        self._announce_rest()

    def detach_loop(self) -> None:
        self._loop = self._turn = None

    def _announce_rest(self) -> None:
        if self._loop is not None and self._on_inbound_frame is not None and self._on_inbound_frame.holds_frame:
            self._call_soon()

    def _call_soon(self) -> None:
        """Have the loop come back without the socket: it cannot see what is in our buffer (or in that of TLS)."""
        if self._loop is not None and not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn_due = False
        if self._turn is not None and self.connected:
            self._turn()

    # --- the broker's health -------------------------------------------------------------------

    def heartbeat_tick(self, rate: int = 2) -> None:
        """Send a heartbeat when one is due. Raises `ConnectionForced` when the broker has been silent for too long."""
        try:
            super().heartbeat_tick(rate)
        except AMQPError:
            self.break_off()  # nobody is there to take leave of
            raise

    def _on_blocked(self) -> None:
        self.blocked = 'memory or disk alarm; see its log'
        logger.warning('The broker blocks publishing on this connection (%s)', self.blocked)
        super()._on_blocked()

    def _on_unblocked(self) -> None:
        self.blocked = ''
        logger.info('The broker takes messages on this connection again')
        super()._on_unblocked()

    # --- the end -----------------------------------------------------------------------------

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Take leave of the broker, without waiting long for its answer; a lost connection is only let go, and one that
        the broker blocks."""
        if self._transport is not None and (self.blocked or not self._transport.connected):
            self.collect()
            return None
        try:
            if self._transport is not None:
                self._transport.sock.settimeout(_CLOSE_TIMEOUT)
            return super().close(*args, **kwargs)
        except RecoverableConnectionError:  # lost while the broker's answer was awaited
            self.collect()
            raise

    def collect(self) -> None:
        self._queued.clear()
        self.detach_loop()
        super().collect()


class Transport(pyamqp.Transport):  # type: ignore[misc]
    """kombu's transport for ``amqp://`` and ``pyamqp://``."""

    Connection = Connection

    def establish_connection(self) -> Any:
        """A new connection to the client's current host, whose name its certificate must have."""
        client = self.client
        given = client.ssl
        client.ssl = check_amqp_tls(given, client.hostname or 'localhost')
        try:
            return super().establish_connection()
        finally:
            client.ssl = given

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        connection.transport.raise_on_initial_eintr = True
        loop.add_reader(connection.sock, self.on_readable, connection, loop)
        connection.attach_loop(loop, lambda: self.on_readable(connection, loop))

    def unregister_from_event_loop(self, connection: Any, loop: Any) -> None:
        connection.detach_loop()
        sock = getattr(connection._transport, 'sock', None)
        if sock is not None:
            loop.remove_reader(sock)

    def on_readable(self, connection: Any, loop: Any) -> None:
        """Dispatch all that has arrived. Raises `RecoverableConnectionError` when the connection is closed."""
        connection.read_available()


class SSLTransport(Transport, pyamqp.SSLTransport):  # type: ignore[misc]
    """kombu's transport for ``amqps://``."""
