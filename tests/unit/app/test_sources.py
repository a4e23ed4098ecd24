"""Where an app's configuration comes from: modules, objects, dicts, the environment."""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest

from canvaslite import Celery
from canvaslite.app.sources import _warned
from canvaslite.exceptions import ImproperlyConfigured, UnknownSettingWarning


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('CELERY_CONFIG_MODULE', raising=False)
    before = set(sys.modules)
    _warned.clear()
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], '__file__', '')).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def app() -> Celery:
    return Celery('sources', set_as_current=False)


def test_a_module_of_the_current_directory(app: Celery, folder: Path) -> None:
    (folder / 'someconfig.py').write_text("import os\ntask_default_queue = 'module'\ndef helper(): pass\n")
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        app.config_from_object('someconfig')
        assert app.conf.task_default_queue == 'module'


@pytest.mark.parametrize('name', ['pkg.conf:Config', 'pkg.conf.Config', 'pkg.conf:values'])
def test_something_in_a_module(app: Celery, folder: Path, name: str) -> None:
    (folder / 'pkg').mkdir()
    (folder / 'pkg/__init__.py').touch()
    (folder / 'pkg/conf.py').write_text("class Config:\n    task_default_queue = 'x'\nvalues = vars(Config)\n"
                                        "values = {'task_default_queue': 'x'}\n")
    app.config_from_object(name)
    assert app.conf.task_default_queue == 'x'


def test_an_object_with_inherited_attributes(app: Celery) -> None:
    class Base:
        task_default_queue = 'base'

        def method(self) -> None: ...

    class Config(Base):
        worker_concurrency = 7

    app.config_from_object(Config())
    assert (app.conf.task_default_queue, app.conf.worker_concurrency) == ('base', 7)
    assert 'method' not in app.conf


def test_a_namespace_picks_its_settings_and_leaves_the_rest(app: Celery) -> None:
    settings = types.SimpleNamespace(
        CELERY_BROKER_URL='amqp://django//', CELERY_TASK_RESULT_EXPIRES=60, CELERY_CUSTOM=1,
        DATABASES={}, TIME_ZONE='Europe/Paris', task_serializer='yaml')
    with pytest.warns(UnknownSettingWarning, match='custom'):
        app.config_from_object(settings, namespace='CELERY', force=True)
    assert app.conf.broker_url == 'amqp://django//'
    assert app.conf.result_expires == 60
    assert app.conf.task_serializer == 'yaml'
    assert app.conf.custom == 1
    assert app.conf.timezone == 'Europe/Paris'
    assert 'DATABASES' not in app.conf
    app.conf.CELERY_TASK_SERIALIZER = 'pickle'
    assert app.conf.task_serializer == 'pickle'


def test_the_new_spelling_wins_over_the_old(app: Celery) -> None:
    app.config_from_object({'CELERY_DEFAULT_QUEUE': 'old', 'task_default_queue': 'new'})
    assert app.conf.task_default_queue == 'new'


def test_a_misspelt_setting_in_a_module_is_warned_of_and_other_names_are_not(app: Celery, folder: Path) -> None:
    (folder / 'misspelt.py').write_text("worker_concurency = 3\nMY_THING = 4\nhost_of_mine = 'x'\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        app.config_from_object('misspelt', force=True)
    assert [str(warning.message) for warning in caught] == [
        "unknown setting 'worker_concurency', did you mean 'worker_concurrency'?"]
    assert app.conf.MY_THING == 4


def test_it_is_read_when_needed_or_at_once(app: Celery) -> None:
    with pytest.raises(ModuleNotFoundError, match='no_such_module'):
        app.config_from_object('no_such_module', force=True)
    app.config_from_object('no_such_module')
    with pytest.raises(ModuleNotFoundError, match='no_such_module'):
        app.conf.task_serializer
    app.config_from_object('no_such_module', silent=True)
    assert app.conf.task_serializer == 'json'


def test_a_file_name_in_place_of_a_module_is_explained(app: Celery, folder: Path) -> None:
    (folder / 'conffile.py').touch()
    with pytest.raises(ImportError, match="did you mean 'conffile'"):
        app.config_from_object('conffile.py', force=True)


def test_an_import_that_fails_inside_the_module_is_shown(app: Celery, folder: Path) -> None:
    (folder / 'broken.py').write_text('import missing_dependency\n')
    with pytest.raises(ModuleNotFoundError, match='missing_dependency'):
        app.config_from_object('broken', force=True)


def test_a_second_source_replaces_the_first_and_keeps_what_came_before_both(app: Celery) -> None:
    app.conf.task_default_queue = 'mine'
    app.config_from_object({'task_serializer': 'yaml', 'worker_concurrency': 2})
    assert app.conf.task_serializer == 'yaml'
    conf = app.conf
    app.config_from_object({'task_serializer': 'pickle'})
    assert (app.conf.task_serializer, app.conf.worker_concurrency) == ('pickle', None)
    assert app.conf.task_default_queue == 'mine'
    assert app.conf is conf


def test_the_environment_names_a_module(app: Celery, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / 'envconfig.py').write_text("task_default_queue = 'env'\n")
    monkeypatch.setenv('SOME_VARIABLE', 'envconfig')
    app.config_from_envvar('SOME_VARIABLE')
    assert app.conf.task_default_queue == 'env'
    assert app.config_from_envvar('NO_SUCH_VARIABLE', silent=True) is False
    with pytest.raises(ImproperlyConfigured, match='NO_SUCH_VARIABLE'):
        app.config_from_envvar('NO_SUCH_VARIABLE')


def test_celery_config_module_is_for_apps_without_a_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / 'globalconfig.py').write_text("task_default_queue = 'global'\n")
    monkeypatch.setenv('CELERY_CONFIG_MODULE', 'globalconfig')
    assert Celery(set_as_current=False).conf.task_default_queue == 'global'
    assert Celery(set_as_current=False, config_source={}).conf.task_default_queue == 'global'
    assert Celery(set_as_current=False, config_source={'worker_concurrency': 1}).conf.task_default_queue == 'celery'


def test_signals_around_the_configuration(app: Celery) -> None:
    told: list[Any] = []
    app.on_configure.connect(lambda sender, **_: told.append(('before', sender.configured)), weak=False)
    app.on_after_configure.connect(lambda sender, source, **_: told.append((sender, source)), weak=False)
    assert app.conf.task_serializer == 'json'
    assert told == [('before', False), (app, app.conf)]


def test_subclasses_prepare_what_was_read() -> None:
    class Prepared(Celery):
        def on_configure(self) -> None:
            self.conf.worker_concurrency = 5

        def prepare_config(self, c: Any) -> Any:
            return {**c, 'task_default_queue': 'prepared'}

    app = Prepared(set_as_current=False, config_source={'task_serializer': 'yaml'})
    assert (app.conf.task_default_queue, app.conf.task_serializer, app.conf.worker_concurrency) == (
        'prepared', 'yaml', 5)
