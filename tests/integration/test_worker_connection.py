"""What a worker does when its broker goes away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite import Celery, chain, chord, group
from canvaslite.exceptions import OperationalError, TimeoutError
from tests.fixtures import free_port

from .proxy import Proxy
from .wires import Wire


def test_the_worker_reconnects_when_the_broker_comes_back(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str]
) -> None:
    worker = start_project_worker(**wired)
    for _ in range(2):
        assert project.add.delay(1, 1).get(timeout=60) == 2
        wire.cut()
        worker.await_line('Connection to broker lost')
        worker.await_line(r'Cannot connect to amqp://guest:\*\*@.*Trying again in 2.00 seconds')
        result = project.add.delay(2, 2)
        wire.mend()
        assert result.get(timeout=60) == 4
    assert worker.stop() == 0


def test_a_worker_that_starts_before_its_broker_waits_for_it(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str]
) -> None:
    wire.cut()
    worker = start_project_worker(await_ready=False, **wired)
    worker.await_line(r'Cannot connect to amqp://guest:\*\*@.*Trying again in 2.00 seconds')
    wire.mend()
    worker.await_line('Connected to')
    assert project.add.delay(1, 1).get(timeout=60) == 2


def test_a_worker_with_several_urls_goes_to_the_next_when_one_fails(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str], broker_url: str
) -> None:
    worker = start_project_worker(BROKER=f'amqp://guest:guest@127.0.0.1:{free_port()}/x;{wired["BROKER"]};{broker_url}')
    worker.await_line('Will retry using next failover')
    worker.await_line(f'Connected to .*:{wire.port}/')
    assert project.add.delay(1, 1).get(timeout=60) == 2
    wire.cut()
    lost = time.monotonic()
    worker.await_line('Consuming again, .* seconds after the connection was lost')
    assert project.add.delay(2, 2).get(timeout=60) == 4
    assert time.monotonic() - lost < 10


def test_a_worker_whose_broker_falls_silent_notices_by_the_heartbeats_that_do_not_come(
    project: ModuleType, start_project_worker: Callable[..., Any], proxy: Proxy
) -> None:
    worker = start_project_worker(BROKER=proxy.url, HEARTBEAT='1')
    assert project.add.delay(1, 1).get(timeout=60) == 2
    proxy.strand()
    worker.await_line('Connection to broker lost.*heartbeat', timeout=8)
    worker.await_line('Consuming again')
    assert project.add.delay(2, 2).get(timeout=60) == 4


@pytest.mark.parametrize('ending', ['cut', 'strand'])
def test_a_command_over_a_connection_that_was_lost_while_nobody_used_it_reaches_the_worker(
    ending: str, start_project_worker: Callable[..., Any], proxy: Proxy, close_later: Callable[[Celery], Celery]
) -> None:
    worker = start_project_worker()
    caller = close_later(Celery('caller', broker=proxy.url, set_as_current=False))
    assert caller.control.inspect(timeout=10, limit=1).ping()
    getattr(proxy, ending)()
    assert caller.control.inspect(timeout=10, limit=1).ping()
    getattr(proxy, ending)()
    caller.control.shutdown()
    assert worker.wait() == 0


@pytest.fixture
def limited_user(broker_url: str, rabbitmqctl: Callable[..., str]) -> Iterator[Callable[[str], str]]:
    """Make a user who may do anything with what that expression names; the broker's URL with him."""
    name, vhost = f'user-{broker_url[-8:]}', broker_url.rsplit('/', 1)[1]

    def make(named: str) -> str:
        rabbitmqctl('add_user', name, 'password')
        rabbitmqctl('set_permissions', '-p', vhost, name, named, named, named)
        return broker_url.replace('guest:guest', f'{name}:password')
    yield make
    rabbitmqctl('delete_user', name)


def test_a_worker_that_may_use_only_its_queue_runs_tasks_without_remote_control(
    project: ModuleType, start_project_worker: Callable[..., Any], limited_user: Callable[[str], str]
) -> None:
    worker = start_project_worker(BROKER=limited_user('^(proj|amq.default)$'))
    worker.await_line('gets no remote control: .*ACCESS_REFUSED.* worker_enable_remote_control')
    assert project.add.delay(1, 1).get(timeout=20) == 2
    assert worker.stop() == 0
    assert 'Traceback' not in worker.output


def test_a_worker_that_may_not_use_its_queue_says_so_and_ends(
    start_project_worker: Callable[..., Any], limited_user: Callable[[str], str]
) -> None:
    worker = start_project_worker(await_ready=False, BROKER=limited_user('^$'))
    worker.await_line('Cannot consume from the task queues: .*ACCESS_REFUSED.* the permission')
    assert worker.wait() == 1
    assert 'Traceback' not in worker.output


def test_children_that_are_busy_keep_no_heartbeat_from_the_broker(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker(HEARTBEAT='1', ACKS_LATE='1')
    assert [result.get(timeout=60) for result in [project.spin.delay(2.5) for _ in range(2)]] == [2.5] * 2
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert 'lost' not in worker.output


def test_a_solo_worker_that_was_busy_for_longer_than_the_heartbeats_runs_its_task_once(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    worker = start_project_worker('--pool', 'solo', HEARTBEAT='1', ACKS_LATE='1')
    slow = project.span.delay(str(tmp_path / 'runs'), 'slow', 3)
    worker.await_line('Consuming again')
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert slow.get(timeout=30) == 'slow'
    assert (tmp_path / 'runs').read_text().count('slow 1 ') == 1


def test_a_queue_that_is_deleted_is_declared_and_consumed_from_again(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker()
    assert project.add.delay(1, 1).get(timeout=60) == 2
    with project.app.connection_for_write() as connection:
        connection.default_channel.queue_delete('proj')
    worker.await_line('The broker has cancelled consuming from proj: consuming again')
    assert [project.add.delay(number, 2).get(timeout=60) for number in range(20)] == list(range(2, 22))
    assert 'Connection to broker lost' not in worker.output


def test_remote_control_comes_back_when_its_queue_was_deleted_and_tasks_go_on(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path, rabbitmqctl: Callable[..., str],
    broker_url: str
) -> None:
    worker = start_project_worker('-n', 'named@here', ACKS_LATE='1')
    running = project.await_file.delay(str(tmp_path / 'go'), 7)
    worker.await_line('received')
    rabbitmqctl('delete_queue', '-p', broker_url.rpartition('/')[2], 'named@here.celery.pidbox')
    line = worker.await_line('The broker has cancelled consuming from named@here.celery.pidbox', timeout=60)
    assert 'remote control' in line and 'declaring it anew' in line
    until = time.monotonic() + 60
    while not project.app.control.ping(timeout=1, limit=1):
        assert time.monotonic() < until
    (tmp_path / 'go').touch()
    assert running.get(timeout=60) == 7
    assert 'Connection to broker lost' not in worker.output and 'None1' not in worker.output


def test_a_worker_waits_for_a_queue_that_is_not_as_it_was_when_the_broker_comes_back(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str]
) -> None:
    worker = start_project_worker(**wired)
    wire.cut()
    with project.app.connection_for_write() as connection:
        connection.default_channel.queue_delete('proj')
        connection.default_channel.queue_declare('proj', durable=False)
        wire.mend()
        worker.await_line("Cannot consume from the task queues: .*'durable' for queue 'proj'")
        connection.default_channel.queue_delete('proj')
    assert project.add.delay(1, 1).get(timeout=60) == 2
    worker.await_line('Consuming again')


@pytest.fixture
def impatient_broker(rabbitmqctl: Callable[..., str]) -> Iterator[None]:
    """RabbitMQ closes a channel on which a message is not acknowledged for a second, not for half an hour."""
    set_timeout = ('[application:set_env(rabbit, Name, Value) || {{Name, Value}} <- '
                   '[{{consumer_timeout, {}}}, {{channel_tick_interval, {}}}]].')
    rabbitmqctl('eval', set_timeout.format(1000, 200))
    yield
    rabbitmqctl('eval', set_timeout.format(1800000, 60000))


@pytest.mark.usefixtures('impatient_broker')
def test_a_closed_channel_is_opened_again_and_no_slot_is_lost(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker(ACKS_LATE='1')
    slow = [project.sleep.delay(1.8) for _ in range(2)]
    worker.await_line('Connection to broker lost.*delivery acknowledgement.*timed out')
    worker.await_line('Consuming again')
    assert [result.get(timeout=60) for result in slow] == [1.8] * 2
    assert [project.add.delay(number, 1).get(timeout=60) for number in range(20)] == list(range(1, 21))
    assert len([line for line in worker.lines if 'sleep' in line and 'succeeded' in line]) == 2
    assert worker.stop() == 0


@pytest.fixture
def alarm(rabbitmqctl: Callable[..., str]) -> Iterator[Callable[[], Any]]:
    """Have the broker, until the test ends, lack memory: it takes no more messages."""
    yield lambda: rabbitmqctl('set_vm_memory_high_watermark', '0.0000001')
    rabbitmqctl('set_vm_memory_high_watermark', '0.8')


def test_a_broker_that_lacks_memory_keeps_the_worker_from_sending_and_from_nothing_else(
    project: ModuleType, start_project_worker: Callable[..., Any], alarm: Callable[[], Any],
    rabbitmqctl: Callable[..., str], tmp_path: Path
) -> None:
    worker = start_project_worker()
    gate = tmp_path / 'gate'
    busy = [project.await_file.delay(str(gate), number) for number in range(2)]
    results = [project.add.delay(number, 1) for number in range(20)]
    sending = project.replace_by.delay(project.add.s(3, 4))
    alarm()
    gate.touch()
    assert [result.get(timeout=60) for result in busy] == [0, 1]
    assert [result.get(timeout=30) for result in results] == list(range(1, 21))
    worker.await_line('The broker blocks publishing')
    assert not sending.ready()
    rabbitmqctl('set_vm_memory_high_watermark', '0.8')
    assert sending.get(timeout=60) == 7
    assert 'Connection to broker lost' not in worker.output


def test_a_late_task_that_runs_while_the_connection_is_lost_runs_once(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str], tmp_path: Path
) -> None:
    worker = start_project_worker(ACKS_LATE='1', **wired)
    slow = project.sleep.delay(5)
    records = [project.record.delay(str(tmp_path / 'record'), number) for number in range(50)]
    worker.await_line('sleep.*received')
    assert records[-1].get(timeout=60) == 49
    wire.cut()
    worker.await_line('Connection to broker lost')
    wire.mend()
    worker.await_line('The message of the running task proj.sleep')
    assert slow.get(timeout=60) == 5
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert sorted(map(int, (tmp_path / 'record').read_text().split())) == list(range(50))
    assert worker.stop() == 0
    assert len([line for line in worker.lines if 'proj.sleep' in line and 'succeeded' in line]) == 1


@pytest.mark.parametrize('returns', ['before its process has ended', 'after'])
def test_a_late_task_that_is_cancelled_when_the_connection_is_lost_runs_again(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str], tmp_path: Path,
    rabbitmqctl: Callable[..., str], broker_url: str, returns: str
) -> None:
    worker = start_project_worker(ACKS_LATE='1', CANCEL='1', **wired)
    result = chord([project.await_file.s(str(tmp_path / 'file'), 3), project.add.s(1, 1)], project.total.s()).delay()
    worker.await_line('add.* succeeded')
    if returns == 'after':
        wire.cut()
        worker.await_line('exited with .exitcode 143')
        wire.mend()
    else:
        rabbitmqctl('close_all_connections', '--vhost', broker_url.rpartition('/')[2], 'for the test')
    worker.await_line('exited with .exitcode 143')
    worker.await_line('Consuming again')
    (tmp_path / 'file').touch()
    assert result.get(timeout=60) == 5
    assert worker.stop() == 0


@pytest.mark.alone
def test_a_worker_without_broker_stops_when_it_is_told(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str]
) -> None:
    worker = start_project_worker(**wired)
    wire.cut()
    worker.await_line('Trying again in')
    start = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - start < 2


def test_running_tasks_end_although_the_broker_goes_away_during_a_warm_stop(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str]
) -> None:
    worker = start_project_worker(**wired)
    result = project.sleep.delay(2)
    worker.await_line('received')
    (active,) = project.app.control.inspect(timeout=1, limit=1).active().values()
    assert [info['id'] for info in active] == [result.id]
    worker.process.terminate()
    worker.await_line('Warm shutdown')
    wire.cut()
    assert worker.wait() == 0
    assert result.get(timeout=30) == 2


@pytest.mark.parametrize('patience', [600, 10])
def test_a_canvas_whose_next_step_cannot_be_sent_waits_for_the_broker_and_fails_in_the_end(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str], patience: int
) -> None:
    worker = start_project_worker('-c', '3', LAST_PATIENCE=str(patience), **wired)
    slow, add = project.sleep.s(3), project.add
    results = {name: canvas.apply_async() for name, canvas in {
        'a chain': chain(slow.clone(), add.s(1), add.s(1)),
        'a chord': chain(slow.clone(), group(add.s(1), add.s(2)), project.total.s()),
        'a link': slow.clone().set(link=add.s(1).set(task_id='the-link')),
    }.items()}
    worker.await_line('sleep.*received', count=len(results))
    # What has not begun would be delivered again, to nobody.
    inspect = project.app.control.inspect(timeout=10, limit=1)
    while len(*inspect.active().values()) < len(results):
        time.sleep(0.05)
    wire.cut()
    assert results['a link'].get(timeout=30) == 3, 'what has succeeded has; its link has not'
    results['a link'] = project.app.AsyncResult('the-link')
    if patience == 10:
        for result in results.values():
            with pytest.raises(OperationalError, match='Cannot connect to the broker'):
                result.get(timeout=60)
        wire.mend()
    else:
        with pytest.raises(TimeoutError):
            results['a chain'].get(timeout=14)
        wire.mend()
        assert [result.get(timeout=60) for result in results.values()] == [5, 9, 4]
    assert project.add.delay(1, 1).get(timeout=60) == 2
