"""Every result store, behind the same sentences.

A test that takes `app` runs once for each store: `ALL` of them, or those that its mark names::

    @on(JOINING)
    def test_...(app): ...

`make_app` makes more apps on the same store, each with caches and connections of its own, as other processes have.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from canvaslite import Celery
from canvaslite.backends import cache
from canvaslite.context import Context

#: Stores by what they can do. `memory` is one process's own, `rpc` keeps nothing that was read.
SHARED = ('redis', 'sqlite', 'postgresql', 'mysql', 'file', 'memcached')
KEEPING = (*SHARED, 'memory')
ALL = JOINING = (*KEEPING, 'rpc')
#: Stores in which every process sees the same, by whatever means.
CROSSING = (*SHARED, 'rpc')


def on(stores: tuple[str, ...], **settings: Any) -> Any:
    """Run a test on those stores, with these settings."""
    return pytest.mark.parametrize('app', [pytest.param((name, settings), id=name) for name in stores], indirect=True)


@pytest.fixture
def folder_broker(tmp_path: Path) -> str:
    """URL of a broker that processes share without a server. Its folders are options of the transport."""
    for name in ('messages', 'processed', 'control'):
        (tmp_path / name).mkdir(exist_ok=True)
    return 'filesystem://'


@pytest.fixture
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """The settings of an app with a store of that name."""

    def settings_of(name: str) -> dict[str, Any]:
        settings: dict[str, Any] = {'result_backend': request.getfixturevalue(f'{name}_url')}
        if name == 'rpc':
            return {**settings, 'broker_url': request.getfixturevalue('broker_url')}
        folders = {'data_folder_in': f'{tmp_path}/messages', 'data_folder_out': f'{tmp_path}/messages',
                   'processed_folder': f'{tmp_path}/processed', 'control_folder': f'{tmp_path}/control'}
        return {**settings, 'broker_url': request.getfixturevalue('folder_broker'), 'broker_transport_options': folders}

    return settings_of


@pytest.fixture
def make_app(request: pytest.FixtureRequest, close_later: Callable[[Any], Any]) -> Callable[..., Any]:
    """Make another app on the store of `app`; keyword arguments are settings."""
    def make(**settings: Any) -> Any:
        given = {**request.getfixturevalue('app').given, **settings}
        return close_later(Celery('contract', set_as_current=False, changes=given))
    return make


@pytest.fixture
def app(request: pytest.FixtureRequest, store_settings: Callable[[str], dict[str, Any]]) -> Iterator[Any]:
    """An app on a store: the parameter is ``(name of the store, settings)``."""
    name, settings = request.param
    given = {**store_settings(name), **settings}
    app = Celery('contract', set_as_current=False, changes=given)
    app.given = given
    app.store = name
    app.set_current()
    yield app
    app.close()
    cache.memory.chords.clear()  # one for all apps of this process


@pytest.fixture
def request_of(app: Any) -> Callable[..., Context]:
    """Make the request of a task that this thread has sent."""

    def make(task_id: str, **values: Any) -> Context:
        return Context(id=task_id, reply_to=app.thread_oid, correlation_id=task_id, **values)

    return make


@pytest.fixture
def sent(app: Any) -> Callable[..., str]:
    """Pretend to send a task: prepare what the store prepares then; return the task's id."""

    def send() -> str:
        task_id = str(uuid.uuid4())
        app.backend.on_task_call(None, task_id)
        return task_id

    return send
