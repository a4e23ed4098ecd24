"""At most so many members of a group run at any moment, and the workers see to it that the next one follows."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite import chain, chord, group, signature
from canvaslite.utils.uuid import uuid

Span = Callable[..., Any]


class Record:
    """The file in which the task ``span`` notes when it starts and ends."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def events(self) -> list[tuple[float, int, str]]:
        """Times, 1 for a start and -1 for an end, and names, in the order of time."""
        lines = (line.split() for line in self.path.read_text().splitlines()) if self.path.exists() else ()
        return sorted((float(moment), int(change), name) for name, change, moment in lines)

    def most_at_once(self) -> int:
        """The most runs at any moment."""
        running, most = 0, 0
        for _, change, _ in self.events():
            running += change
            most = max(most, running)
        return most

    def most_members_at_once(self) -> int:
        """The most members at any moment that had begun and not ended, where a step is called ``member/step``."""
        spans: dict[str, list[float]] = {}
        for moment, _, name in self.events():
            spans.setdefault(name.partition('/')[0], []).append(moment)
        edges = sorted((edge, change) for moments in spans.values()
                       for edge, change in ((moments[0], 1), (moments[-1], -1)))
        return max(sum(change for _, change in edges[:place + 1]) for place in range(len(edges)))

    def runs(self) -> list[str]:
        return [name for _, change, name in self.events() if change > 0]

    def await_runs(self, count: int, timeout: float = 60.0) -> None:
        until = time.monotonic() + timeout
        while len([event for event in self.events() if event[1] < 0]) < count:
            assert time.monotonic() < until, self.runs()
            time.sleep(0.05)


@pytest.fixture
def servers(
    request: pytest.FixtureRequest, broker_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Environment that names broker and backend, RabbitMQ and Redis unless the test says otherwise."""
    broker, backend = getattr(request, 'param', ('amqp', 'redis'))
    urls = {'amqp': broker_url, 'redis': redis_url, 'rpc': 'rpc://', 'sqlite': f'db+sqlite:///{tmp_path}/results.db'}
    env = {'BROKER': urls[broker], 'BACKEND': urls[backend]}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / 'spans')


@pytest.fixture
def span(project: ModuleType, record: Record) -> Span:
    """Signature of a task that takes so many seconds, returns its name, and may end otherwise."""
    return lambda name, seconds=0.02, then='return': project.span.si(str(record.path), name, seconds, then)


@pytest.fixture
def await_no_window(broker_url: str, rabbitmqctl: Callable[..., str]) -> Callable[[], None]:
    """Return when no window is at the broker: no place was lost."""

    def wait() -> None:
        vhost, until = broker_url.rpartition('/')[2], time.monotonic() + 30
        while windows := re.findall(r'canvaslite\.window\S+', rabbitmqctl('list_queues', '-p', vhost, 'name')):
            assert time.monotonic() < until, windows

    return wait


def test_no_more_members_run_than_may_and_the_next_follows_at_once(
    start_project_worker: Callable[..., Any], record: Record, span: Span, await_no_window: Callable[[], None]
) -> None:
    start_project_worker('-c', '4')
    members = [span('slow', 8), span('a', 2), span('b', 2), *(span(f'fast-{n}', 0.05) for n in range(12))]
    values = group(members, max_concurrency=3).apply_async().get(timeout=60)
    assert values == ['slow', 'a', 'b', *(f'fast-{n}' for n in range(12))]
    assert record.most_at_once() == 3
    assert record.events()[-1][2] == 'slow', 'the others did not wait for the slow one'
    await_no_window()


def test_a_thousand_members_run_five_at_a_time(
    project: ModuleType, start_project_worker: Callable[..., Any], record: Record, span: Span
) -> None:
    start_project_worker('-c', '4')
    results = group((span(str(n), 0) for n in range(1000)), max_concurrency=5).apply_async()
    assert results.get(timeout=120) == [str(n) for n in range(1000)]
    assert Counter(record.runs()) == {str(n): 1 for n in range(1000)}


def test_as_many_threads_as_members_may_run(
    start_project_worker: Callable[..., Any], record: Record, span: Span
) -> None:
    start_project_worker('-P', 'threads', '-c', '30')
    results = group((span(str(n), 0.05) for n in range(200)), max_concurrency=12).apply_async()
    assert results.get(timeout=120) == [str(n) for n in range(200)]
    assert record.most_at_once() <= 12


def test_a_member_makes_room_however_it_ends(
    project: ModuleType,
    start_project_worker: Callable[..., Any],
    record: Record,
    span: Span,
    await_no_window: Callable[[], None],
) -> None:
    start_project_worker('-c', '4')
    revoked = uuid()
    project.app.control.revoke(revoked, reply=True)
    members = [
        *(span(end, 0.02, end) for end in ('fail', 'ignore', 'reject', 'retry', 'replace', 'die')),
        span('revoked').set(task_id=revoked),
        span('expired').set(expires=0.001),
        span('too-long', 60).set(time_limit=1),
        signature('no.such.task', app=project.app),
        chain(span('chain/1', 0.02, 'fail'), span('chain/2')),
        chain(span('late-chain/1'), span('late-chain/2', 0.02, 'die'), span('late-chain/3')),
        chord([span('chord/1'), span('chord/2', 0.02, 'fail')], project.collect.s()),
        *(span(f'last-{n}') for n in range(4)),
    ]
    results = group(members, max_concurrency=1).apply_async()
    assert [result.get(timeout=60) for result in results[-4:]] == [f'last-{n}' for n in range(4)]
    assert Counter(record.runs()) == Counter(
        ['fail', 'ignore', 'reject', *['retry'] * 3, *['replace'] * 3, 'die', 'too-long', 'chain/1', 'late-chain/1',
         'late-chain/2', 'chord/1', 'chord/2', *(f'last-{n}' for n in range(4))]
    )
    await_no_window()


def test_a_canvas_runs_as_one_member_from_its_first_step_to_its_last(
    project: ModuleType, start_project_worker: Callable[..., Any], record: Record, span: Span,
    await_no_window: Callable[[], None],
) -> None:
    start_project_worker('-c', '4')
    members = []
    for n in range(4):
        members += [
            chain(span(f'chain-{n}/1'), span(f'chain-{n}/2')),
            chord([span(f'chord-{n}/1'), span(f'chord-{n}/2')], span(f'chord-{n}/3')),
            chain(span(f'fan-{n}/1'), group(span(f'fan-{n}/2'), span(f'fan-{n}/3'))),
        ]
    values = group(members, max_concurrency=2).apply_async().get(timeout=90)
    assert values == [
        value for n in range(4) for value in (f'chain-{n}/2', f'chord-{n}/3', [f'fan-{n}/2', f'fan-{n}/3'])
    ]
    assert record.most_members_at_once() <= 2
    await_no_window()


def test_a_header_is_limited_and_the_body_gets_all_values_in_order(
    project: ModuleType, start_project_worker: Callable[..., Any], record: Record, span: Span,
    await_no_window: Callable[[], None],
) -> None:
    start_project_worker('-c', '4')
    members = [chain(span(f'{n}/1'), project.identity.si(n)) for n in range(12)]
    assert chord(group(members, max_concurrency=3), project.collect.s())().get(timeout=60) == list(range(12))
    assert (group(members, max_concurrency=3) | project.collect.s()).delay().get(timeout=60) == list(range(12))
    with pytest.raises(Exception, match='wrong'):
        chord(group([project.fail.si(), *members], max_concurrency=3), project.collect.s())().get(timeout=60)
    record.await_runs(36)
    assert record.most_at_once() <= 3
    await_no_window()


def test_a_limit_holds_wherever_the_group_stands_and_survives_json(
    project: ModuleType, start_project_worker: Callable[..., Any], record: Record, span: Span,
    await_no_window: Callable[[], None],
) -> None:
    start_project_worker('-c', '4')
    limited = group((span(f'{n}', 0.1) for n in range(8)), max_concurrency=2)
    names = [f'{n}' for n in range(8)]
    written = signature(json.loads(json.dumps(limited.clone())), app=project.app)
    assert written.apply_async().get(timeout=60) == names
    assert chain(project.identity.s(1), limited).apply_async().get(timeout=60) == names
    assert chain(project.identity.s(1), limited, project.collect.s()).apply_async().get(timeout=60) == names
    assert chord([project.identity.s(1)], limited).apply_async().get(timeout=60) == names
    assert record.most_at_once() <= 2
    assert group(limited, project.identity.s(1)).apply_async().get(timeout=60) == [*names, 1]
    assert chord([limited, span('9')], project.collect.s()).apply_async().get(timeout=60) == [*names, '9']
    assert record.most_at_once() <= 3
    within = group(chain(limited, project.collect.s()), chain(limited, project.collect.s()), max_concurrency=1)
    assert within.apply_async().get(timeout=60) == [names, names]
    await_no_window()


@pytest.mark.parametrize(
    'servers', [('amqp', 'rpc'), ('amqp', 'sqlite'), ('redis', 'redis')], ids='-'.join, indirect=True
)
def test_a_limit_holds_on_other_brokers_and_stores(
    project: ModuleType, start_project_worker: Callable[..., Any], record: Record, span: Span,
    await_no_window: Callable[[], None],
) -> None:
    start_project_worker('-c', '4')
    members = [chain(span(f'{n}/1'), span(f'{n}/2')) if n % 2 else span(f'{n}/2') for n in range(10)]
    results = group(members, max_concurrency=2).apply_async()
    assert results.get(timeout=90) == [f'{n}/2' for n in range(10)]
    assert record.most_members_at_once() <= 2
    joined = chord(group((project.identity.s(n) for n in range(8)), max_concurrency=2), project.collect.s())
    assert joined.apply_async().get(timeout=60) == list(range(8))
    await_no_window()


def test_a_limit_holds_with_publisher_confirms_and_without_results(
    project: ModuleType, start_project_worker: Callable[..., Any], record: Record, span: Span,
    await_no_window: Callable[[], None],
) -> None:
    start_project_worker('-c', '4', CONFIRM='1', IGNORE='1')
    group((span(f'{n}') for n in range(12)), max_concurrency=2).apply_async()
    record.await_runs(12)
    assert record.most_at_once() <= 2
    await_no_window()


def test_all_members_run_although_their_worker_is_killed(
    project: ModuleType, start_project_worker: Callable[..., Any], record: Record, span: Span,
    await_no_window: Callable[[], None],
) -> None:
    killed = start_project_worker('-c', '4', ACKS_LATE='1')
    results = group((span(f'{n}', 0.2) for n in range(24)), max_concurrency=3).apply_async()
    record.await_runs(6)
    os.killpg(killed.pid, signal.SIGKILL)
    start_project_worker('-c', '4', ACKS_LATE='1')
    assert results.get(timeout=90) == [f'{n}' for n in range(24)]
    runs = Counter(record.runs())
    assert set(runs) == {f'{n}' for n in range(24)}
    assert sum(runs.values()) <= 24 + 6, 'only what was running, or had just ended, ran again'
    await_no_window()


def test_a_message_that_comes_twice_makes_room_once(
    project: ModuleType, start_project_worker: Callable[..., Any], record: Record, span: Span,
    await_no_window: Callable[[], None],
) -> None:
    ids = [uuid() for _ in range(8)]
    results = group((span(f'{n}', 0.3).set(task_id=ids[n]) for n in range(8)), max_concurrency=2).apply_async()
    with project.app.connection_for_write() as connection:
        queue = project.app.amqp.queues['proj'](connection.default_channel)
        message = queue.get()
        producer = project.app.amqp.Producer(connection.default_channel)
        properties = {name: value for name, value in message.properties.items() if name != 'application_headers'}
        producer.publish(message.body, routing_key='proj', headers=message.headers, **properties)
        message.requeue()
    start_project_worker('-c', '4')
    assert results.get(timeout=60) == [f'{n}' for n in range(8)]
    events = record.events()
    assert len(record.runs()) == 9
    repeated = max(place for place, (_, _, name) in enumerate(events) if name in ('0', '1'))
    assert max(sum(change for _, change, _ in events[:place]) for place in range(repeated, len(events))) <= 2
    await_no_window()


def test_a_connection_that_the_broker_closes_keeps_no_member_from_running(
    project: ModuleType, start_project_worker: Callable[..., Any], record: Record, span: Span,
    rabbitmqctl: Callable[..., str]
) -> None:
    start_project_worker('-c', '4')
    results = group((span(f'{n}', 0.1) for n in range(40)), max_concurrency=2).apply_async()
    for count in (4, 16):
        record.await_runs(count)
        rabbitmqctl('close_all_connections', 'the test says so')
    assert results.get(timeout=90) == [f'{n}' for n in range(40)]


def test_a_limit_below_one_is_refused(project: ModuleType) -> None:
    with pytest.raises(ValueError, match='max_concurrency'):
        group(project.add.s(1, 1), max_concurrency=0)
