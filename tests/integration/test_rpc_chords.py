"""Chords without a result store: RabbitMQ keeps the parts."""

from __future__ import annotations

import multiprocessing
import os
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite import chain, chord, group
from canvaslite.context import Context
from canvaslite.exceptions import ChordError, TaskRevokedError
from canvaslite.transport.amqp import Connection
from canvaslite.wire import CHORD_QUEUE_PREFIX

TIMEOUT = 60

fork = multiprocessing.get_context('fork')


@pytest.fixture
def servers(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """RabbitMQ alone."""
    env = {'BROKER': broker_url, 'BACKEND': 'rpc://'}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.mark.parametrize('pool', ['prefork', 'threads', 'solo'])
def test_every_nesting_has_its_value(
    pool: str, project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker('-P', pool)
    add, collect, identity, total = project.add, project.collect, project.identity, project.total

    def sums(*numbers: int) -> Any:
        return chord([identity.s(number) for number in numbers], total.s())

    sent = [
        (sums(1, 2, 3), 6),
        (group(add.s(i, i) for i in range(4)) | total.s(), 12),
        (chain(identity.s(1), group(add.s(1), add.s(2)), total.s(), group(add.s(1), add.s(2)), total.s()), 13),
        (chord([], collect.s()), []),
        (chord([identity.s(3)], collect.s()), [3]),
        (chord([sums(1, 2), identity.s(4), chain(identity.s(1), add.s(1))], collect.s()), [3, 4, 2]),
        (chord([chain(identity.s(1), group(add.s(1), add.s(2))), identity.s(9)], collect.s()), [[2, 3], 9]),
        (chord([identity.s(1), identity.s(2)], group(collect.s(), total.s())), [[1, 2], 3]),
        (chord([identity.s(1), identity.s(2)], chain(total.s(), add.s(1))), 4),
        (chord([identity.s(1), identity.s(2)], chord([total.s(), total.s()], collect.s())), [3, 3]),
        (chord([sums(1, 2), chord([sums(3, 4), sums(5, 6)], collect.s())], collect.s()), [3, [7, 11]]),
        (chord([project.keep_quiet.s(None), project.keep_quiet.s(2)], collect.s()), [None, 2]),
        (chord([project.bring_along.s(1, 2), project.bring_along.s(3, 4)], total.s()), 10),
        (project.replace_by.s(chain(identity.s(1), add.s(1))), 2),
        (chord([project.replace_by.s(sums(1, 2)), identity.s(5)], collect.s()), [3, 5]),
        (chord([project.replace_by.s(group(identity.s(1), identity.s(2))), identity.s(5)], collect.s()), [[1, 2], 5]),
        (chain(identity.si(1), project.replace_by.si(sums(1, 2)), add.s(1)), 4),
    ]
    results = [(canvas.apply_async(), value) for canvas, value in sent]

    assert [result.get(timeout=TIMEOUT) for result, _ in results] == [value for _, value in results]


def test_a_failing_part_fails_the_chord_and_what_waits_for_it(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    start_project_worker()
    identity, collect, path = project.identity, project.collect, tmp_path / 'failures'
    failing = chord([identity.s(1), project.fail.s('wrong')], collect.s())
    body = collect.s().on_error(project.note_failure.s(str(path)))

    result = chord([failing, identity.s(2)], body).apply_async()

    with pytest.raises(ChordError, match=r"raised ValueError\('wrong'\)"):
        result.get(timeout=TIMEOUT)
    assert path.read_text() == f'ChordError {result.id}\n'
    assert identity.delay(1).get(timeout=TIMEOUT) == 1, 'the worker goes on'


def test_a_child_that_dies_in_the_header_delays_the_chord_only(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    start_project_worker()
    header = [project.die_once.s(str(tmp_path / 'died'), 1), *(project.identity.s(i) for i in range(2, 6))]

    assert chord(header, project.collect.s())().get(timeout=TIMEOUT) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize('acks_late', ['0', '1'])
def test_a_child_that_dies_sending_the_body_leaves_that_to_another(
    acks_late: str, project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    died, path = tmp_path / 'died', tmp_path / 'bodies'
    start_project_worker(ACKS_LATE=acks_late, DIE_SENDING='record', DIE_PATH=str(died))

    result = chord([project.identity.s(i) for i in range(4)], project.record.si(str(path), 'ran'))()

    assert result.get(timeout=TIMEOUT) == 'ran'
    assert died.exists()
    assert path.read_text() == 'ran\n'


@pytest.mark.parametrize('acks_late', ['0', '1'])
def test_a_worker_that_dies_sending_the_body_leaves_that_to_the_next(
    acks_late: str, project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    died, path = tmp_path / 'died', tmp_path / 'bodies'
    doomed = start_project_worker(ACKS_LATE=acks_late, DIE_SENDING='record', DIE_PATH=str(died), DIE_ALL='1')

    result = chord([project.identity.s(i) for i in range(4)], project.record.si(str(path), 'ran'))()
    doomed.wait(TIMEOUT)
    start_project_worker(ACKS_LATE=acks_late)

    assert result.get(timeout=TIMEOUT) == 'ran'
    assert path.read_text() == 'ran\n'


@pytest.mark.parametrize('then', ['nothing', 'a chain', 'a chord'])
def test_a_body_does_not_run_again_if_its_worker_dies_when_its_result_has_left(
    then: str, project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path, broker_url: str,
    rabbitmqctl: Callable[..., str]
) -> None:
    died, path, identity = tmp_path / 'died', tmp_path / 'bodies', project.identity
    doomed = start_project_worker(ACKS_LATE='1', DIE_ENDING='record', DIE_PATH=str(died), DIE_ALL='1')
    body = project.record.si(str(path), 'ran')
    inner = chord([identity.s(i) for i in range(4)], body | identity.s() if then == 'a chain' else body)

    result = (chord([inner, identity.s('else')], project.collect.s()) if then == 'a chord' else inner)()
    doomed.wait(TIMEOUT)
    worker = start_project_worker(ACKS_LATE='1')

    worker.await_line('already completed successfully', timeout=TIMEOUT)
    assert result.get(timeout=TIMEOUT) == (['ran', 'else'] if then == 'a chord' else 'ran')
    assert path.read_text() == 'ran\n'
    worker.stop()
    left = rabbitmqctl('list_queues', '-q', '-p', broker_url.rpartition('/')[2], 'name', 'messages')
    assert 'proj\t0' in left
    assert CHORD_QUEUE_PREFIX not in left


def test_a_chord_whose_part_was_lost_fails_at_its_deadline(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    project.app.conf.result_chord_deadline = 5
    died = tmp_path / 'died'
    doomed = start_project_worker(ACKS_LATE='0', DIE_SENDING='add', DIE_PATH=str(died), DIE_ALL='1')

    result = chord([project.identity.s(1), project.replace_by.s(project.add.s(1, 1))], project.collect.s())()
    doomed.wait(TIMEOUT)
    start_project_worker()

    with pytest.raises(ChordError, match='result_chord_deadline'):
        result.get(timeout=TIMEOUT)


def test_a_caller_is_told_that_a_chord_was_ended(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    start_project_worker('-c', '2')
    header = [project.identity.s(1), project.await_file.s(str(tmp_path / 'never'), 2)]

    result = chord(header, project.collect.s()).apply_async()
    assert project.identity.delay(1).get(timeout=TIMEOUT) == 1
    assert project.app.backend.abort_chord(result.parent.id, 'not needed')

    with pytest.raises(TaskRevokedError, match='not needed'):
        result.get(timeout=TIMEOUT)
    assert result.state == 'REVOKED'
    (tmp_path / 'never').touch()


def test_chords_run_once_although_all_connections_are_closed(
    project: ModuleType, start_project_worker: Callable[..., Any], rabbitmqctl: Callable[..., str], tmp_path: Path
) -> None:
    worker, path = start_project_worker(ACKS_LATE='1'), tmp_path / 'bodies'
    project.app.conf.broker_transport_options = {'confirm_publish': True}

    for number in range(10):
        chain(group(project.identity.s(i) for i in range(20)), project.total.s(), project.note.s(str(path)))()
        if number in (3, 6):
            rabbitmqctl('close_all_connections', 'the test says so')

    worker.await_line(r'note\[.*succeeded', count=10, timeout=TIMEOUT)
    assert path.read_text() == '190\n' * 10


def test_parts_survive_a_restart_of_the_broker(
    project: ModuleType, start_project_worker: Callable[..., Any], rabbitmqctl: Callable[..., str], tmp_path: Path
) -> None:
    worker, path, go = start_project_worker(), tmp_path / 'bodies', tmp_path / 'go'
    header = [*(project.identity.s(i) for i in range(5)), project.await_file.s(str(go), 5)]

    chord(header, project.total.s() | project.note.s(str(path)))()
    worker.await_line(r'identity\[.*succeeded', count=5)
    rabbitmqctl('stop_app')
    rabbitmqctl('start_app')
    go.touch()

    worker.await_line(r'note\[.*succeeded', timeout=TIMEOUT)
    assert path.read_text() == '15\n'


@pytest.mark.parametrize('fate', ['dies', 'loses its connection'])
def test_whichever_write_is_the_last_of_a_process_there_is_one_body(fate: str, project: ModuleType) -> None:
    app, send_frames, writes = project.app, Connection.send_frames, 0
    queue = app.amqp.queues['proj']

    def return_part(chord_id: str, place: int, body: Any) -> None:
        app.backend.on_chord_part_return(
            Context(id=f'{chord_id}:{place}', group=chord_id, group_index=place, chord=body), 'SUCCESS', place)

    def return_the_last(last_write: int, *part: Any) -> None:
        written = 0

        def write(connection: Any, data: bytes, timeout: float | None = None) -> None:
            nonlocal written
            send_frames(connection, data, timeout)
            written += 1
            if written == last_write and fate == 'dies':
                os.kill(os.getpid(), signal.SIGKILL)
            elif written == last_write:
                connection.break_off()

        Connection.send_frames = write
        return_part(*part)
        os._exit(0 if written < last_write else 1)

    came_through = False
    with app.connection_for_read() as connection:
        bound = queue(connection.default_channel)
        bound.declare()
        while not came_through:
            writes += 1
            assert writes < 100, 'no process comes through'
            chord_id, body = str(uuid.uuid4()), dict(project.collect.s().set(task_id=str(uuid.uuid4())), chord_size=2)
            app.backend.apply_chord((chord_id, [app.AsyncResult(f'{chord_id}:{place}') for place in (0, 1)]), body)
            return_part(chord_id, 0, body)
            child = fork.Process(target=return_the_last, args=(writes, chord_id, 1, body))
            child.start()
            child.join(TIMEOUT)
            assert child.exitcode is not None, f'it does not end after {writes} writes'
            came_through = child.exitcode == 0
            bodies: list[Any] = []
            while not bodies:
                if not came_through:
                    return_part(chord_id, 1, body)  # as it does when its message comes again
                while (message := bound.get(no_ack=True)) is not None:
                    bodies.append((message.headers['id'], message.decode()[0]))
            assert bodies == [(body['options']['task_id'], [[0, 1]])], f'after {writes} writes'
    assert writes > 10
