"""Apps for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from canvaslite import current
from canvaslite.app.application import Celery
from canvaslite.app.log import Logging
from canvaslite.contrib.testing import tasks as tasks  # every app for tests has its tasks

#: Settings of an app for tests, where it is given no others: nothing leaves the process.
DEFAULT_TEST_CONFIG = {
    'broker_url': 'memory://', 'broker_heartbeat': 0, 'result_backend': 'cache+memory://', 'accept_content': {'json'},
    'timezone': 'UTC', 'enable_utc': True, 'worker_hijack_root_logger': False, 'worker_log_color': False,
}


class Trap:
    """Stands for the current app where none is to be used: raises `RuntimeError` for whatever it is asked."""

    def __getattr__(self, name: str) -> None:
        if name not in ('_is_coroutine', '__func__'):  # which unittest.mock asks for
            raise RuntimeError('Test depends on current_app')


class UnitLogging(Logging):
    """Sets up no logging: the test tool has its own."""

    already_setup = True


def TestApp(name: str | None = None, config: Mapping[str, Any] | None = None, enable_logging: bool = False,
            set_as_current: bool = False, log: Any = UnitLogging, backend: Any = None, broker: Any = None,
            **options: Any) -> Any:
    """An app with `DEFAULT_TEST_CONFIG` and `config`; the rest as for `Celery`."""
    app = Celery(name or 'celery.tests', set_as_current=set_as_current, log=None if enable_logging else log,
                 broker=broker, backend=backend, **options)
    app.add_defaults({**DEFAULT_TEST_CONFIG, **(config or {})})
    return app


TestApp.__test__ = False  # type: ignore[attr-defined]  # pytest, it is no test


@contextmanager
def set_trap(app: Any) -> Iterator[None]:
    """Within ``with``: whoever asks for the current or default app gets an error."""
    with setup_default_app(None, use_trap=True):
        yield


@contextmanager
def setup_default_app(app: Any, use_trap: bool = False) -> Iterator[None]:
    """Within ``with`` the test may choose other current and default apps; then `app` is closed and all is as it was.

    With `use_trap` the current app is a `Trap` until the test sets another.
    """
    before, default = current.thread_app(), current.default_app()
    if use_trap:
        current.set_current_app(Trap())
        current.set_default_app(Trap())
    try:
        yield
    finally:
        current.set_default_app(default)
        current.set_current_app(before)
        if app is not None and app is not before:
            app.close()
