"""Text, time, secrets, names, loggers."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite.utils.functional import maybe_list
from canvaslite.utils.imports import cwd_in_path, import_from_cwd, instantiate, qualname, symbol_by_name
from canvaslite.utils.log import get_task_logger, task_logger
from canvaslite.utils.redact import censor, for_log, redact
from canvaslite.utils.saferepr import truncate
from canvaslite.utils.time import local_timezone


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
    ('a://u:p@ss/word@h/x', 'a://u:********@h/x'),
    ('masked by kombu: redis://:**@h', 'masked by kombu: redis://:**@h'),
    ('host=h password=pass user=u', 'host=h password=******** user=u'),
    ('PGPASSWORD=pass', 'PGPASSWORD=********'),
    ("{'api_key': 'pass', 'x': 1}", "{'api_key': '********', 'x': 1}"),
    ('Name=x;SharedAccessKey=aa/b+c=;AccountKey=dd==;E=1', 'Name=x;SharedAccessKey=********;AccountKey=********;E=1'),
    ('{"my-token": "pa ss"}', '{"my-token": "********"}'),
    ("b'passwd': b'pass'", "b'passwd': b'********'"),
    ('Authorization: Bearer abc.def-ghi', 'Authorization: Bearer ********'),
    ('routing_key=x, Unexpected token: y, basic_ack', 'routing_key=x, Unexpected token: y, basic_ack'),
])
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert redact(url) == shown
    assert censor([url, (url,), {'a': [url]}]) == [shown, (shown,), {'a': [shown]}]
    assert censor(None) is None


@pytest.mark.parametrize('text', [
    'a://' * 3000, 'a://b:' * 2000, 'password=' * 1500, 'bearer ' * 2000, '@' * 10_000, 'a-_' * 4000])
def test_no_text_makes_redacting_slow(text: str) -> None:
    began = time.process_time()
    for_log(text + 'token')
    assert time.process_time() - began < 0.5


def test_what_strangers_write_is_a_part_of_one_short_line() -> None:
    assert for_log('a\n[2020] made\tup \x1b[31m password=x') == 'a [2020] made up ?[31m password=********'
    assert len(for_log('\U0001f600' * 10_000).encode()) < 1700


def test_secret_settings_are_masked_at_any_depth() -> None:
    settings = {'SECRET_KEY': 'x', 'a': [{'api_token': 'x', 'b': 1}], 'redis_password': None, 'u': 'amqp://a:b@c'}
    assert censor(settings) == {'SECRET_KEY': '********', 'a': [{'api_token': '********', 'b': 1}],
                                'redis_password': None, 'u': 'amqp://a:********@c'}


def test_the_local_zone_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    local_timezone.cache_clear()
    monkeypatch.setenv('TZ', 'Asia/Tokyo')
    assert str(local_timezone()) == 'Asia/Tokyo'
    local_timezone.cache_clear()
    monkeypatch.setenv('TZ', 'Nowhere/At-all')
    moment = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)
    assert moment.astimezone(local_timezone()) == moment
    local_timezone.cache_clear()


def test_text_is_shortened() -> None:
    assert (truncate('hello there world', 14), truncate('hello', 14)) == ('hello there...', 'hello')


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
    assert import_from_cwd('plainmodule').__file__ == str(tmp_path / 'plainmodule.py')
    with cwd_in_path():
        assert sys.path[0] == str(tmp_path)
    assert str(tmp_path) not in sys.path


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
