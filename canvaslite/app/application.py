"""`Celery`: the application, which everything else is asked from."""

from __future__ import annotations

import os
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from importlib.metadata import version
from operator import attrgetter
from types import GenericAlias, ModuleType
from typing import TYPE_CHECKING, Any

from canvaslite import current, signals
from canvaslite.app import sources
from canvaslite.app.builtins import add_builtin_tasks
from canvaslite.app.declare import TaskRegistry, declare_task, generate_task_name, make_task, register_task
from canvaslite.app.discovery import autodiscover_tasks
from canvaslite.app.services import Services
from canvaslite.app.settings import Settings
from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.signals import Signal
from canvaslite.utils.functional import head_from_fun, maybe_list
from canvaslite.utils.imports import import_from_cwd, symbol_by_name
from canvaslite.utils.proxies import maybe_evaluate
from canvaslite.utils.redact import censor
from canvaslite.version import __version__

if TYPE_CHECKING:
    from canvaslite.app.decorators import TaskDecorator


class Celery(Services):
    """An application: its tasks, its configuration, and the way to its broker and result store.

    `main` stands for ``__main__`` in the names of tasks declared in a script. `broker`, `backend`, `include`, `changes`
    (a mapping) and whatever else is given by name are settings; `config_source` and `namespace` are as for
    `config_from_object`. `set_as_current` makes it this thread's current app; without `autofinalize` its tasks may not
    be used before `finalize`. `tasks` is a registry, or a mapping to make one from, `task_cls` the base class of tasks.
    With `strict_typing` arguments are checked against a task's signature before it is sent. `loader` and `fixups` are
    accepted for compatibility and change nothing.
    """

    main: str | None = None
    #: Base class of tasks and class of their registry, or their names; a subclass may set its own.
    task_cls: Any = 'canvaslite.app.task:Task'
    registry_cls: Any = TaskRegistry

    #: Sent (or, in a subclass, called) before the configuration is read.
    on_configure: Any = None

    def __init__(self, main: str | None = None, loader: Any = None, backend: Any = None, amqp: Any = None,
                 events: Any = None, log: Any = None, control: Any = None, set_as_current: bool = True,
                 tasks: Mapping[str, Any] | None = None, broker: Any = None, include: Iterable[str] | None = None,
                 changes: Mapping[str, Any] | None = None, config_source: Any = None, fixups: Any = None,
                 task_cls: Any = None, autofinalize: bool = True, namespace: str | None = None,
                 strict_typing: bool = True, config_source_silent: bool = False, **settings: Any) -> None:
        super().__init__()
        self.main = main
        self.amqp_cls = amqp or self.amqp_cls
        self.log_cls = log or self.log_cls
        self.control_cls = control or self.control_cls
        self.task_cls = task_cls or self.task_cls
        self.set_as_current = set_as_current
        self.autofinalize = autofinalize
        self.strict_typing = strict_typing
        #: Options that programs add to commands, and bootsteps that they add to the worker.
        self.user_options: defaultdict[str, set[Any]] = defaultdict(set)
        self.steps: defaultdict[str, set[Any]] = defaultdict(set)
        self._prepare_configuration(config_source, config_source_silent, namespace)
        given = {'broker_url': broker, 'result_backend': backend, 'include': include, **settings}
        self.conf.update({**(changes or {}), **{name: value for name, value in given.items() if value is not None}})
        self._prepare_tasks(tasks)
        if set_as_current:
            self.set_current()
            if current.default_app() is None:
                self.set_default()  # for the other threads
        self.on_init()
        current.register_app(self)

    def _prepare_configuration(self, source: Any, silent: bool, namespace: str | None) -> None:
        self.namespace = namespace
        self._config_source = source
        self._config_source_silent = silent
        self._pending_defaults: deque[Callable[[], Mapping[str, Any]]] = deque()
        self._pending_periodic_tasks: dict[str, dict[str, Any]] = {}
        self._preconf: dict[str, Any] = {}
        #: The settings; read when one of them is first asked for.
        self.conf = Settings(self._load_config, self._configure, namespace)
        self.on_configure = self.on_configure or Signal(name='app.on_configure')
        self.on_after_configure = Signal({'source'}, name='app.on_after_configure')
        self.on_after_finalize = Signal(name='app.on_after_finalize')
        self.on_after_fork = Signal(name='app.on_after_fork')

    def _prepare_tasks(self, tasks: Mapping[str, Any] | None) -> None:
        self._tasks = tasks if isinstance(tasks, TaskRegistry) else symbol_by_name(self.registry_cls)(tasks or {})
        self._pending: deque[Any] = deque()
        self.finalized = False
        #: Becomes true after `finalized`: between the two another thread would not see all tasks.
        self._tasks_are_made = False
        self._finalize_mutex = threading.RLock()
        #: Task names of which it was said already that they are given twice.
        self.duplicate_names: set[str] = set()

    def on_init(self) -> None:
        """Called at the end of the constructor; for subclasses."""

    # -- current app --------------------------------------------------------------------------------------

    def set_current(self) -> None:
        """Make this the current app of this thread."""
        current.set_current_app(self)

    def set_default(self) -> None:
        """Make this the current app wherever no other is."""
        current.set_default_app(self)

    #: The task that runs in this thread, or None; the second never one that was called as a function.
    current_task: Any = property(lambda self: current.get_current_task())
    current_worker_task: Any = property(lambda self: current.get_current_worker_task())

    # -- tasks --------------------------------------------------------------------------------------------

    if TYPE_CHECKING:
        task: TaskDecorator
    else:
        def task(self, *args: Any, **options: Any) -> Any:
            """Declare a task: ``@app.task`` or ``@app.task(name=..., bind=True, ...)``.

            `options` become attributes of the task; `shared=False` keeps it from other apps, `lazy=False` makes it at
            once, `base` is its class, `filter` is applied to what is returned.
            """
            if len(args) == 1 and callable(args[0]):
                return declare_task(self, args[0], **options)
            if args:
                raise TypeError(f'@task() takes a function, or options by name; got {args[0]!r}')
            return partial(declare_task, self, **options)

    register_task, gen_task_name, _task_from_fun = register_task, generate_task_name, make_task

    def type_checker(self, fun: Callable[..., Any], bound: bool = False) -> Any:
        """What a task's arguments are checked with: raises `TypeError` if they do not fit."""
        return staticmethod(head_from_fun(fun, bound=bound))

    @property
    def tasks(self) -> TaskRegistry:
        """The tasks by name. Finalizes the app."""
        if not self._tasks_are_made:
            self.finalize(auto=True)
        return self._tasks

    def finalize(self, auto: bool = False) -> None:
        """Make all declared, built-in and shared tasks; with `auto` and ``autofinalize=False`` raise `RuntimeError`."""
        with self._finalize_mutex:
            if self.finalized:
                return
            if auto and not self.autofinalize:
                raise RuntimeError('the app is not finalized; call app.finalize() before its tasks are used')
            self.finalized = True
            try:
                self._make_declared_tasks()
            except BaseException:
                self.finalized = False
                raise
            self._tasks_are_made = True
            self.on_after_finalize.send(sender=self)

    def _make_declared_tasks(self) -> None:
        while self._pending:
            maybe_evaluate(self._pending[0])
            self._pending.popleft()
        add_builtin_tasks(self)
        for declare_for in current.app_finalizers():
            declare_for(self)
        for task in tuple(self._tasks.values()):
            task.bind(self)

    @cached_property
    def Task(self) -> Any:
        """Base class of this app's tasks."""
        return self.subclass_with_self(self.task_cls, name='Task', attribute='_app', keep_reduce=True, abstract=True)

    # -- configuration ------------------------------------------------------------------------------------

    #: Whether the configuration was read.
    configured: Any = property(attrgetter('conf.loaded'))

    def config_from_object(self, obj: Any, silent: bool = False, force: bool = False,
                           namespace: str | None = None) -> Any:
        """Take the configuration from `obj`: an object, a mapping, or the name of a module or of something in one.

        It is read when a setting is first needed, at once with `force` or if another was read already. With
        `namespace` its settings are those called ``NAMESPACE_...``. With `silent` a missing module is no error.
        """
        self._config_source = obj
        self._config_source_silent = silent
        self.namespace = namespace or self.namespace
        self.conf.set_namespace(self.namespace)
        if not force and not self.configured:
            return None
        if silent and not sources.read_source(obj, self.namespace, silent=True):
            return None
        if self.configured:
            self.conf.forget_source(self._preconf)
        return self.conf.finalize()

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> Any:
        """As `config_from_object`, with the module that a variable names: that it is not set is an error, or `silent`.
        """
        module = os.environ.get(variable_name)
        if not module and not silent:
            raise ImproperlyConfigured(f'environment variable {variable_name!r} is not set: it must name the '
                                       f'configuration module, as in {variable_name}=proj.celeryconfig')
        return self.config_from_object(module, silent=silent, force=force) if module else False

    def add_defaults(self, fun: Any) -> None:
        """Add defaults: a mapping, or a function that returns one and is called when the configuration is read."""
        if self.configured:
            self.conf.add_defaults(fun() if callable(fun) else fun)
        else:
            self._pending_defaults.append(fun if callable(fun) else lambda: fun)

    def prepare_config(self, c: Any) -> Any:
        """What the configuration source says, before it is merged; for subclasses."""
        return c

    def _load_config(self) -> Mapping[str, Any]:
        if isinstance(self.on_configure, Signal):
            self.on_configure.send(sender=self)
        else:
            self.on_configure()
        self._preconf = dict(self.conf.changes)
        if self._config_source:
            found = sources.read_source(self._config_source, self.namespace, self._config_source_silent)
        else:
            found = sources.read_environment_module()
        return self.prepare_config(found) or {}

    def _configure(self) -> None:
        """Do what waited for the configuration."""
        while self._pending_defaults:
            self.conf.add_defaults(self._pending_defaults.popleft()())
        self.conf.beat_schedule.update(self._pending_periodic_tasks)
        self.on_after_configure.send(sender=self, source=self.conf)

    def add_periodic_task(self, schedule: Any, sig: Any, args: Any = (), kwargs: Any = None, name: str | None = None,
                          **options: Any) -> str:
        """Add an entry to the schedule; returns its name, which is that of the call where none is given."""
        args, kwargs = args or (), dict(kwargs or {})
        sig = sig.clone(args, kwargs) if hasattr(sig, 'clone') else self.signature(sig.name, args, kwargs)
        name = name or repr(sig)
        entry = {'schedule': schedule, 'task': sig.name, 'args': sig.args, 'kwargs': sig.kwargs,
                 'options': {**sig.options, **options}}
        if self.configured:
            self.conf.beat_schedule[name] = entry
        else:
            self._pending_periodic_tasks[name] = entry
        return name

    def autodiscover_tasks(self, packages: Any = None, related_name: str | None = 'tasks', force: bool = False) -> Any:
        """Import `related_name` of all `packages` (or what they return) when a worker imports; with `force` now."""
        discovery = partial(autodiscover_tasks, packages, related_name)
        if force:
            return discovery()
        signals.import_modules.connect(discovery, sender=self, weak=False)
        return None

    def import_default_modules(self) -> list[Any]:
        """Import what `imports` and `include` name and what was to be discovered; what a worker begins with.
        Returns the modules."""
        found: list[Any] = []
        for _, outcome in signals.import_modules.send(sender=self):
            if isinstance(outcome, Exception):
                raise outcome
            if isinstance(outcome, list):  # of modules; a receiver of the user's may return anything
                found += [module for module in outcome if isinstance(module, ModuleType)]
        names = (*maybe_list(self.conf.imports or ()), *maybe_list(self.conf.include or ()))
        return found + [import_from_cwd(name) for name in names]

    # -- the app as an object -----------------------------------------------------------------------------

    def bugreport(self) -> str:
        """What a bug report should say: versions, platform, and the settings, secrets masked."""
        versions = (f'{name}:{version(name)}' for name in ('kombu', 'billiard', 'amqp'))
        return '\n'.join((
            f'software -> canvaslite:{__version__} {" ".join(versions)} py:{sys.version.split()[0]}',
            f'platform -> {" ".join(os.uname()[::2])} imp:{sys.implementation.name}',
            f'settings -> broker:{censor(self.conf.broker_url)} results:{censor(self.conf.result_backend)}',
            self.conf.humanize()))

    __class_getitem__: Any = classmethod(GenericAlias)

    def __enter__(self) -> Celery:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.main or "__main__"} at {id(self):#x}>'

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), set_as_current=False, **self.__reduce_keys__()), ()

    def __reduce_keys__(self) -> dict[str, Any]:
        """Arguments of the constructor that make an equal app; for subclasses."""
        return {'main': self.main, 'changes': dict(self.conf.changes), 'amqp': self.amqp_cls, 'log': self.log_cls,
                'control': self.control_cls, 'config_source': self._config_source, 'task_cls': self.task_cls,
                'config_source_silent': self._config_source_silent, 'namespace': self.namespace}


def bugreport(app: Any = None) -> str:
    """`Celery.bugreport` of `app`, or of the current one."""
    return str(current.app_or_default(app).bugreport())

