"""What RabbitMQ has to offer, as a user declares it: exchanges, priorities, quorum queues, arguments, TLS."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite.transport.delays import declare_levels
from tests.fixtures import load_app

from .proxy import Proxy


@pytest.fixture
def load_queues(servers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """The app of tests/apps/queues.py, with these queues."""
    def load(names: str) -> ModuleType:
        monkeypatch.setenv('QUEUES', names)
        return load_app('queues')

    return load


@pytest.fixture
def start_queues(servers: dict[str, str], start_worker: Callable[..., Any]) -> Callable[..., Any]:
    """Start a worker of these queues."""
    def start(names: str, name: str = 'w', **env: Any) -> Any:
        return start_worker('queues', '-c', '1', '-l', 'INFO', '-n', f'{name}@h', QUEUES=names, **{**servers, **env})

    return start


def test_a_task_is_sent_through_an_exchange_of_each_type(
    load_queues: Callable[..., ModuleType], start_queues: Callable[..., Any]
) -> None:
    names = 'direct,topic,fanout,headers'
    queues, _ = load_queues(names), start_queues(names)
    ways = [
        ({'queue': 'direct'}, ['', 'direct']),
        ({'exchange': 'by-key', 'routing_key': 'some.key'}, ['by-key', 'some.key']),
        ({'queue': 'topic', 'routing_key': 'orders.42.paid'}, ['by-pattern', 'orders.42.paid']),
        ({'exchange': 'by-pattern', 'routing_key': 'orders.7.paid'}, ['by-pattern', 'orders.7.paid']),
        ({'exchange': 'to-all', 'routing_key': 'whatever'}, ['to-all', 'whatever']),
        ({'exchange': 'by-headers', 'routing_key': 'any', 'headers': {'country': 'fr'}}, ['by-headers', 'any']),
    ]
    for options, came_by in ways:
        result = queues.where.apply_async((1,), **options)
        assert result.get(timeout=60)[1:3] == came_by, options


def test_a_broadcast_reaches_every_worker_once(
    load_queues: Callable[..., ModuleType], start_queues: Callable[..., Any]
) -> None:
    names = 'direct,news'
    workers = [start_queues(names, name) for name in ('one', 'two')]
    result = load_queues(names).where.apply_async((1,), queue='news')
    for worker in workers:
        worker.await_line(f'where.{result.id}. succeeded')
        assert len([line for line in worker.lines if 'received' in line]) == 1


def test_tasks_of_higher_priority_run_first(
    load_queues: Callable[..., ModuleType], start_queues: Callable[..., Any]
) -> None:
    queues = load_queues('priority')
    for priority in (1, 9, 5, 0, 9):
        queues.where.apply_async((priority,), priority=priority)
    worker = start_queues('priority')
    worker.await_line('succeeded', count=5)
    assert [int(line.rstrip(']').split(', ')[-1]) for line in worker.lines if 'succeeded' in line] == [9, 9, 5, 1, 0]


def test_a_consumer_of_lower_priority_gets_what_the_others_cannot_take(
    load_queues: Callable[..., ModuleType], start_queues: Callable[..., Any], rabbitmqctl: Callable[..., str],
    broker_url: str
) -> None:
    start_queues('last')
    listed = rabbitmqctl('list_consumers', '-p', broker_url.rpartition('/')[2], 'queue_name', 'arguments')
    assert '{"x-priority",-5}' in listed.replace(' ', '')


def test_quorum_queues_are_consumed_from_with_a_count_for_each_consumer(
    project: ModuleType, start_project_worker: Callable[..., Any], rabbitmqctl: Callable[..., str], broker_url: str
) -> None:
    worker = start_project_worker(QUEUE_TYPE='quorum')
    worker.await_line('Global QoS is disabled')
    project.app.conf.task_default_queue_type = 'quorum'
    results = [project.add.delay(number, 1) for number in range(50)]
    assert [result.get(timeout=60) for result in results] == list(range(1, 51))
    consumers = rabbitmqctl('list_consumers', '-p', broker_url.rpartition('/')[2], 'queue_name', 'prefetch_count')
    assert 'proj\t8' in consumers


def test_a_quorum_queue_that_only_the_broker_knows_for_one_is_consumed_from(
    load_queues: Callable[..., ModuleType], start_queues: Callable[..., Any]
) -> None:
    queues = load_queues('given')
    with queues.app.connection_for_write() as connection:
        connection.default_channel.queue_declare('given', durable=True, auto_delete=False,
                                                 arguments={'x-queue-type': 'quorum'})
    worker = start_queues('given', await_ready=False)
    assert queues.where.delay(5).get(timeout=60)[3] == 5
    assert len([line for line in worker.lines if 'Connection to broker lost' in line]) == 1
    assert worker.stop() == 0


@pytest.mark.parametrize('declared', [True, False], ids=['levels that are declared otherwise', 'no levels'])
def test_tasks_that_the_broker_delays_come_though_another_queue_cannot_be_bound(
    load_queues: Callable[..., ModuleType], start_worker: Callable[..., Any], servers: dict[str, str], declared: bool
) -> None:
    queues = load_queues('fanout,bills')  # nobody has declared the first: its workers are not there yet
    if declared:
        with queues.app.connection_for_write() as connection:
            declare_levels(connection.default_channel, 'classic')
    worker = start_worker('queues', '-c', '1', '-l', 'INFO', '-Q', 'bills', QUEUES='fanout,bills', **servers)
    result = queues.where.apply_async((1,), queue='bills', routing_key='bills.paid', countdown=2)
    assert result.get(timeout=60)[3] == 1
    assert ('Senders cannot have the broker delay' in worker.output) == declared


@pytest.mark.parametrize('queue', ['once', 'direct'])
def test_what_was_given_back_unstarted_runs_though_a_queue_allows_but_one_more_delivery(
    load_queues: Callable[..., ModuleType], start_queues: Callable[..., Any], queue: str
) -> None:
    queues = load_queues('direct,once')
    result = queues.where.apply_async((1,), queue=queue)
    with queues.app.connection_for_read() as connection:
        channel = connection.default_channel
        channel.basic_reject(channel.basic_get(queue).delivery_tag, requeue=True)
    start_queues('direct,once', LATE='1')
    assert result.get(timeout=60)[3] == 1


def test_a_worker_of_a_queue_that_is_declared_otherwise_says_which_and_stops(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    with project.app.connection_for_write() as connection:
        connection.default_channel.queue_declare('proj', durable=True, auto_delete=False)
    worker = start_project_worker(await_ready=False, QUEUE_TYPE='quorum')
    assert worker.wait(20) == 1
    assert 'Traceback' not in worker.output
    worker.await_line("Cannot consume from the task queues: .* for queue 'proj' .*task_default_queue_type")


def test_a_worker_reaches_its_broker_by_tls(
    load_queues: Callable[..., ModuleType], start_queues: Callable[..., Any], broker_url: str, tmp_path: Path
) -> None:
    pem, key = tmp_path / 'pem', tmp_path / 'key'
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=here', '-days', '1',
                    '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', pem],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    with Proxy(broker_url, tls=context) as proxy:
        worker = start_queues('direct', BROKER=proxy.url, CA=str(pem))
        queues = load_queues('direct')
        assert [queues.where.delay(n).get(timeout=60)[3] for n in range(3)] == [0, 1, 2]
        proxy.cut()
        worker.await_line('Consuming again')
        assert queues.where.delay(5).get(timeout=60)[3] == 5
        assert worker.stop() == 0


def test_options_of_the_transport_reach_the_worker(
    project: ModuleType, start_project_worker: Callable[..., Any], rabbitmqctl: Callable[..., str]
) -> None:
    worker = start_project_worker(TRANSPORT_OPTIONS='{"client_properties": {"connection_name": "the worker of proj"}}')
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert 'the worker of proj' in rabbitmqctl('list_connections', 'client_properties')
    assert worker.stop() == 0
