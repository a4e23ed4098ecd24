"""Which app and which task are current, and `App`: what the rooms below ``app`` may use of an application.

The default app is the one set last with `set_default_app` (or made first); the current app is per thread.
"""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import datetime, tzinfo
from typing import Any, Protocol

from canvaslite.context import RunStack
from canvaslite.utils.imports import symbol_by_name
from canvaslite.utils.proxies import Proxy


class App(Protocol):
    """What canvas, results, backends, publishing and execution use of ``app.application.Celery``."""

    main: str | None
    conf: Any
    tasks: Any
    backend: Any
    publisher: Any
    amqp: Any
    control: Any
    AsyncResult: Any
    GroupResult: Any
    ResultSet: Any
    Task: Any
    timezone: tzinfo
    current_task: Any
    current_worker_task: Any
    oid: str
    thread_oid: str

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
_finalizers: list[Callable[[Any], Any]] = []
_apps: weakref.WeakSet[Any] = weakref.WeakSet()
_apps_lock = threading.Lock()

#: Class of the app that is made for code that needs one before any was made, and its configuration module if there is
#: one. By name, because the class is on a floor above.
FALLBACK_APP_CLASS = 'canvaslite.app.application:Celery'
FALLBACK_CONFIG_MODULE = 'celeryconfig'

#: Tasks running in this thread, the innermost last.
task_stack = RunStack()


def set_current_app(app: Any) -> None:
    """Make `app` this thread's current app."""
    _current.app = app


def set_default_app(app: Any) -> None:
    """Make `app` the one used where no other is current."""
    _default[0] = app


def thread_app() -> Any:
    """This thread's current app, or None."""
    return _current.app


def default_app() -> Any:
    """The default app, or None."""
    return _default[0]


def get_current_app() -> Any:
    """The current app: this thread's, else the default one, else one made on the spot."""
    app = _current.app if _current.app is not None else _default[0]
    return app if app is not None else _make_fallback_app()


def _make_fallback_app() -> Any:
    application = symbol_by_name(FALLBACK_APP_CLASS)
    with _apps_lock:
        if _default[0] is None:
            module = os.environ.get('CELERY_CONFIG_MODULE')
            _default[0] = application('default', set_as_current=False, config_source=module or FALLBACK_CONFIG_MODULE,
                                      config_source_silent=not module)
    return _default[0]


def app_or_default(app: Any = None) -> Any:
    """`app`, or the current app where it is None."""
    return app if app is not None else get_current_app()


app_or_current = app_or_default


def register_app(app: Any) -> None:
    """Have `app` among the `active_apps` as long as it lives."""
    _apps.add(app)


def deregister_app(app: Any) -> None:
    """Take `app` out of the `active_apps`."""
    _apps.discard(app)


def active_apps() -> tuple[Any, ...]:
    """All apps of this process that were not closed."""
    return tuple(_apps)


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


#: The current app, and the task that runs, looked up on each use.
current_app: Any = Proxy(get_current_app)
current_task: Any = Proxy(get_current_task)

#: Tells this machine's processes from those of others, in `make_oid`.
_NODE = uuid.uuid4().int


def make_oid(entity: Any, threads: bool = True) -> str:
    """A UUID that is this process's (and thread's) own for `entity`, and the same whenever it is asked for."""
    name = f'{_NODE:x}-{os.getpid():x}-{threading.get_ident() if threads else 0:x}-{id(entity):x}'
    return str(uuid.uuid3(uuid.NAMESPACE_OID, name))
