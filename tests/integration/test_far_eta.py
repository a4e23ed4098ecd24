"""Tasks whose ETA is far: RabbitMQ keeps them, and the worker has its memory and its prefetch slots for others."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import ModuleType
from typing import Any

import kombu
import pytest
from amqp.exceptions import NotFound

from canvaslite import chord
from canvaslite.exceptions import TaskRevokedError

from .proxy import Proxy
from .wires import Wire

IN_2099 = datetime(2099, 1, 1, tzinfo=timezone.utc)
ENTRANCE = 'canvaslite_celery_delayed_27'
#: A worker that hands over what is due in more than a second (in fact two: delays are whole seconds).
NEAR = {'HOLD': '1'}


def count_messages(project: ModuleType, *queues: str) -> list[int]:
    """How many messages wait in these queues."""
    with project.app.connection_for_read() as connection:
        return [connection.default_channel.queue_declare(name, passive=True).message_count for name in queues]


def await_messages(project: ModuleType, queue: str, count: int) -> None:
    until, found = time.monotonic() + 30, [-1]
    while found != [count]:
        assert time.monotonic() < until, found
        with contextlib.suppress(NotFound):  # not yet
            found = count_messages(project, queue)
        time.sleep(0.05)


@pytest.mark.parametrize('kind', ['classic', 'quorum'])
def test_tasks_with_an_eta_in_2099_keep_nobody_waiting_and_are_kept_by_the_broker(
    kind: str, project: ModuleType, servers: dict[str, str], start_project_worker: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch
) -> None:
    project.app.conf.task_default_queue_type = kind
    for number in range(200):
        project.add.apply_async((number, 1), eta=IN_2099)
    result = project.add.delay(1, 1)
    worker = start_project_worker(QUEUE_TYPE=kind)
    assert result.get(timeout=60) == 2
    await_messages(project, ENTRANCE, 200)
    assert not next(iter(project.app.control.inspect(timeout=20, limit=1).scheduled().values()))
    assert worker.stop() == 0
    assert count_messages(project, ENTRANCE, 'proj') == [200, 0]


@pytest.mark.parametrize(('kind', 'delays'), [('classic', 'quorum'), ('quorum', 'quorum'), ('classic', 'classic')])
def test_a_delayed_task_runs_once_and_at_its_eta(
    kind: str, delays: str, project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker(QUEUE_TYPE=kind, DELAY_TYPE=delays, **NEAR)
    project.app.conf.task_default_queue_type = kind
    due = datetime.now(timezone.utc) + timedelta(seconds=3)
    plain, result = project.describe_request.delay(), project.describe_request.apply_async(eta=due)
    worker.await_line('is kept by the broker until its ETA')
    seen = result.get(timeout=60)
    assert 0 <= (datetime.now(timezone.utc) - due).total_seconds() < 3
    assert seen['delivery_info'] == plain.get(timeout=30)['delivery_info'], 'the task sees nothing of the way it took'
    assert worker.stop() == 0
    assert len([line for line in worker.lines if 'received' in line and result.id in line]) == 1


@pytest.mark.parametrize('delays', ['classic', 'quorum'])
def test_what_is_purged_is_also_what_the_broker_keeps_for_these_queues_and_nothing_else(
    delays: str, project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    assert project.app.control.purge() == 0, 'there need be no delay queues'
    ours = start_project_worker('-n', 'ours@here', DELAY_TYPE=delays, **NEAR)
    others = start_project_worker('-n', 'others@here', QUEUE='other', DELAY_TYPE=delays, **NEAR)
    for number in range(5):
        project.add.apply_async((number, 1), eta=IN_2099)
        project.add.apply_async((number, 1), countdown=600 + 100 * number)
        project.add.apply_async((number, 1), eta=IN_2099, queue='other')
    due = datetime.now(timezone.utc) + timedelta(seconds=20)
    soon = [project.add.apply_async((number, 1), eta=due, queue='other') for number in range(5)]
    ours.await_line('is kept by the broker until its ETA', timeout=60, count=10)
    others.await_line('is kept by the broker until its ETA', timeout=60, count=10)
    assert ours.stop() == 0
    project.add.delay(1, 1)
    assert project.app.control.purge() == 11
    assert count_messages(project, ENTRANCE, 'proj') == [5, 0]
    assert project.app.control.purge() == 0
    assert [result.get(timeout=60) for result in soon] == [1, 2, 3, 4, 5]
    assert (datetime.now(timezone.utc) - due).total_seconds() < 60
    assert count_messages(project, ENTRANCE) == [5]


def test_a_retry_in_the_far_future_is_kept_by_the_broker(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker(**NEAR)
    result = project.succeed_after.delay(1, countdown=2.2)
    worker.await_line('is kept by the broker until its ETA')
    assert result.get(timeout=60) == 1


def test_a_chord_with_a_delayed_header_has_its_value(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker(**NEAR)
    result = chord([project.add.s(number, 1).set(countdown=3) for number in range(3)], project.total.s())()
    worker.await_line('is kept by the broker until its ETA', count=3)
    assert result.get(timeout=60) == 6


def test_a_task_that_is_revoked_while_it_is_delayed_does_not_run_though_the_worker_has_forgotten(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker(**NEAR)
    result = project.add.apply_async((1, 1), countdown=4)
    worker.await_line('is kept by the broker until its ETA')
    await_messages(project, 'canvaslite_celery_delayed_1', 1)
    result.revoke()
    worker.await_line('flagged as revoked')
    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)
    assert worker.stop() == 0
    another = start_project_worker(**NEAR)
    another.await_line(f'Task proj.add.{result.id}. received')
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert another.stop() == 0
    assert 'succeeded' not in ''.join(line for line in another.lines if result.id in line)
    assert result.state == 'REVOKED'


def test_a_delayed_task_that_expires_before_its_eta_is_revoked(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker(**NEAR)
    result = project.add.apply_async((1, 1), countdown=3, expires=1.5)
    worker.await_line('is kept by the broker until its ETA')
    with pytest.raises(TaskRevokedError, match='expired'):
        result.get(timeout=60)


def test_a_worker_above_worker_eta_task_limit_holds_no_more(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker('-c', '1', PREFETCH='1', ETA_LIMIT='5')
    for number in range(20):
        project.add.apply_async((number, 1), countdown=20)
    assert project.add.delay(1, 1).get(timeout=60) == 2
    held = next(iter(project.app.control.inspect(timeout=20, limit=1).scheduled().values()))
    assert 4 <= len(held) <= 6


def test_a_broker_that_cannot_delay_leaves_them_with_the_worker(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    with project.app.connection_for_read() as connection:  # of the wrong type
        connection.default_channel.queue_declare(ENTRANCE, durable=True, auto_delete=False)
    worker = start_project_worker(**NEAR)
    result = project.add.apply_async((1, 1), countdown=3)
    worker.await_line('are held by this worker, because the broker cannot keep them: .*PRECONDITION_FAILED.*'
                      'worker_eta_hold_time')
    assert result.get(timeout=60) == 2
    assert worker.stop() == 0


def test_far_etas_survive_connections_that_are_cut_while_they_are_handed_over(
    project: ModuleType, start_project_worker: Callable[..., Any], proxy: Proxy
) -> None:
    """None is lost; one that is there twice is marked, by us or by the broker."""
    ids = {project.add.apply_async((number, 1), eta=IN_2099).id for number in range(300)}
    worker = start_project_worker(BROKER=proxy.url)
    worker.await_line('is kept by the broker until its ETA')
    for _ in range(3):
        proxy.cut_after(20_000)
        time.sleep(0.3)
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert worker.stop() == 0
    with project.app.connection_for_read() as connection:
        channel, found = connection.default_channel, []
        while (message := channel.basic_get(ENTRANCE, no_ack=True)) is not None:
            found.append(message)
        while (message := channel.basic_get('proj', no_ack=True)) is not None:
            found.append(message)
    unmarked = [message.headers['id'] for message in found if not message.delivery_info['redelivered']
                and not (message.headers.get('canvaslite_delayed') or [False])[-1]]
    # (The other task is there again if its acknowledgement was cut.)
    assert ids <= {message.headers['id'] for message in found}
    assert len(unmarked) == len(set(unmarked))


def test_after_a_failover_a_far_eta_stays_with_the_broker_that_it_came_from(
    project: ModuleType, start_project_worker: Callable[..., Any], broker_url: str, vhosts: Any, rabbitmq_proc: Any
) -> None:
    wire = Wire(rabbitmq_proc.port)
    other = f'amqp://guest:guest@127.0.0.1:{wire.port}/{vhosts.take()}'
    worker = start_project_worker(BROKER=f'{other};{broker_url}', **NEAR)
    wire.cut()
    worker.await_line('Consuming again')
    wire.mend()
    result = project.add.apply_async((1, 1), countdown=2.5)
    worker.await_line('is kept by the broker until its ETA')
    assert result.get(timeout=60) == 2
    wire.cut()


def test_a_second_copy_of_a_delayed_task_is_dropped_when_the_first_has_run(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker()
    result = project.add.delay(1, 1)
    assert result.get(timeout=60) == 2
    before = time.time() - 60
    project.add.apply_async((1, 1), task_id=result.id, headers={'canvaslite_delayed': [before, '', 'proj', True]})
    worker.await_line('already completed successfully')
    project.add.apply_async((1, 1), task_id=result.id, headers={'canvaslite_delayed': [before, '', 'proj', False]})
    worker.await_line(f'add.{result.id}. succeeded', count=2)


def test_messages_whose_queue_was_deleted_do_not_block_the_delay_queues(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker(**NEAR)
    for number in range(40):
        project.add.apply_async((number, 1), countdown=15.9)  # by when the queue is deleted
    worker.await_line('is kept by the broker until its ETA', count=40)
    assert worker.stop() == 0
    with kombu.Connection(project.app.conf.broker_url) as connection:
        connection.default_channel.queue_delete('proj')
    await_messages(project, 'canvaslite_undeliverable', 40)
