"""Text, time, secrets, names, loggers."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from datetime import timezone as fixed
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from canvaslite.utils import text, time
from canvaslite.utils.functional import maybe_list
from canvaslite.utils.imports import NotAPackage, cwd_in_path, find_module, instantiate, qualname, symbol_by_name
from canvaslite.utils.log import get_task_logger, mlevel, task_logger
from canvaslite.utils.redact import censor, mask_url, redact


@pytest.mark.parametrize(('url', 'shown'), [
    ('amqp://me:pass@host:5672//', 'amqp://me:********@host:5672//'),
    ('redis://:pass@host/0', 'redis://:********@host/0'),
    ('redis://:p@ss@host/0', 'redis://:********@host/0'),
    ('redis://:pa/ss@host/0', 'redis://:********@host/0'),
    ('amqp://a:b@one//;amqp://c:d@two//', 'amqp://a:********@one//;amqp://c:********@two//'),
    ('db+postgresql://u:p@h/db', 'db+postgresql://u:********@h/db'),
    ('redis://host:6379/0', 'redis://host:6379/0'),
    ('redis://host/0?password=pass&x=1', 'redis://host/0?password=********&x=1'),
    ('connecting to amqp://u:p@h// failed: no', 'connecting to amqp://u:********@h// failed: no'),
    ('no url: a@b', 'no url: a@b'),
])
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert redact(url) == shown
    assert mask_url([url]) == [shown]
    assert mask_url(None) is None


def test_secret_settings_are_masked_at_any_depth() -> None:
    settings = {'SECRET_KEY': 'x', 'a': {'api_token': 'x', 'b': 1}, 'redis_password': None, 'u': 'amqp://a:b@c'}
    assert censor(settings) == {'SECRET_KEY': '********', 'a': {'api_token': '********', 'b': 1},
                                'redis_password': None, 'u': 'amqp://a:********@c'}


@pytest.mark.parametrize(('said', 'meant'), [
    ('2024-02-03T04:05:06', datetime(2024, 2, 3, 4, 5, 6)),
    ('2024-02-03T04:05:06Z', datetime(2024, 2, 3, 4, 5, 6, tzinfo=fixed.utc)),
    ('2024-02-03T04:05:06.5+02:00', datetime(2024, 2, 3, 4, 5, 6, 500000, fixed(timedelta(hours=2)))),
    ('2024-02-03 04:05:06.123456-0330', datetime(2024, 2, 3, 4, 5, 6, 123456, fixed(-timedelta(hours=3, minutes=30)))),
    ('20240203T040506Z', datetime(2024, 2, 3, 4, 5, 6, tzinfo=fixed.utc)),
    ('2024-02-03', datetime(2024, 2, 3)),
])
def test_iso8601_is_read_in_the_forms_that_travel(said: str, meant: datetime) -> None:
    assert time.parse_iso8601(said) == time.maybe_iso8601(said) == time._parse_iso8601_slowly(said) == meant
    assert time.parse_iso8601(said).utcoffset() == meant.utcoffset()


@pytest.mark.parametrize('said', ['', 'soon', '2024-13-01T00:00:00', '2024-02-03T99:00:00Z'])
def test_what_is_no_time_is_refused(said: str) -> None:
    with pytest.raises(ValueError):
        time.parse_iso8601(said)


def test_rates_and_seconds() -> None:
    assert [time.rate(limit) for limit in ('100/s', '60/m', '7200/h', '5', 3, None, '')] == [100, 1, 2, 5, 3, 0, 0]
    assert time.humanize_seconds(4 * 3600) == '4.00 hours'
    assert time.humanize_seconds(60, prefix='in', sep=' ') == 'in 1.00 minute'
    assert time.humanize_seconds(0) == 'now'
    assert time.maybe_timedelta(3) == timedelta(seconds=3)
    assert time.get_exponential_backoff_interval(2, 3, 100) == 16
    assert time.get_exponential_backoff_interval(2, 30, 100) == 100
    assert 0 <= time.get_exponential_backoff_interval(2, 3, 100, full_jitter=True) <= 16


def test_wall_clock_times_in_a_zone() -> None:
    berlin = ZoneInfo('Europe/Berlin')
    assert time.make_aware(datetime(2024, 3, 31, 2, 30), berlin).isoformat() == '2024-03-31T03:30:00+02:00'
    assert time.make_aware(datetime(2024, 10, 27, 2, 30), berlin).isoformat() == '2024-10-27T02:30:00+02:00'
    assert time.localize(datetime(2024, 1, 1, tzinfo=fixed.utc), berlin).hour == 1
    assert time.maybe_make_aware(datetime(2024, 1, 1)).utcoffset() == timedelta(0)
    assert time.subtract_datetimes(datetime(2024, 1, 1, 1, tzinfo=berlin), datetime(2024, 1, 1)) == timedelta(0)
    assert time.timezone.get_timezone('Europe/Berlin') == berlin
    assert time.timezone.get_timezone(berlin) is berlin


def test_the_local_zone_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TZ', 'Asia/Tokyo')
    assert str(type(time.timezone)().local) == 'Asia/Tokyo'
    monkeypatch.setenv('TZ', 'Nowhere/At-all')
    local = type(time.timezone)().local
    assert isinstance(local, time.LocalTimezone)
    moment = datetime(2024, 1, 1, 12, tzinfo=fixed.utc)
    assert moment.astimezone(local) == moment
    assert moment.astimezone(local).utcoffset() == moment.astimezone().utcoffset()


def test_text_is_shortened_and_formatted() -> None:
    assert text.abbr('hello', 3) == '...' and text.abbr('hello', 3, False) == 'hel' and text.abbr(None, 3) == '???'
    assert text.abbrtask('some.module.add', 12) == 'some.m[.]add'
    assert text.truncate('hello there world', 14) == 'hello there...'
    assert (text.pluralize(1, 'task'), text.pluralize(2, 'task')) == ('task', 'tasks')
    assert text.simple_format('%n@%h 100%%', {'n': 'me', 'h': lambda: 'host'}) == 'me@host 100%'
    with pytest.raises(ValueError, match='unknown %x'):
        text.simple_format('%x', {})
    assert text.indent('a\nb', 2) == '  a\n  b'


def test_things_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert symbol_by_name('os.path:join') is symbol_by_name('os.path.join')
    assert symbol_by_name('short', aliases={'short': 'os.path:join'}) is symbol_by_name('os.path.join')
    assert symbol_by_name(dict) is dict
    assert isinstance(symbol_by_name('json'), ModuleType)
    assert instantiate('collections:OrderedDict', a=1) == {'a': 1}
    assert [qualname(thing) for thing in (datetime.now, len, 3)] == ['datetime.now', 'builtins.len', 'builtins.int']
    with pytest.raises(ImportError):
        symbol_by_name('nosuch.module')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'plainmodule.py').touch()
    with pytest.raises(NotAPackage, match='plainmodule'):
        find_module('plainmodule.py')
    with cwd_in_path() as directory:
        assert directory == str(tmp_path)


@pytest.mark.parametrize(('value', 'as_list'), [
    (None, None), ('ab', ['ab']), ([1], [1]), ((1,), (1,)), ({'a': 1}, [{'a': 1}]), (3, [3]),
])
def test_one_or_many(value: Any, as_list: Any) -> None:
    assert maybe_list(value) == as_list


def test_task_loggers_are_below_the_one_that_shows_the_task() -> None:
    logger = get_task_logger('tests.some.module')
    assert logger.parent is task_logger
    assert get_task_logger('tests.some.module') is logger
    with pytest.raises(RuntimeError):
        get_task_logger('celery.task')
    assert (mlevel('info'), mlevel(logging.DEBUG), mlevel(None)) == (logging.INFO, logging.DEBUG, None)
    with pytest.raises(KeyError):
        mlevel('chatty')
