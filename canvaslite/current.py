"""Which app and which task are current, and `App`: what the rooms below ``app`` may use of an application.

The default app is the one set last with `set_default_app` (or made first); the current app is per thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, tzinfo
from typing import Any, Protocol

from canvaslite.context import RunStack


class App(Protocol):
    """What canvas, results, backends, publishing and execution use of ``app.application.Celery``."""

    main: str | None

    @property
    def conf(self) -> Any: ...
    @property
    def tasks(self) -> Mapping[str, Any]: ...
    @property
    def backend(self) -> Any: ...
    @property
    def publisher(self) -> Any: ...
    @property
    def amqp(self) -> Any: ...
    @property
    def control(self) -> Any: ...
    @property
    def AsyncResult(self) -> Any: ...
    @property
    def GroupResult(self) -> Any: ...
    @property
    def ResultSet(self) -> Any: ...
    @property
    def Task(self) -> Any: ...
    @property
    def timezone(self) -> tzinfo: ...
    @property
    def current_task(self) -> Any: ...
    @property
    def current_worker_task(self) -> Any: ...
    @property
    def oid(self) -> str: ...
    @property
    def thread_oid(self) -> str: ...

    def now(self) -> datetime: ...
    def uses_utc_timezone(self) -> bool: ...
    def finalize(self, auto: bool = False) -> None: ...
    def signature(self, *args: Any, **kwargs: Any) -> Any: ...
    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any: ...
    def connection_for_read(self, url: str | None = None, **kwargs: Any) -> Any: ...
    def connection_for_write(self, url: str | None = None, **kwargs: Any) -> Any: ...
    def producer_or_acquire(self, producer: Any = None) -> AbstractContextManager[Any]: ...


class _Current(threading.local):
    app: Any = None


_current = _Current()
_default: list[Any] = [None]
_fallback: list[Callable[[], Any]] = []
_finalizers: list[Callable[[Any], Any]] = []
_apps_lock = threading.Lock()

#: Tasks running in this thread, the innermost last.
task_stack = RunStack()


def set_current_app(app: Any) -> None:
    """Make `app` this thread's current app."""
    _current.app = app


def set_default_app(app: Any) -> None:
    """Make `app` the one used where no other is current."""
    _default[0] = app


def set_fallback_app_factory(factory: Callable[[], Any]) -> None:
    """Tell how to make an app for code that needs one before any was made."""
    _fallback[:] = [factory]


def default_app() -> Any:
    """The default app, or None."""
    return _default[0]


def get_current_app() -> Any:
    """The current app: this thread's, else the default one, else one made on the spot."""
    app = _current.app or _default[0]
    if app is not None:
        return app
    with _apps_lock:
        if _default[0] is None:
            _default[0] = _fallback[0]()
    return _default[0]


def app_or_current(app: Any = None) -> Any:
    return app if app is not None else get_current_app()


def get_current_task() -> Any:
    """The task running in this thread, however it was called, or None."""
    return task_stack.top


def get_current_worker_task() -> Any:
    """The task a worker (or `Task.apply`) runs in this thread: never one that was called as a plain function."""
    for task in reversed(task_stack.stack):
        if not task.request.called_directly:
            return task
    return None


def connect_on_app_finalize(callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Call `callback(app)` for each app when it is finalized: how built-in and shared tasks reach every app."""
    _finalizers.append(callback)
    return callback


def app_finalizers() -> Iterable[Callable[[Any], Any]]:
    return tuple(_finalizers)


_origin: list[str] = []


def origin(nodename: Callable[[], str]) -> str:
    """``pid@host`` of this process, computed once per process."""
    if not _origin:
        _origin.append(f'{os.getpid()}@{nodename()}')
        os.register_at_fork(after_in_child=_origin.clear)
    return _origin[0]
