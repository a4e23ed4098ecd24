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
def windows(broker_url: str, rabbitmqctl: Callable[..., str]) -> Callable[[], list[str]]:
    """The queues of windows that are at the broker."""
    vhost = broker_url.rpartition('/')[2]
    return lambda: re.findall(r'canvaslite\.window\S+', rabbitmqctl('list_queues', '-p', vhost, 'name'))


def test_no_more_members_run_than_may_and_the_next_follows_at_once(
    start_project_worker: Callable[..., Any], record: Record, span: Span, windows: Callable[[], list[str]]
) -> None:
    start_project_worker('-c', '4')
    members = [span('slow', 3), *(span(f'fast-{n}', 0.05) for n in range(20))]
    values = group(members, max_concurrency=3).apply_async().get(timeout=60)
    assert values == ['slow', *(f'fast-{n}' for n in range(20))]
    assert record.most_at_once() == 3
    assert record.events()[-1][2] == 'slow', 'the others did not wait for the slow one'
    assert windows() == []


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
    windows: Callable[[], list[str]],
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
        ['fail', 'ignore', 'reject', *['retry'] * 3, *['replace'] * 3, 'die', 'too-long', 'chain/1', 'late-chain/1', 'late-chain/2',
         'chord/1', 'chord/2', *(f'last-{n}' for n in range(4))]
    )
    assert windows() == []
