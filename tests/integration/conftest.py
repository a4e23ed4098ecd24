"""The app of tests/apps/proj.py in this process, on servers of the test's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from tests.fixtures import APPS


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
    spec = importlib.util.spec_from_file_location('proj', APPS / 'proj.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def start_project_worker(servers: dict[str, str], start_worker: Callable[..., Any]) -> Callable[..., Any]:
    """Start a worker of the project with these options; two children and INFO unless they say otherwise."""

    def start(*options: str, **env: str) -> Any:
        return start_worker('proj', '-c', '2', '-l', 'INFO', *options, **{**servers, **env})

    return start
