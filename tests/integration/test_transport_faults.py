"""What becomes of a connection when the way to the broker is bad."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import amqp
import pytest
from kombu.asynchronous import Hub

from canvaslite.transport.connection import BrokerConnection, close_inherited
from canvaslite.transport.inbound import RawDelivery
from canvaslite.transport.properties import encode_properties
from tests.integration.proxy import Proxy

PROPERTIES = encode_properties({'id': 'some id'}, delivery_mode=1)
LOST = (OSError, amqp.exceptions.ConnectionError)


class Interrupted(Exception):
    """What a signal handler raises, as a soft time limit does."""


@pytest.fixture
def interrupt_after() -> Iterator[Callable[[float], None]]:
    """Raise `Interrupted` in the main thread after so many seconds."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope='session')
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's context with a certificate that nobody knows."""
    folder: Path = tmp_path_factory.mktemp('tls')
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=127.0.0.1', '-days', '1',
         '-keyout', 'key.pem', '-out', 'certificate.pem'], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / 'certificate.pem', folder / 'key.pem')
    return context


def exchange_messages(connection: BrokerConnection, count: int, size: int) -> None:
    """Send messages over the connection and receive them again."""
    channel = connection.default_channel
    channel.queue_declare('echo', durable=False)
    got: list[RawDelivery] = []
    bodies = [b'%0*d' % (size, number) for number in range(count)]

    frames = b''.join(channel.frames('', 'echo', PROPERTIES, body) for body in bodies)
    channel.write_frames(frames, count)
    tag = channel.consume_raw('echo', got.append)
    while len(got) < count:
        connection.drain_events(timeout=10)
    channel.ack_raw(got[-1].delivery_tag, multiple=True)
    channel.basic_cancel(tag)

    assert [delivery.body for delivery in got] == bodies
    channel.queue_delete('echo')


@pytest.mark.parametrize(('piece', 'size'), [(1, 30), (3, 30), (7, 300), (1000, 200_000)])
def test_bytes_that_trickle_in_make_the_same_messages(broker_url: str, piece: int, size: int) -> None:
    with Proxy(broker_url, piece) as proxy, BrokerConnection(proxy.url) as connection:
        exchange_messages(connection, 20, size)


def test_messages_pass_through_tls(broker_url: str, tls: ssl.SSLContext) -> None:
    options = {'cert_reqs': ssl.CERT_NONE}
    with Proxy(broker_url, tls=tls) as proxy, BrokerConnection(proxy.url, ssl=options) as connection:
        exchange_messages(connection, 20, 5)
        exchange_messages(connection, 5, 1_000_000)
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0)
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.05)
        exchange_messages(connection, 200, 200)


def test_the_hub_gets_what_tls_has_decrypted_already(broker_url: str, tls: ssl.SSLContext) -> None:
    options = {'cert_reqs': ssl.CERT_NONE}
    with Proxy(broker_url, tls=tls) as proxy, BrokerConnection(proxy.url, ssl=options) as connection:
        channel = connection.default_channel
        channel.queue_declare('hub', durable=False)
        channel.write_frames(b''.join(channel.frames('', 'hub', PROPERTIES, b'%0900d' % n) for n in range(1000)), 1000)
        got: list[RawDelivery] = []
        hub = Hub()
        connection.register_with_event_loop(hub)
        channel.consume_raw('hub', got.append, no_ack=True)

        hub.call_later(10, pytest.fail, 'ten seconds have passed')
        while len(got) < 1000:
            hub.run_once()
        assert [delivery.body for delivery in got] == [b'%0900d' % n for n in range(1000)]

        hub.close()


@pytest.mark.parametrize('confirm', [False, True])
def test_a_connection_lost_in_the_middle_of_a_burst_is_an_error_and_stays_lost(proxy: Proxy, confirm: bool) -> None:
    options = {'confirm_publish': confirm}
    with BrokerConnection(proxy.url, transport_options=options) as connection:
        channel = connection.default_channel
        channel.queue_declare('burst', durable=False)
        burst = b''.join(channel.frames('', 'burst', PROPERTIES, b'x' * 1000) for _ in range(5000))
        proxy.cut_after(1_500_000)

        with pytest.raises(LOST):
            channel.write_frames(burst, 5000)
            channel.wait_for_confirms(timeout=10)
            channel.queue_declare('burst', passive=True)

        assert not connection.connected
        for _ in range(2):
            with pytest.raises(LOST):
                channel.publish_raw('', 'burst', PROPERTIES, b'body')
        exchange_messages(connection, 3, 10)  # over a new connection


def test_a_broker_that_takes_no_data_is_an_error_after_the_timeout(proxy: Proxy) -> None:
    with BrokerConnection(proxy.url) as connection:
        channel = connection.default_channel
        proxy.hold()

        with pytest.raises(amqp.RecoverableConnectionError, match=r'0\.2 seconds'):
            channel.publish_raw('', 'any', PROPERTIES, b'x' * 50_000_000, timeout=0.2)

        assert not connection.connected
        with pytest.raises(amqp.RecoverableConnectionError):
            channel.publish_raw('', 'any', PROPERTIES, b'body')


def test_a_write_that_a_signal_interrupts_leaves_no_half_frame_behind(
    proxy: Proxy, interrupt_after: Callable[[float], None],
) -> None:
    with BrokerConnection(proxy.url) as connection:
        channel = connection.default_channel
        frames = channel.frames('', 'any', PROPERTIES, b'x' * 50_000_000)
        proxy.hold()
        interrupt_after(0.2)

        with pytest.raises(Interrupted):
            channel.write_frames(frames, 1)

        proxy.let_go()
        with pytest.raises(amqp.RecoverableConnectionError):
            channel.publish_raw('', 'any', PROPERTIES, b'body')
        connection.default_channel.queue_declare('again', exclusive=True)


def test_a_wait_for_a_confirm_that_a_signal_interrupts_does_not_confuse_the_next_one(
    proxy: Proxy, interrupt_after: Callable[[float], None],
) -> None:
    with BrokerConnection(proxy.url, transport_options={'confirm_publish': True}) as connection:
        channel = connection.default_channel
        channel.publish_raw('', 'any', PROPERTIES, b'body')
        proxy.hold()
        interrupt_after(0.2)

        with pytest.raises(Interrupted):
            channel.publish_raw('', 'any', PROPERTIES, b'body')

        proxy.let_go()
        with pytest.raises(LOST):
            channel.publish_raw('', 'any', PROPERTIES, b'body', confirm_timeout=10)
        connection.default_channel.publish_raw('', 'any', PROPERTIES, b'body', confirm_timeout=10)


def test_the_broker_closing_the_connection_is_told_to_reader_and_writer(
    broker_url: str, rabbitmqctl: Callable[..., str],
) -> None:
    with BrokerConnection(broker_url) as reader, BrokerConnection(broker_url) as writer:
        reader.connect()
        channel = writer.default_channel
        rabbitmqctl('close_all_connections', '--vhost', broker_url.rsplit('/', 1)[1], 'a test')

        with pytest.raises(amqp.ConnectionForced, match='a test'):
            reader.drain_events(timeout=10)
        with pytest.raises(amqp.ConnectionForced, match='a test'):
            channel.publish_raw('', 'any', PROPERTIES, b'body')

        reader.ensure_connection(max_retries=1)
        exchange_messages(reader, 3, 10)


def test_a_broker_that_vanishes_is_told_to_who_waits(proxy: Proxy) -> None:
    with BrokerConnection(proxy.url) as connection:
        connection.connect()
        proxy.cut()

        with pytest.raises(LOST):
            connection.drain_events(timeout=10)

        assert not connection.connected


@pytest.mark.parametrize('confirm', [False, True], ids=['unconfirmed', 'confirmed'])
def test_an_answer_that_cannot_come_any_more_is_not_waited_for_without_end(proxy: Proxy, confirm: bool) -> None:
    with BrokerConnection(proxy.url, transport_options={'confirm_publish': confirm}) as connection:
        channel = connection.default_channel
        channel.publish_raw('', 'any', PROPERTIES, b'body')
        proxy.strand()

        began = time.monotonic()
        with pytest.raises(amqp.RecoverableConnectionError, match='half open'):
            if confirm:
                channel.publish_raw('', 'any', PROPERTIES, b'body', confirm_timeout=30)
            else:
                channel.queue_declare('any', exclusive=True)

        assert time.monotonic() - began < 8
        connection.default_channel.queue_declare('again', exclusive=True)


def test_an_answer_is_waited_for_while_the_broker_is_only_slow(proxy: Proxy) -> None:
    with BrokerConnection(proxy.url, transport_options={'confirm_publish': True}) as connection:
        channel = connection.default_channel
        channel.publish_raw('', 'any', PROPERTIES, b'body')
        proxy.hold()  # new connections are not served either
        timer = threading.Timer(4.5, proxy.let_go)
        timer.start()
        channel.publish_raw('', 'any', PROPERTIES, b'body', confirm_timeout=30)
        timer.join()
        for _ in range(2):  # as often as it likes
            proxy.hold()
            timer = threading.Timer(1.5, proxy.let_go)
            timer.start()
            channel.queue_declare('again', exclusive=True)
            timer.join()


def test_heartbeats_keep_a_silent_connection_and_end_a_dead_one(proxy: Proxy) -> None:
    with BrokerConnection(proxy.url, heartbeat=1) as connection:
        connection.connect()
        until = time.monotonic() + 3.5
        while time.monotonic() < until:
            connection.heartbeat_check(rate=4)
            try:
                connection.drain_events(timeout=0.2)
            except TimeoutError:
                continue
        assert connection.connected

        proxy.hold()
        with pytest.raises(amqp.ConnectionForced):
            while True:
                connection.heartbeat_check(rate=4)
                with pytest.raises(socket.timeout):
                    connection.drain_events(timeout=0.2)


@pytest.mark.filterwarnings('ignore:.*multi-threaded.*:DeprecationWarning')
def test_a_child_lets_go_of_the_connection_and_the_parent_keeps_it(broker_url: str) -> None:
    with BrokerConnection(broker_url) as connection:
        channel = connection.default_channel
        channel.queue_declare('family', durable=False)
        fd = channel.connection.sock.fileno()

        child = os.fork()
        if not child:
            _exit_code(_let_go, connection, fd)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

        channel.publish_raw('', 'family', PROPERTIES, b'from the parent')
        got: list[bytes] = []
        channel.consume_raw('family', lambda delivery: got.append(delivery.body))
        while len(got) < 2:
            connection.drain_events(timeout=10)
        assert got == [b'from the child', b'from the parent']


def _let_go(connection: BrokerConnection, fd: int) -> None:
    close_inherited(connection)
    with pytest.raises(OSError):
        os.fstat(fd)
    assert not connection.connected
    channel: Any = connection.default_channel
    channel.publish_raw('', 'family', PROPERTIES, b'from the child')
    connection.release()


def _exit_code(act: Callable[..., None], *args: Any) -> None:
    """End this child, with 0 when `act` did not raise."""
    code = 1
    try:
        act(*args)
        code = 0
    finally:
        os._exit(code)
