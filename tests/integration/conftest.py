"""The app of tests/apps/proj.py in this process, on servers of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.fixtures import load_app
from tests.integration.proxy import Proxy
from tests.integration.wires import Wire


@pytest.fixture
def servers(broker_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Environment that names RabbitMQ as broker and Redis as backend."""
    env = {'BROKER': broker_url, 'BACKEND': redis_url}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def project(servers: dict[str, str]) -> ModuleType:
    """The project's module; a fresh app for each test."""
    return load_app('proj')


@pytest.fixture
def start_project_worker(servers: dict[str, str], start_worker: Callable[..., Any]) -> Callable[..., Any]:
    """Start a worker of the project with these options; two children and INFO unless they say otherwise."""

    def start(*options: str, **env: str) -> Any:
        return start_worker('proj', '-c', '2', '-l', 'INFO', *options, **{**servers, **env})

    return start


@pytest.fixture
def tasks(servers: dict[str, str]) -> ModuleType:
    """The tasks of tests/apps/fragile.py; a fresh app for each test."""
    return load_app('fragile')


@pytest.fixture
def start(servers: dict[str, str], start_worker: Callable[..., Any]) -> Callable[..., Any]:
    """Start a worker of those tasks: two processes, unless the options say otherwise."""

    def start(*options: str, **env: str) -> Any:
        return start_worker('fragile', '-c', '2', '-l', 'INFO', *options, **{**servers, **env})

    return start


@pytest.fixture
def proxy(broker_url: str) -> Iterator[Proxy]:
    """A way to the broker of `broker_url` on which connections can be broken."""
    with Proxy(broker_url) as proxy:
        yield proxy


@pytest.fixture
def wire(rabbitmq_proc: Any) -> Iterator[Wire]:
    wire = Wire(rabbitmq_proc.port)
    yield wire
    wire.cut()


@pytest.fixture
def wired(servers: dict[str, str], wire: Wire, rabbitmq_proc: Any) -> dict[str, str]:
    """The environment of a worker that reaches its broker through the wire."""
    return {'BROKER': servers['BROKER'].replace(f':{rabbitmq_proc.port}/', f':{wire.port}/')}
