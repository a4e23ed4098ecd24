"""Tasks with an ETA in a fleet of both packages: each delays, and runs what the other has delayed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from compat.test_one_fleet import load_project

TOPIC_QUORUM = {'QUEUE_TYPE': 'quorum', 'EXCHANGE_TYPE': 'topic'}


@pytest.fixture
def env(broker_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    env = {'BROKER': broker_url, 'BACKEND': redis_url, 'HOLD': '1'}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.mark.parametrize(('sender', 'receiver'), [('celery', 'canvaslite'), ('canvaslite', 'celery'),
                                                  ('canvaslite', 'canvaslite')])
def test_what_one_package_has_the_broker_delay_the_other_runs_at_its_eta(
    sender: str, receiver: str, env: dict[str, str], start_worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in TOPIC_QUORUM.items():
        monkeypatch.setenv(name, value)
    project = load_project(sender, monkeypatch)
    worker = start_worker('proj', '-c', '2', '-l', 'INFO', package=receiver, CANVAS_PACKAGE=receiver, **env)
    sent = time.time()
    result = project.describe_request.apply_async(countdown=3)
    with project.app.connection_for_read() as connection:
        while not connection.default_channel.queue_declare('celery_delayed_1', passive=True).message_count:
            assert time.time() < sent + 3, 'the broker does not delay it'
    seen = result.get(timeout=15)
    assert 2.5 < time.time() - sent < 8
    assert seen['delivery_info']['routing_key'].endswith('.proj')
    worker.await_line(rf'{result.id}.*succeeded')
    assert len([line for line in worker.lines if 'received' in line and result.id in line]) == 1


def test_a_worker_of_each_starts_where_the_other_has_declared_the_delay_queues(
    env: dict[str, str], start_worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in TOPIC_QUORUM.items():
        monkeypatch.setenv(name, value)
    project = load_project('canvaslite', monkeypatch)
    for number, package in enumerate(('canvaslite', 'celery', 'canvaslite')):
        worker = start_worker('proj', '-c', '1', '-l', 'INFO', '-n', f'{package}-{number}@%h', package=package,
                              CANVAS_PACKAGE=package, **env)
        assert project.add.delay(1, 1).get(timeout=20) == 2
        worker.kill()
        assert 'PRECONDITION' not in worker.output


@pytest.mark.parametrize('sender', ['celery', 'canvaslite'])
def test_a_far_eta_on_a_classic_queue_runs_once_whoever_gets_it_back(
    sender: str, env: dict[str, str], start_worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = start_worker('proj', '-c', '2', '-l', 'INFO', '-n', 'ours@%h', CANVAS_PACKAGE='canvaslite', **env)
    project = load_project(sender, monkeypatch)
    results = [project.describe_request.apply_async(countdown=3) for _ in range(6)]
    ours.await_line('is kept by the broker until its ETA', count=6)
    assert ours.stop() == 0
    theirs = start_worker('proj', '-c', '2', '-l', 'INFO', '-n', 'theirs@%h', package='celery',
                          CANVAS_PACKAGE='celery', **env)
    assert [result.get(timeout=15)['hostname'].split('@')[0] for result in results] == ['theirs'] * 6
    theirs.await_line('succeeded', count=6)
    theirs.stop()
    assert len([line for line in theirs.lines if 'succeeded' in line]) == 6
