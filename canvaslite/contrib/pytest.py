"""Fixtures for pytest: ``pytest_plugins = ('canvaslite.contrib.pytest',)`` in ``conftest.py``.

A test that takes `celery_app` and `celery_worker` has an app, and a worker of it in a thread. What they are made of are
fixtures too, to be overridden.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from canvaslite.contrib.testing.app import TestApp, setup_default_app
from canvaslite.contrib.testing.worker import start_worker
from canvaslite.utils.imports import import_from_cwd

#: With this environment variable the tests find a worker that runs already.
NO_WORKER = os.environ.get('NO_WORKER')


def pytest_configure(config: Any) -> None:
    config.addinivalue_line('markers', 'celery(**overrides): settings of the app of this test')


def _default(value: Any, description: str) -> Any:
    def default() -> Any:
        return value
    default.__doc__ = description
    return pytest.fixture(scope='session')(default)


# To be overridden.
use_celery_app_trap = _default(False, 'Whether the use of the current app is an error.')
celery_config = _default({}, "The app's settings.")
celery_parameters = _default({}, "The app's other arguments.")
celery_enable_logging = _default(False, 'Whether the worker sets up logging.')
celery_includes = _default((), 'Names of the modules that a worker imports.')
celery_class_tasks = _default((), "Tasks that are classes, for the session's app.")
celery_worker_pool = _default('solo', "The worker's pool.")
celery_worker_parameters = _default({}, "The worker's other arguments.")


@contextmanager
def _making_app(request: Any, config: Any, parameters: Any, enable_logging: bool, use_trap: bool) -> Iterator[Any]:
    mark = request.node.get_closest_marker('celery')
    app = TestApp(config={**config, **(mark.kwargs if mark else {})}, enable_logging=enable_logging, **parameters)
    with setup_default_app(app, use_trap=use_trap):
        yield app


def _starting_worker(app: Any, includes: Any, pool: Any, parameters: Any) -> Any:
    if NO_WORKER:
        return nullcontext()
    for module in includes:
        import_from_cwd(module)
    return start_worker(app, pool=pool, **parameters)


@pytest.fixture(scope='session')
def celery_session_app(request: Any, celery_config: Any, celery_parameters: Any, celery_enable_logging: bool,
                       use_celery_app_trap: bool) -> Iterator[Any]:
    """An app for all tests, the current one."""
    with _making_app(request, celery_config, celery_parameters, celery_enable_logging, use_celery_app_trap) as app:
        if not use_celery_app_trap:
            app.set_default()
            app.set_current()
        yield app


@pytest.fixture(scope='session')
def celery_session_worker(celery_session_app: Any, celery_includes: Any, celery_class_tasks: Any,
                          celery_worker_pool: Any, celery_worker_parameters: Any) -> Iterator[Any]:
    """A worker for all tests."""
    for task in celery_class_tasks:
        celery_session_app.register_task(task)
    with _starting_worker(celery_session_app, celery_includes, celery_worker_pool, celery_worker_parameters) as worker:
        yield worker


@pytest.fixture
def celery_app(request: Any, celery_config: Any, celery_parameters: Any, celery_enable_logging: bool,
               use_celery_app_trap: bool) -> Iterator[Any]:
    """An app for this test."""
    with _making_app(request, celery_config, celery_parameters, celery_enable_logging, use_celery_app_trap) as app:
        yield app


@pytest.fixture
def celery_worker(celery_app: Any, celery_includes: Any, celery_worker_pool: Any,
                  celery_worker_parameters: Any) -> Iterator[Any]:
    """A worker for this test."""
    with _starting_worker(celery_app, celery_includes, celery_worker_pool, celery_worker_parameters) as worker:
        yield worker


@pytest.fixture
def depends_on_current_app(celery_app: Any) -> None:
    """Makes the test's app the current one."""
    celery_app.set_current()
