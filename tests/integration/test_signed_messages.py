"""Signed messages: nobody can send them, or send parts of them again, who has no trusted key."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import amqp
import kombu
import pytest
from kombu.serialization import registry

from canvaslite import chain, chord
from canvaslite.transport import signed
from canvaslite.wire import SENT_HEADER, SIGNATURE_HEADER
from tests.fixtures import APPS, load_app


@pytest.fixture(scope='module')
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and certificates of us, and of a stranger whom nobody trusts."""
    folder = tmp_path_factory.mktemp('keys')
    (folder / 'trusted').mkdir()
    for name in ('we', 'stranger'):
        subprocess.run(
            ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', f'/CN={name}', '-days', '2',
             '-keyout', folder / f'{name}.key', '-out', folder / f'{name}.pem'], check=True, capture_output=True)
    (folder / 'trusted' / 'we.pem').hardlink_to(folder / 'we.pem')
    return folder


@pytest.fixture
def own_registry() -> Iterator[None]:
    """What `setup_security` changes for the whole process is changed back."""
    saved = {name: copy.copy(value) for name, value in vars(registry).items()}
    yield
    vars(registry).update(saved)
    signed.in_use.clear()


@pytest.fixture
def env(broker_url: str, redis_url: str, keys: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    env = {'BROKER': broker_url, 'BACKEND': redis_url, 'KEYS': str(keys)}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def project(env: dict[str, str], own_registry: None, close_later: Callable[[Any], Any]) -> ModuleType:
    module = load_app('signed')
    close_later(module.app)
    return module


class Listener:
    """Gets what comes to a queue, and sends it again in other forms."""

    def __init__(self, channel: Any, queue: str, exchange: str, routing_key: str) -> None:
        self.channel, self.queue, self.exchange, self.routing_key = channel, queue, exchange, routing_key

    def take(self) -> Any:
        """The next waiting message."""
        until = time.monotonic() + 60
        while (message := self.channel.basic_get(self.queue, no_ack=True)) is None:
            assert time.monotonic() < until
        return message

    def send(self, message: Any, body: str | None = None, **headers: Any) -> None:
        """Send it with another body or other headers; one that is ``...`` is left out."""
        properties = dict(message.properties)
        changed = {**properties.pop('application_headers'), **headers}
        self.channel.basic_publish(amqp.Message(body or message.body, **properties, application_headers={
            name: value for name, value in changed.items() if value is not ...}), self.exchange, self.routing_key)


class Broker(Listener):
    """The queues of tasks and of dead messages."""

    def __init__(self, url: str) -> None:
        super().__init__(kombu.Connection(url).channel(), 'signed', '', 'signed')
        self.channel.queue_declare('dead', auto_delete=False)

    def await_dead(self, count: int) -> None:
        until = time.monotonic() + 10
        while self.channel.queue_declare('dead', passive=True).message_count < count:
            assert time.monotonic() < until, 'not dead-lettered'
            time.sleep(0.01)


@pytest.fixture
def broker(env: dict[str, str]) -> Iterator[Broker]:
    broker = Broker(env['BROKER'])
    yield broker
    broker.channel.connection.client.release()


def test_a_canvas_runs_and_what_was_changed_on_the_way_is_refused(
    project: ModuleType, broker: Broker, env: dict[str, str], start_worker: Callable[..., Any]
) -> None:
    asked = project.add.apply_async((1, 2), headers={'tenant': 'x', 'odd': (1, None, {'a': 2.5})})
    another = project.add.delay(5, 5)
    message, of_another = broker.take(), broker.take()
    assert message.headers[SIGNATURE_HEADER]

    worker = start_worker('signed', '-c', '2', '-l', 'INFO', **env)
    assert chord([project.add.s(1, 1), chain(project.add.s(1, 1), project.add.s(1))], project.total.s()).delay().get(
        timeout=30) == 5
    changes: list[dict[str, Any]] = [
        {'task': 'signed.erase'}, {'id': 'another-id'}, {'tenant': 'y'}, {'tenant': ...}, {'more': 1},
        {SIGNATURE_HEADER: ...}, {SIGNATURE_HEADER: of_another.headers[SIGNATURE_HEADER]}, {SIGNATURE_HEADER: ['x']},
        {'body': of_another.body}, {'body': 'x' + message.body[1:]}, {'expires': '2001-01-01T00:00:00'},
    ]
    for change in changes:
        broker.send(message, **change)
    broker.await_dead(len(changes))
    assert 'SecurityError' in worker.await_line('CRITICAL', count=len(changes))
    assert asked.state == 'PENDING' and 'erased' not in worker.output and 'Traceback' not in worker.output

    broker.send(message, **{'x-added-by-a-broker': 1})
    broker.send(of_another)
    assert asked.get(timeout=60) == 3 and another.get(timeout=10) == 10


def test_a_signed_task_that_the_broker_keeps_until_its_eta_is_accepted_when_it_comes_back(
    project: ModuleType, env: dict[str, str], start_worker: Callable[..., Any]
) -> None:
    worker = start_worker('signed', '-c', '1', '-l', 'INFO', **{**env, 'ETA_HOLD_TIME': '0'})
    result = project.add.apply_async((1, 2), countdown=3)
    worker.await_line(f'{result.id}. is kept by the broker')
    assert result.get(timeout=60) == 3


def send_from(env: dict[str, str], **more: str) -> str:
    """Call `add` from a process of its own; returns the task's id."""
    script = 'import signed; print(signed.add.delay(2, 3).id)'
    sent = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=60, check=True,
                          env={**os.environ, **env, **more, 'PYTHONPATH': f'{APPS.parents[1]}:{APPS}'})
    return sent.stdout.split()[-1]


def test_a_stranger_is_refused_and_celery_where_its_way_to_sign_is_not_accepted(
    project: ModuleType, broker: Broker, env: dict[str, str], start_worker: Callable[..., Any]
) -> None:
    worker = start_worker('signed', '-c', '1', '-l', 'INFO', **env)
    strange = send_from(env, SIGNER='stranger')
    celerys = send_from(env, CANVAS_PACKAGE='celery')
    broker.await_dead(2)
    assert project.app.AsyncResult(strange).state == project.app.AsyncResult(celerys).state == 'PENDING'
    worker.await_line('is not in security_cert_store')
    worker.await_line('security_accept_bodies')
    worker.stop()

    start_worker('signed', '-c', '1', '-l', 'INFO', **{**env, 'ACCEPT_BODIES': '1'})
    accepted = send_from(env, CANVAS_PACKAGE='celery')
    assert project.app.AsyncResult(accepted).get(timeout=30) == 5


def test_a_celery_worker_takes_what_we_sign(
    project: ModuleType, env: dict[str, str], start_worker: Callable[..., Any]
) -> None:
    worker = start_worker('signed', '-c', '1', '-l', 'INFO', package='celery', **{**env, 'CANVAS_PACKAGE': 'celery'})
    assert project.add.delay(2, 3).get(timeout=30) == 5
    project.app.control.rate_limit('signed.add', '7/s')
    worker.await_line('New rate limit', timeout=60)


class Eavesdropper(Listener):
    """Gets what is sent through an exchange of remote control, and sends it again in other forms."""

    def __init__(self, channel: Any, exchange: str, kind: str, routing_key: str = '') -> None:
        channel.exchange_declare(exchange, kind, durable=False, auto_delete=False)
        super().__init__(channel, channel.queue_declare('', exclusive=True).queue, exchange, routing_key)
        channel.queue_bind(self.queue, exchange, routing_key)


def test_a_command_is_done_once_and_only_as_it_was_signed(
    project: ModuleType, broker: Broker, env: dict[str, str], start_worker: Callable[..., Any]
) -> None:
    worker = start_worker('signed', '-c', '1', '-l', 'INFO', **env)
    eavesdropper = Eavesdropper(broker.channel, 'celery.pidbox', 'fanout')
    assert [*project.app.control.ping(timeout=5, limit=1)[0].values()] == [{'ok': 'pong'}]
    ping = eavesdropper.take()
    project.app.control.rate_limit('signed.add', '7/s')
    command = eavesdropper.take()
    worker.await_line('New rate limit', timeout=60)

    def stale(seconds: float, **changed: Any) -> dict[str, Any]:
        headers = {**command.headers, SENT_HEADER: [time.time() - seconds, f'{seconds}'], **changed}
        signed.sign_message(headers, {}, command.body.encode())
        return headers

    refused: list[tuple[str, dict[str, Any]]] = [
        ('has come before', {}), ('is not of this', {'clock': 77}), ('is not of this', {'more': 1}),
        ('is not of this', {SENT_HEADER: [time.time(), 'another']}), ('only the body', {SIGNATURE_HEADER: ...}),
        ('is not of this', {'body': ping.body}), ('is not of this', {SIGNATURE_HEADER: ping.headers[SIGNATURE_HEADER]}),
        ('was sent 400', stale(400)), ('was sent -400', stale(-400)), ('before this worker began', stale(200)),
        ('does not say when', stale(0, **{SENT_HEADER: 'now'})),
    ]
    for _, change in refused:
        eavesdropper.send(command, **change)
    lines = worker.await_line('remote control message is of no use', timeout=60, count=len(refused)) and [
        line for line in worker.lines if 'of no use' in line]
    assert [reason in line for (reason, _), line in zip(refused, lines, strict=True)] == [True] * len(refused), lines
    project.app.control.rate_limit('signed.add', '8/s')
    worker.await_line('New rate limit', timeout=60, count=2)
    assert worker.output.count('New rate limit') == 2 and 'Traceback' not in worker.output


def test_a_reply_is_taken_only_as_it_was_signed(
    project: ModuleType, broker: Broker, env: dict[str, str], start_worker: Callable[..., Any],
    caplog: pytest.LogCaptureFixture
) -> None:
    start_worker('signed', '-c', '1', '-l', 'INFO', **env)
    eavesdropper = Eavesdropper(broker.channel, 'celery.pidbox', 'fanout')
    body = registry.dumps({'liar@x': {'ok': 'pong'}}, 'auth')

    def disturb(reply: Any) -> None:
        if 'liar@x' in reply:
            return
        command = registry.loads(eavesdropper.take().body, *body[:2])
        unsigned, signed_whole, of_another = ({'clock': 1, 'ticket': command['ticket']} for _ in range(3))
        signed.sign_message(signed_whole, {}, body[2].encode())
        of_another['ticket'] = 'another'
        signed.sign_message(of_another, {}, body[2].encode())
        of_another['ticket'] = command['ticket']
        for headers in unsigned, of_another, signed_whole:
            broker.channel.basic_publish(
                amqp.Message(body[2], content_type=body[0], content_encoding=body[1], application_headers=headers),
                'reply.celery.pidbox', command['reply_to']['routing_key'])

    replies = project.app.control.ping(timeout=5, limit=2, callback=disturb)
    assert [name for reply in replies for name in reply if name == 'liar@x'] == ['liar@x'] and len(replies) == 2
    assert [record.message.split(':')[0] for record in caplog.records] == ['A reply is refused'] * 2


def test_commands_of_celery_are_done_where_its_way_to_sign_is_accepted(
    project: ModuleType, env: dict[str, str], start_worker: Callable[..., Any]
) -> None:
    script = 'import signed; signed.app.control.rate_limit("signed.add", "9/s")'

    def command() -> None:
        subprocess.run([sys.executable, '-c', script], timeout=60, check=True, env={
            **os.environ, **env, 'CANVAS_PACKAGE': 'celery', 'PYTHONPATH': f'{APPS.parents[1]}:{APPS}'})

    worker = start_worker('signed', '-c', '1', '-l', 'INFO', **env)
    command()
    assert 'security_accept_bodies' in worker.await_line('is of no use', timeout=60)
    worker.stop()
    worker = start_worker('signed', '-c', '1', '-l', 'INFO', **{**env, 'ACCEPT_BODIES': '1'})
    command()
    worker.await_line('New rate limit', timeout=60)


def test_processes_that_are_spawned_sign_and_check_as_well(
    project: ModuleType, broker: Broker, env: dict[str, str], start_worker: Callable[..., Any]
) -> None:
    asked = project.add.delay(5, 5)
    message = broker.take()
    start_worker('signed', '-c', '2', '-l', 'INFO', **{**env, 'START_METHOD': 'spawn'})
    assert chord([project.add.s(1, 1), chain(project.add.s(1, 1), project.add.s(1))], project.total.s()).delay().get(
        timeout=60) == 5
    broker.send(message, task='signed.erase')
    broker.await_dead(1)
    assert asked.state == 'PENDING'
