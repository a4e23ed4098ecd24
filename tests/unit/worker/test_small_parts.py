"""Prefetch counts, rate limits, revoked ids, policies, times, node names, pid files, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.asynchronous import Hub

from canvaslite import signals
from canvaslite.utils.nodenames import default_nodename
from canvaslite.worker.connection import Prefetch
from canvaslite.worker.intake import parse_time
from canvaslite.worker.pidfile import Pidfile, PidfileTaken
from canvaslite.worker.policies import Bucket, Policies, parse_rate
from canvaslite.worker.shutdown import Shutdown
from canvaslite.worker.state import LimitedSet, is_stamp_revoked


def test_the_prefetch_count_is_told_once_for_many_changes() -> None:
    prefetch, told = Prefetch(8), []
    prefetch.update(told.append)
    for _ in range(100):
        prefetch.increment()
    prefetch.update(told.append)
    prefetch.update(told.append)
    prefetch.decrement(100)
    prefetch.decrement()
    prefetch.update(told.append)
    assert told == [8, 108, 8]


def test_no_prefetch_limit_stays_none_and_a_large_count_becomes_none() -> None:
    unlimited = Prefetch(0)
    unlimited.increment(5)
    assert unlimited.value == 0
    large = Prefetch(8)
    large.increment(70000)
    assert large.value == 0


def test_messages_with_an_eta_raise_the_prefetch_count_only_to_its_limit() -> None:
    prefetch = Prefetch(8, limit=20)
    prefetch.increment(100)
    assert prefetch.value == 20


@pytest.mark.parametrize(('limit', 'rate'), [
    (None, 0), (0, 0), ('', 0), (10, 10), ('10', 10), ('10/s', 10), ('120/m', 2), ('3600/h', 1), ('0.5/s', 0.5)])
def test_rate_limits_are_tasks_per_second(limit: Any, rate: float) -> None:
    assert parse_rate(limit) == rate


@pytest.mark.parametrize('limit', ['10/d', 'many', '/s', '-1', -1, 'nan/m', 'inf'])
def test_a_rate_limit_that_is_none_is_refused(limit: str) -> None:
    with pytest.raises(ValueError):
        parse_rate(limit)


def test_a_bucket_lets_go_as_fast_as_its_rate() -> None:
    hub, released, start = Hub(), [], time.monotonic()
    bucket = Bucket(50)
    for number in range(6):
        bucket.add(number, released.append, hub)
    assert released == [0]
    while len(released) < 6:
        hub.run_once()
    assert released == list(range(6))
    assert time.monotonic() - start >= 0.09
    hub.close()


def test_a_limited_set_forgets_the_oldest_and_what_has_expired() -> None:
    ids = LimitedSet(maxlen=3, expires=60)
    ids.update(['a', 'b', 'c'])
    ids.add('a')
    ids.add('d')
    assert list(ids) == ['c', 'a', 'd']
    short = LimitedSet(expires=-1)
    short.add('a')
    assert 'a' not in short
    short.purge()
    assert len(short) == 0


def test_stamps_are_revoked_by_value() -> None:
    assert is_stamp_revoked({'batch': ['1', '2'], 'other': 'x'}, {'batch': ['2']})
    assert not is_stamp_revoked({'batch': '1'}, {'batch': ['2'], 'user': ['1']})


def task(**attributes: Any) -> Any:
    return SimpleNamespace(**{'acks_late': False, 'time_limit': None, 'soft_time_limit': None, 'rate_limit': None,
                              **attributes})


def test_limits_come_from_the_message_then_the_task_then_the_worker() -> None:
    policies = Policies({'own': task(time_limit=30), 'none': task()}, hard=60, soft=50)
    own, none = policies.find('own'), policies.find('none')
    assert own is not None and none is not None
    assert own.limits == (30, 50)
    assert none.limits == (60, 50)
    assert own.limits_of([None, 5]) == (30, 5)
    assert none.limits_of((1.5, None)) == (1.5, 50)
    assert none.limits_of(['2.5', None]) == (2.5, 50)
    assert policies.find('unknown') is None


@pytest.mark.parametrize('timelimit', [
    'soon', [1], [1, 2, 3], ['a', None], ['-1', None], ['nan', None], {'a': 1}, 7, [True, None]])
def test_limits_that_are_no_pair_of_numbers_are_refused(timelimit: Any) -> None:
    policy = Policies({'one': task()}).find('one')
    assert policy is not None
    with pytest.raises(ValueError):
        policy.limits_of(timelimit)


def test_acknowledgement_of_failures_has_two_settings_and_an_old_one_for_both() -> None:
    tasks = {'old': task(acks_on_failure_or_timeout=False), 'new': task(acks_on_failure=False, acks_on_timeout=None)}
    policies = Policies(tasks)
    old, new = policies.find('old'), policies.find('new')
    assert old is not None and new is not None
    assert (old.acks_on_failure, old.acks_on_timeout) == (False, False)
    assert (new.acks_on_failure, new.acks_on_timeout) == (False, True)


@pytest.mark.parametrize('text', [
    '2030-01-02T03:04:05+00:00', '2030-01-02T03:04:05Z', '2030-01-02T04:04:05+01:00', '2030-01-02T03:04:05'])
def test_times_are_moments(text: str) -> None:
    assert parse_time(text, timezone.utc) == datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize('value', ['tomorrow', 17, {'a': 1}, '', '0001-01-01T00:00:00+23:59', [1]])
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        parse_time(value, timezone.utc)


@pytest.mark.parametrize(('given', 'name'), [
    ('w1@%n.example', 'w1@{n}.example'), ('w1', 'celery@w1'), ('w1@host', 'w1@host'), (None, 'celery@{h}')])
def test_node_names(given: str | None, name: str) -> None:
    host = os.uname().nodename
    assert default_nodename(given) == name.format(h=host, n=host.partition('.')[0])


def test_a_pidfile_is_held_by_one_living_process(tmp_path: Path) -> None:
    path = tmp_path / 'pid'
    sleeper = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], stdin=subprocess.PIPE)
    path.write_text(f'{sleeper.pid}\n')
    pidfile = Pidfile(str(path))
    with pytest.raises(PidfileTaken, match=str(sleeper.pid)):
        pidfile.acquire()
    sleeper.communicate()
    pidfile.acquire()
    assert int(path.read_text()) == os.getpid()
    pidfile.release()
    assert not path.exists()


def test_an_interrupt_that_comes_while_the_first_is_dealt_with_stops_the_worker_at_once() -> None:
    asked = []

    def interrupt(how: str, **_: Any) -> None:
        asked.append(how)
        if len(asked) == 1:
            signal.raise_signal(signal.SIGINT)

    shutdown = Shutdown('celery@here', lambda: None)
    shutdown.install()
    signals.worker_shutting_down.connect(interrupt)
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signals.worker_shutting_down.disconnect(interrupt)
        shutdown.uninstall()

    assert asked == ['Warm', 'Cold']
