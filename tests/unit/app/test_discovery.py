"""``-A``, and the modules that hold tasks."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from canvaslite import Celery
from canvaslite.app.discovery import autodiscover_tasks, find_app
from canvaslite.exceptions import ImproperlyConfigured

APP = "from canvaslite import Celery\n{} = Celery('found', set_as_current=False)\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name, module in tuple(sys.modules.items()):
        if str(tmp_path) in (getattr(module, '__file__', None) or ''):
            del sys.modules[name]


def write(path: str, text: str = '') -> None:
    file = Path(path)
    for parent in reversed(file.parents[:-1]):
        parent.mkdir(exist_ok=True)
        (parent / '__init__.py').touch()
    file.write_text(text)
    importlib.invalidate_caches()  # files this young are not seen otherwise


@pytest.mark.parametrize(('path', 'attribute', 'name'), [
    ('proj1.py', 'app', 'proj1'), ('proj2.py', 'celery', 'proj2'), ('proj3.py', 'whatever', 'proj3'),
    ('proj4.py', 'application', 'proj4:application'), ('proj5.py', 'application', 'proj5.application'),
    ('proj6/celery.py', 'app', 'proj6'), ('proj7/celery.py', 'app', 'proj7.celery'),
    ('proj8/app.py', 'app', 'proj8.app'), ('proj9/app.py', 'celery', 'proj9.app'),
    ('proja/sub/tasks.py', 'app', 'proja.sub.tasks:app'), ('projb/celery.py', 'other', 'projb'),
])
def test_an_app_is_found_where_celery_finds_it(path: str, attribute: str, name: str) -> None:
    write(path, APP.format(attribute))
    app = find_app(name)
    assert isinstance(app, Celery)
    assert app.main == 'found'


def test_an_app_stands_for_itself() -> None:
    app = Celery(set_as_current=False)
    assert find_app(app) is app


@pytest.mark.parametrize(('name', 'said'), [
    ('nosuch', "no module 'nosuch'"), ('nosuch:app', "no module 'nosuch'"), ('empty', "no app in module 'empty'"),
    ('empty:app', "'empty:app'"), ('empty.app', "no module 'empty.app'"), ('broken', "imports 'missing_dependency'"),
    (':', 'module:attribute'), ('pack', "no app in module 'pack'"), ('inner', "imports 'missing_dependency'"),
])
def test_what_is_wrong_is_said_in_one_line(name: str, said: str) -> None:
    write('empty.py')
    write('broken.py', 'import missing_dependency\n')
    write('pack/other.py')
    write('inner/celery.py', 'import missing_dependency\n')
    with pytest.raises(ImproperlyConfigured) as caught:
        find_app(name)
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)


def test_tasks_of_packages_are_discovered_when_a_worker_imports_its_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    write('one/tasks.py', 'loaded = True\n')
    write('two/models.py')
    write('three/jobs.py')
    write('extra.py')
    app = Celery(set_as_current=False, include=['extra'])
    app.autodiscover_tasks(['one', 'two'])
    app.autodiscover_tasks(lambda: ['three'], related_name='jobs')
    assert 'one.tasks' not in sys.modules
    modules = app.import_default_modules()
    assert {'one.tasks', 'three.jobs', 'extra'} <= set(sys.modules)
    assert {module.__name__ for module in modules} == {'one.tasks', 'three.jobs', 'extra'}


def test_discovery_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    write('four/tasks.py')
    app = Celery(set_as_current=False)
    assert [module.__name__ for module in app.autodiscover_tasks(['four'], force=True)] == ['four.tasks']
    assert [module.__name__ for module in app.autodiscover_tasks(['four'], related_name=None, force=True)] == ['four']


def test_an_import_that_fails_in_a_discovered_module_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    write('five/tasks.py', 'import missing_dependency\n')
    app = Celery(set_as_current=False)
    app.autodiscover_tasks(['five'])
    with pytest.raises(ModuleNotFoundError, match='missing_dependency'):
        app.import_default_modules()
    with pytest.raises(ModuleNotFoundError, match='nowhere'):
        app.autodiscover_tasks(['nowhere'], force=True)


def test_a_class_in_an_apps_module_stands_for_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    write('canvas_six/tasks.py')
    write('canvas_six/apps.py')
    assert [module.__name__ for module in autodiscover_tasks(['canvas_six.SixConfig'])] == ['canvas_six.tasks']


def test_an_app_has_a_loader_that_imports_modules_as_celerys_has() -> None:
    app = Celery('loading', set_as_current=False, include=['json'])
    assert app.loader.import_task_module('json.tool').__name__ == 'json.tool'
    assert [module.__name__ for module in app.loader.import_default_modules()] == ['json']
