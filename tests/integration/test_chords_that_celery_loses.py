"""What users of Celery lose in chords and canvases (docs/celery-faults.md), and how it ends here: in a real worker."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import amqp
import kombu
import pytest

from canvaslite import chain, chord, group, signature, states
from canvaslite.exceptions import (
    ChordError,
    DecodeError,
    EncodeError,
    InvalidTaskError,
    NotRegistered,
    TimeLimitExceeded,
    WorkerLostError,
)
from tests.workers import WorkerProcess

TIMEOUT = 40
pytestmark = pytest.mark.filterwarnings('ignore:with task_allow_error_cb_on_chord_header')
Start = Callable[..., WorkerProcess]


def on(*stores: str) -> Any:
    """Run a test on each of these result stores."""
    return pytest.mark.parametrize('servers', stores, indirect=True)


@pytest.fixture
def servers(request: pytest.FixtureRequest, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """RabbitMQ, and the store that the test names; Redis if it names none."""
    env = {'BROKER': broker_url, 'BACKEND': request.getfixturevalue(f'{getattr(request, "param", "redis")}_url')}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A file that tasks write into."""
    path = tmp_path / 'notes'
    path.touch()
    return path


# -- somebody dies (rows 1, 2, 3, 10) ----------------------------------------------------------------------------------

@on('redis', 'sqlite', 'postgresql')
@pytest.mark.parametrize('late', ['', '1'], ids=['early', 'late'])
def test_a_chord_ends_although_a_child_died_after_keeping_a_result_and_before_counting_it(
    tasks: ModuleType, start: Start, tmp_path: Path, late: str
) -> None:
    start(ACKS_LATE=late, DIE_COUNTING=str(tmp_path / 'died'))
    result = chord([tasks.identity.s('first'), tasks.identity.s('last')], tasks.collect.s()).apply_async()

    assert result.get(timeout=TIMEOUT) == ['first', 'last']
    assert (tmp_path / 'died').exists()


@on('redis', 'postgresql')
@pytest.mark.parametrize('dies', ['child', 'worker'])
def test_a_redelivered_task_that_is_not_run_again_counts_in_its_chord(
    tasks: ModuleType, start: Start, tmp_path: Path, dies: str
) -> None:
    env = {'ACKS_LATE': '1', 'DEDUPLICATE': '1', 'DIE_COUNTING': str(tmp_path / 'died'), 'DIES': dies}
    worker = start(**env)
    result = chord([tasks.identity.s('first'), tasks.identity.s('last')], tasks.collect.s()).apply_async()
    if dies == 'worker':
        worker.wait()
        worker = start(**env)

    worker.await_line('already completed successfully')
    assert result.get(timeout=TIMEOUT) == ['first', 'last']


@on('redis', 'sqlite', 'postgresql', 'memcached', 'file')
def test_a_body_whose_sender_died_is_sent_by_another_process_and_runs_once(
    tasks: ModuleType, start: Start, tmp_path: Path, notes: Path
) -> None:
    start(DIE_SENDING=str(tmp_path / 'died'))
    result = chord([tasks.identity.s(1), tasks.identity.s(2)], tasks.record.s(str(notes))).apply_async()

    assert result.get(timeout=TIMEOUT) == [1, 2]
    assert (tmp_path / 'died').exists()
    assert notes.read_text() == '[1, 2]\n'


@pytest.mark.parametrize('ends', ['over its time limit', 'with its process'])
def test_an_errback_that_takes_its_time_does_not_stop_the_worker(
    tasks: ModuleType, start: Start, notes: Path, ends: str
) -> None:
    worker = start()
    failing = tasks.sleep.s(60).set(time_limit=1) if ends == 'over its time limit' else tasks.crash.s()
    result = failing.on_error(tasks.note.s(path=str(notes), seconds=4)).apply_async()
    await_lines(notes, 1)

    began = time.monotonic()
    assert [tasks.identity.delay(number).get(timeout=TIMEOUT) for number in range(10)] == list(range(10))
    assert time.monotonic() - began < 3.5, 'they did not wait for the errback'
    with pytest.raises((TimeLimitExceeded, WorkerLostError)):
        result.get(timeout=TIMEOUT)
    [line] = notes.read_text().splitlines()
    assert int(line.split()[0]) in worker.children()


# -- every end counts, once (rows 5, 8, 9, 18, 23) ---------------------------------------------------------------------

@on('redis', 'sqlite')
def test_a_task_that_the_worker_does_not_know_fails_what_waits_for_it_and_calls_the_errback_once(
    tasks: ModuleType, start: Start, notes: Path
) -> None:
    start()
    unknown, one = signature('fragile.unknown', app=tasks.app), tasks.identity.si(1)
    errback = tasks.note.s(path=str(notes))

    body = chord([one, unknown], tasks.collect.s()).on_error(errback).apply_async()
    with pytest.raises(ChordError, match=r'fragile\.unknown'):
        body.get(timeout=TIMEOUT, follow_parents=False)
    steps = chain(one, unknown, one, one).on_error(errback).apply_async()
    for step in (steps, steps.parent):
        with pytest.raises(NotRegistered):
            step.get(timeout=TIMEOUT, follow_parents=False)
    settle(tasks)
    assert [line.split()[1] for line in notes.read_text().splitlines()] == ['ChordError', 'NotRegistered']


@on('redis', 'sqlite', 'rpc')
def test_a_header_message_that_cannot_be_read_fails_the_chord(
    tasks: ModuleType, start: Start, servers: dict[str, str]
) -> None:
    body = chord([tasks.identity.s(1), tasks.now.s(2)], tasks.collect.s()).apply_async()
    garble(servers)
    start()

    with pytest.raises(ChordError, match=f'{body.parent[1].id} raised'):
        body.get(timeout=TIMEOUT, follow_parents=False)


@on('redis', 'sqlite', 'memcached', 'file')
def test_a_header_task_that_is_delivered_twice_counts_once_with_what_it_gave_first(
    tasks: ModuleType, start: Start, servers: dict[str, str], tmp_path: Path
) -> None:
    opened = tmp_path / 'opened'
    header = [tasks.now.s('once'), tasks.await_file.s(str(opened), 'slow')]
    result = chord(header, tasks.collect.s()).apply_async()
    with redelivering(servers['BROKER']) as (messages, publish):
        for message in messages * 2:
            publish(message.body, message)

    worker = start()
    worker.await_line(r'fragile\.now.* succeeded', count=2)
    first = result.parent[0].get(timeout=TIMEOUT)
    opened.touch()
    values = result.get(timeout=TIMEOUT)
    assert [values[0][0], values[1]] == ['once', 'slow']
    assert values[0][1] <= first[1]
    worker.await_line(r'fragile\.collect\[.*received')
    assert len([line for line in worker.lines if 'fragile.collect' in line and 'received' in line]) == 1


def test_a_hard_time_limit_is_one_failure(tasks: ModuleType, start: Start, notes: Path, tmp_path: Path) -> None:
    failures = tmp_path / 'failures'
    start(FAILURES=str(failures))
    errback, slow = tasks.note.s(path=str(notes)), tasks.sleep.si(60).set(time_limit=1)

    alone = slow.clone().on_error(errback).apply_async()
    with pytest.raises(TimeLimitExceeded):
        alone.get(timeout=TIMEOUT)
    body = chord([tasks.identity.s(1), slow], tasks.collect.s()).on_error(errback).apply_async()
    with pytest.raises(ChordError, match='TimeLimitExceeded'):
        body.get(timeout=TIMEOUT, follow_parents=False)
    settle(tasks)
    assert [line.split()[1] for line in notes.read_text().splitlines()] == ['TimeLimitExceeded', 'ChordError']
    assert failures.read_text().splitlines() == [f'{ident} TimeLimitExceeded' for ident in (
        alone.id, body.parent[1].id)]


def test_a_header_task_over_its_time_limit_runs_again_or_fails_but_not_both(
    tasks: ModuleType, start: Start, notes: Path, tmp_path: Path
) -> None:
    start()
    runs = tmp_path / 'runs'
    slow = tasks.sleep_at_first.si(str(runs), 'in time')
    body = chord([tasks.identity.s(1), slow], tasks.collect.s()).on_error(tasks.note.s(path=str(notes)))

    assert body.apply_async().get(timeout=TIMEOUT) == [1, 'in time']
    assert runs.read_text() == 'begun\n' * 2
    assert notes.read_text() == ''


@on('redis', 'sqlite', 'file')
def test_a_header_may_ignore_its_results(tasks: ModuleType, start: Start) -> None:
    start()
    one, quiet, collect = tasks.identity.si, tasks.quiet.si, tasks.collect.s()
    assert chord([quiet(1), one(2)], collect).apply_async().get(timeout=TIMEOUT) == [1, 2]
    lines = [chain(one(0), quiet(1)), chain(one(0), group(one(2), quiet(3))), chord([quiet(4), one(5)], collect)]
    assert chord([*lines, quiet(6)], collect).apply_async().get(timeout=TIMEOUT) == [1, [2, 3], [4, 5], 6]


# -- results of every chain and canvas end (row 7) ---------------------------------------------------------------------

@on('redis', 'sqlite')
def test_a_group_behind_a_failed_step_fails_and_so_does_each_of_its_members(
    tasks: ModuleType, start: Start
) -> None:
    start()
    one = tasks.identity.si
    result = chain(tasks.crash.si(), group(one(1), one(2))).apply_async()

    for held in (result, *result.results):
        with pytest.raises(WorkerLostError):
            held.get(timeout=TIMEOUT)
    assert [member.state for member in result.results] == [states.FAILURE] * 2


def test_what_follows_a_failed_task_without_results_fails(tasks: ModuleType, start: Start) -> None:
    start()
    one, fails = tasks.identity.si, tasks.fail_quietly.si('no')
    plain = chain(fails, one(1), one(2)).apply_async()
    grouped = chain(fails, group(one(1), one(2))).apply_async()
    inner = chord([one(0), chain(one(1), fails, one(2))], tasks.collect.s()).apply_async()

    for held in (plain, plain.parent, *grouped.results):
        with pytest.raises(ValueError, match='no'):
            held.get(timeout=TIMEOUT, follow_parents=False)
    with pytest.raises(ChordError, match='no'):
        inner.get(timeout=TIMEOUT, follow_parents=False)


@on('redis', 'sqlite', 'rpc')
def test_a_canvas_that_ends_in_a_task_without_a_result_is_awaited_as_far_as_it_has_one(
    tasks: ModuleType, start: Start
) -> None:
    start()
    one, quiet, fails = tasks.identity.si, tasks.quiet.si(0), tasks.fail_with.si('no')

    assert chain(one(1), quiet).apply_async().get(timeout=TIMEOUT) is None
    assert chord([one(1), one(2)], quiet).apply_async().get(timeout=TIMEOUT) is None
    assert group(one(1), quiet, chain(one(2), quiet)).apply_async().get(timeout=TIMEOUT) == [1, None, None]
    assert group(one(1), one(2).set(ignore_result=True)).apply_async().get(timeout=TIMEOUT) == [1, None]
    for canvas in (chain(fails, quiet, quiet), group(one(1), chain(fails, quiet)), chain(fails, group(quiet, quiet))):
        with pytest.raises(ValueError, match='no'):
            canvas.apply_async().get(timeout=TIMEOUT)


@on('redis', 'sqlite', 'postgresql', 'mysql')
def test_an_error_whose_text_a_store_may_refuse_is_kept(tasks: ModuleType, start: Start) -> None:
    start()
    for text in ('a file called \udcff', 'a\0b'):
        result = chain(tasks.fail_with.si(text), tasks.identity.si(1)).apply_async()
        for held in (result.parent, result):
            with pytest.raises(ValueError) as failed:
                held.get(timeout=TIMEOUT, follow_parents=False)
            assert failed.value.args == (text,)
        assert 'ValueError: a' in result.parent.traceback


@on('redis', 'sqlite')
def test_what_follows_a_message_that_cannot_be_read_fails(
    tasks: ModuleType, start: Start, servers: dict[str, str]
) -> None:
    one, unreadable = tasks.identity.si, tasks.now.si(0)
    plain = chain(unreadable, one(1), group(one(2), one(3))).apply_async()
    inner = chord([one(0), chain(unreadable, one(1))], tasks.collect.s()).apply_async()
    garble(servers)
    start()

    for held in (plain.parent, *plain.results):
        with pytest.raises(DecodeError):
            held.get(timeout=TIMEOUT, follow_parents=False)
    with pytest.raises(ChordError, match=f'{inner.parent[1].id} raised DecodeError'):
        inner.get(timeout=TIMEOUT, follow_parents=False)


@on('redis', 'sqlite')
def test_a_chord_that_a_step_cannot_send_is_no_second_failure(tasks: ModuleType, start: Start, notes: Path) -> None:
    start()
    waiting = chord([tasks.identity.s(), tasks.identity.si(1)], tasks.collect.s())
    result = chain(tasks.unserializable.si(), waiting).on_error(tasks.note.s(path=str(notes))).apply_async()

    with pytest.raises(EncodeError):
        result.get(timeout=TIMEOUT)
    settle(tasks)
    assert tasks.app.backend.join.due(time.time() + 3600, 10) == [], 'nobody will look at it again, and see it fail'
    assert [line.split()[1] for line in notes.read_text().splitlines()] == ['EncodeError']


@on('redis', 'rpc')
@pytest.mark.parametrize('said', [{'eta': 'soon'}, {'expires': 'late'}, {'time_limit': 'long'}], ids=str)
def test_a_task_with_options_that_make_no_sense_fails_what_waits_for_it(
    tasks: ModuleType, start: Start, said: dict[str, str]
) -> None:
    start()
    one, wrong = tasks.identity.si, tasks.identity.si(0).set(**said)
    plain = chain(one(1), wrong, one(2)).apply_async()
    limited = group([wrong, one(1)], max_concurrency=1).apply_async()
    body = chord([one(1), wrong], tasks.collect.s()).apply_async()

    for held in (plain, plain.parent, limited[0]):
        with pytest.raises(InvalidTaskError, match=next(iter(said.values()))):
            held.get(timeout=TIMEOUT)
    assert limited[1].get(timeout=TIMEOUT) == 1
    with pytest.raises(ChordError, match='InvalidTaskError'):
        body.get(timeout=TIMEOUT, follow_parents=False)


# -- every store (rows 11, 42) -----------------------------------------------------------------------------------------

@on('sqlite', 'postgresql', 'mysql')
def test_no_task_polls_for_a_chord_on_sql(tasks: ModuleType, start: Start, tmp_path: Path) -> None:
    worker = start()
    opened = tmp_path / 'opened'
    header = [tasks.identity.s(1), tasks.await_file.s(str(opened), 2)]
    result = chord(header, tasks.collect.s()).apply_async()
    worker.await_line('identity.* succeeded')
    for _ in range(20):
        settle(tasks)

    opened.touch()
    assert result.get(timeout=TIMEOUT) == [1, 2]
    worker.await_line(r'collect\[.* succeeded')
    received = [line.partition('Task ')[2].partition('[')[0] for line in worker.lines if line.endswith('received')]
    assert sorted({*received}) == ['fragile.await_file', 'fragile.collect', 'fragile.identity']


@on('sqlite')
def test_a_chord_on_sql_whose_part_never_comes_fails_at_its_deadline(tasks: ModuleType, start: Start) -> None:
    tasks.app.conf.result_chord_deadline = 3
    worker = start('-c', '1')
    result = chord([tasks.identity.s(1), tasks.sleep.s(60)], tasks.collect.s()).apply_async()
    worker.await_line('identity.* succeeded')
    worker.kill()  # what it ran was acknowledged: nobody will ever run it again
    start()

    with pytest.raises(ChordError, match='not complete before its deadline'):
        result.get(timeout=TIMEOUT, follow_parents=False)


@on('redis', 'sqlite', 'postgresql', 'mysql', 'memcached', 'file', 'rpc')
def test_a_task_may_be_added_to_the_chord_it_is_part_of(tasks: ModuleType, start: Start) -> None:
    start()
    result = chord([tasks.bring_along.s(1, 2), tasks.identity.s(3)], tasks.collect.s()).apply_async()
    assert sorted(result.get(timeout=TIMEOUT)) == [1, 2, 3]


@pytest.mark.alone
def test_a_group_is_there_as_soon_as_its_members_are(tasks: ModuleType, start: Start) -> None:
    start()
    took = []
    for _ in range(5):
        began = time.monotonic()
        assert group(tasks.identity.s(1), tasks.identity.s(2)).apply_async().get(timeout=TIMEOUT) == [1, 2]
        took.append(time.monotonic() - began)
    assert min(took) < 0.25


def settle(tasks: ModuleType) -> None:
    """Return when what was sent earlier has run, on both processes."""
    for _ in range(4):
        assert tasks.identity.delay(0).get(timeout=TIMEOUT) == 0


def await_lines(path: Path, count: int) -> None:
    until = time.monotonic() + TIMEOUT
    while len(path.read_text().splitlines()) < count:
        assert time.monotonic() < until, f'no {count} lines in {path}'
        time.sleep(0.02)


def garble(servers: dict[str, str]) -> None:
    """Break the bodies of the waiting messages of ``now``."""
    with redelivering(servers['BROKER']) as (messages, publish):
        for message in messages:
            publish('{"half' if message.headers['task'] == 'fragile.now' else message.body, message)


@contextlib.contextmanager
def redelivering(broker_url: str) -> Iterator[tuple[list[Any], Callable[[Any, Any], None]]]:
    """The messages that wait for the worker, taken from its queue, and what puts one there with another body."""
    with kombu.Connection(broker_url) as connection:
        channel = connection.default_channel
        messages = list(iter(kombu.Queue('fragile', channel=channel).get, None))

        def publish(body: Any, message: Any) -> None:
            channel.basic_publish(amqp.Message(body, **message.properties), routing_key='fragile')

        yield messages, publish
        for message in messages:
            message.ack()
