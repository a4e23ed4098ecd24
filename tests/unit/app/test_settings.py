"""``app.conf``: what a setting's value is, who said so, and what is wrong with it."""

from __future__ import annotations

import copy
import re
import timeit
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from canvaslite import Celery
from canvaslite.app.defaults import SETTINGS
from canvaslite.app.sources import _warned
from canvaslite.app.task import Task
from canvaslite.exceptions import ImproperlyConfigured, UnknownSettingWarning


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('BROKER_URL', 'BROKER_READ_URL', 'BROKER_WRITE_URL', 'RESULT_BACKEND', 'CONFIG_MODULE'):
        monkeypatch.delenv(f'CELERY_{name}', raising=False)


@pytest.fixture(autouse=True)
def nothing_warned_of() -> None:
    _warned.clear()


def make_app(**options: Any) -> Celery:
    return Celery('conf', set_as_current=False, **options)


def test_the_page_of_settings_says_what_the_code_says() -> None:
    page = Path(__file__).parents[3].joinpath('docs/settings.md').read_text()
    said = re.findall(r'^\| `(\w+)` \| `(.*?)` \| (.*?) \| .+\. \|$', page, re.MULTILINE)
    assert sorted(said) == sorted((name, repr(setting.default), setting.kind.replace('|', ' or '))
                                  for name, setting in SETTINGS.items())


def test_a_setting_is_read_somewhere_or_the_page_says_that_it_has_no_effect() -> None:
    root = Path(__file__).parents[3]
    without_effect = set(re.findall(r'^\| `(\w+)` \|', root.joinpath('docs/settings.md').read_text().partition(
        '## Settings without effect')[2], re.MULTILINE))
    declared = {root / 'canvaslite/app' / name for name in ('defaults.py', 'sources.py')}
    code = ' '.join(path.read_text() for path in set(root.joinpath('canvaslite').rglob('*.py')) - declared)
    read = set(re.findall(r'(?:conf\.|[\'"])(\w+)', code)) | {setting for _, setting in Task.from_config}
    assert sorted(SETTINGS.keys() - read) == sorted(without_effect)


def test_a_default_is_of_its_settings_type() -> None:
    for setting in SETTINGS.values():
        assert setting.check(setting.default) == setting.default


def test_a_setting_is_an_attribute_and_a_key() -> None:
    conf = make_app().conf
    assert conf.task_serializer == conf['task_serializer'] == conf.get('task_serializer') == 'json'
    assert 'task_serializer' in conf
    assert set(SETTINGS) <= set(conf)
    with pytest.raises(AttributeError, match='task_serializer'):
        conf.task_serialiser
    with pytest.raises(KeyError):
        conf['nope']
    assert conf.get('nope', 3) == 3


def test_what_is_set_before_the_configuration_is_read_is_stronger_than_it() -> None:
    app = make_app()
    app.conf.task_serializer = 'pickle'
    app.conf.update(worker_concurrency=3)
    app.config_from_object({'task_serializer': 'yaml', 'worker_prefetch_multiplier': 1, 'worker_concurrency': 9})
    assert not app.configured
    assert app.conf.task_serializer == 'pickle'
    assert app.conf.worker_concurrency == 3
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.configured


def test_changes_after_reading_show_at_once_and_can_be_taken_back() -> None:
    app = make_app(config_source={'task_serializer': 'yaml'})
    assert app.conf.task_serializer == 'yaml'
    app.conf.task_serializer = 'pickle'
    assert app.conf.task_serializer == 'pickle'
    assert app.conf.pop('task_serializer') == 'pickle'
    assert app.conf.task_serializer == 'yaml'
    app.conf.update({'task_serializer': 'json'}, task_default_queue='q')
    assert (app.conf.task_serializer, app.conf.task_default_queue) == ('json', 'q')
    app.conf.clear()
    assert (app.conf.task_serializer, app.conf.task_default_queue) == ('yaml', 'celery')


def test_dicts_of_two_apps_are_not_one_object() -> None:
    one, two = make_app(), make_app()
    one.conf.beat_schedule['x'] = {'task': 't'}
    one.conf.task_serializer = 'pickle'
    assert one.conf.beat_schedule == {'x': {'task': 't'}}
    assert two.conf.beat_schedule == {}
    assert SETTINGS['beat_schedule'].default == {}


def test_added_defaults_are_weaker_than_changes_and_stronger_than_the_source() -> None:
    app = make_app(config_source={'task_default_queue': 'source', 'task_serializer': 'yaml'})
    app.add_defaults({'task_default_queue': 'added', 'task_serializer': 'pickle'})
    app.conf.task_serializer = 'json'
    assert (app.conf.task_default_queue, app.conf.task_serializer) == ('added', 'json')
    app.add_defaults(lambda: {'task_default_queue': 'later'})
    assert app.conf.task_default_queue == 'later'


@pytest.mark.parametrize(('variable', 'setting'), [
    ('CELERY_BROKER_URL', 'broker_url'), ('CELERY_BROKER_READ_URL', 'broker_read_url'),
    ('CELERY_BROKER_WRITE_URL', 'broker_write_url'), ('CELERY_RESULT_BACKEND', 'result_backend'),
])
def test_the_environment_is_stronger_than_any_setting(monkeypatch: pytest.MonkeyPatch, variable: str,
                                                      setting: str) -> None:
    monkeypatch.setenv(variable, 'redis://env/1')
    app = make_app(changes={setting: 'redis://code/1'})
    assert app.conf[setting] == 'redis://env/1'


def test_urls_and_names_that_follow_another_setting() -> None:
    conf = make_app(broker='amqp://b//', changes={'task_default_queue': 'q'}).conf
    assert conf.broker_read_url == conf.broker_write_url == 'amqp://b//'
    assert conf.task_default_exchange == conf.task_default_routing_key == 'q'
    conf.broker_read_url = 'amqp://r//'
    assert (conf.broker_read_url, conf.broker_write_url) == ('amqp://r//', 'amqp://b//')
    conf.broker_url = 'amqp://c//'
    assert conf.broker_write_url == 'amqp://c//'


def test_old_names_are_translated() -> None:
    conf = make_app(config_source={
        'BROKER_URL': 'amqp://old//', 'CELERY_TASK_RESULT_EXPIRES': 60, 'CELERYD_CONCURRENCY': 2,
        'CELERYBEAT_SCHEDULE': {'a': {}}, 'CELERY_ALWAYS_EAGER': True, 'CELERYD_TASK_TIME_LIMIT': 5,
    }).conf
    assert (conf.broker_url, conf.result_expires, conf.worker_concurrency) == ('amqp://old//', 60, 2)
    assert (conf.beat_schedule, conf.task_always_eager, conf.task_time_limit) == ({'a': {}}, True, 5)
    assert conf.CELERY_ALWAYS_EAGER is True
    conf.CELERY_ALWAYS_EAGER = False
    assert conf.task_always_eager is False


@pytest.mark.parametrize(('name', 'value', 'kept'), [
    ('task_acks_late', 'yes', True), ('task_acks_late', 0, False), ('worker_concurrency', '4', 4),
    ('broker_heartbeat', 10.0, 10), ('task_time_limit', '2.5', 2.5), ('result_expires', timedelta(1), timedelta(1)),
    ('worker_state_db', Path('/tmp/x'), '/tmp/x'), ('accept_content', {'json'}, {'json'}),
    ('broker_pool_limit', None, None),
    ('broker_use_ssl', {'ca': 1}, {'ca': 1}), ('worker_concurrency', 'auto', 'auto'),
])
def test_values_are_kept_as_they_are_used(name: str, value: Any, kept: Any) -> None:
    conf = make_app(changes={name: value}).conf
    assert conf[name] == kept
    assert type(conf[name]) is type(kept)


@pytest.mark.parametrize(('name', 'value'), [
    ('task_acks_late', 'perhaps'), ('broker_pool_limit', 'many'), ('broker_transport_options', 'x=1'),
    ('task_queues', 'celery'), ('task_time_limit', timedelta(1)), ('worker_pool', 3), ('beat_schedule', [1]),
])
def test_a_value_of_the_wrong_type_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        make_app(changes={name: value})
    with pytest.raises(ImproperlyConfigured, match=name):
        make_app(config_source={name: value}).conf.task_serializer


def test_a_refused_value_does_not_tell_a_secret() -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        make_app(changes={'broker_password': ['hunter2']})
    assert 'hunter2' not in str(caught.value)


def test_an_unknown_name_is_warned_of_once_with_the_nearest() -> None:
    conf = make_app().conf
    with pytest.warns(UnknownSettingWarning, match="'task_serialiser', did you mean 'task_serializer'") as caught:
        conf.update(task_serialiser='json')
    assert [warning.filename for warning in caught if warning.category is UnknownSettingWarning] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        conf.task_serialiser = 'json'
    assert conf.task_serialiser == 'json'


def test_settings_of_stores_that_there_are_not_are_said_to_have_no_effect() -> None:
    with pytest.warns(UnknownSettingWarning, match='has no effect'):
        make_app(cassandra_servers=['x'])


def test_tables_show_changes_or_all_and_mask_secrets() -> None:
    app = make_app(broker='amqp://me:hunter2@host//', backend='redis://:hunter2@host/0')
    app.conf.redis_password = 'hunter2'
    app.conf.broker_transport_options = {'password': 'hunter2', 'fast': True}
    assert app.conf.without_defaults().keys() == {
        'broker_url', 'result_backend', 'redis_password', 'broker_transport_options'}
    table = app.conf.table(with_defaults=True)
    assert table['broker_url'] == 'amqp://me:********@host//'
    assert table['broker_transport_options'] == {'password': '********', 'fast': True}
    assert 'hunter2' not in app.conf.humanize(with_defaults=True) + app.bugreport()
    assert 'hunter2' in app.conf.humanize(censored=False)
    assert "task_serializer: 'json'" in app.conf.humanize(with_defaults=True)


def test_a_copy_can_be_changed_apart() -> None:
    conf = make_app(changes={'task_default_queue': 'a'}).conf
    for other in (conf.copy(), copy.copy(conf), copy.deepcopy(conf)):
        other.task_default_queue = 'b'
        assert conf.task_default_queue == 'a'


def test_who_wants_to_know_is_told_of_changes() -> None:
    conf, told = make_app().conf, []
    assert conf.task_default_queue == 'celery'
    conf.bind_to(lambda: told.append(conf.task_default_queue))
    conf.task_default_queue = 'new'
    assert told == ['new']


def test_a_setting_may_be_read_while_the_configuration_is_read() -> None:
    app = make_app()
    seen = []
    app.on_configure.connect(lambda **_: seen.append((app.conf.task_serializer, app.conf.task_default_queue)),
                             weak=False)
    app.conf.task_default_queue = 'early'
    assert app.conf.task_acks_late is False
    assert seen == [('json', 'early')]


@pytest.mark.alone
def test_reading_a_setting_takes_no_time() -> None:
    app = make_app()
    assert app.conf.task_serializer
    seconds = min(timeit.repeat('app.conf.task_serializer', globals={'app': app}, number=10_000, repeat=5)) / 10_000
    assert seconds < 0.3e-6


def test_a_store_of_the_programs_own_may_stand_for_a_scheme() -> None:
    class Store:
        def __init__(self, app: Any, url: str) -> None:
            self.url = url

    app = make_app(backend='redis://host/0', changes={'override_backends': {'redis': Store}})
    assert type(app.backend) is Store
    assert app.backend.url == 'redis://host/0'


def test_a_wrong_store_or_time_zone_is_named() -> None:
    with pytest.raises(ImproperlyConfigured, match='result_backend'):
        make_app(backend='nosuch://host').backend
    with pytest.raises(ImproperlyConfigured, match='timezone'):
        make_app(timezone='Nowhere/Special').now()
