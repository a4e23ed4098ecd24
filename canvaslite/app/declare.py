"""Declaring tasks: from a function, from a class, and for all apps at once.

``@app.task`` and ``@shared_task`` return proxies: the task itself is made when it is used, or when the app is
finalized, so that modules with tasks can be imported before the app is configured.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from canvaslite.app.models import Models
from canvaslite.app.retry import add_autoretry_behaviour
from canvaslite.current import active_apps, connect_on_app_finalize, get_current_app
from canvaslite.exceptions import DuplicateTaskNameWarning, ImproperlyConfigured, InvalidTaskError, NotRegistered
from canvaslite.utils.functional import user_stacklevel
from canvaslite.utils.imports import qualname
from canvaslite.utils.proxies import PromiseProxy, Proxy

if TYPE_CHECKING:
    from canvaslite.app.decorators import TaskDecorator


def generate_task_name(app: Any, name: str, module: str | None) -> str:
    """The name of a task that has none: ``module.name``; in a script ``main.name``, `main` being the app's argument."""
    module = getattr(sys.modules.get(module or '__main__'), '__name__', module or '__main__')
    return f'{app.main if module == "__main__" and app.main else module}.{name}'


def declare_task(app: Any, fun: Callable[..., Any], /, shared: bool = True, filter: Callable[[Any], Any] | None = None,
                 lazy: bool = True, **options: Any) -> Any:
    """What ``@app.task(...)`` does with a function; for the arguments see `Celery.task`."""
    if shared:
        connect_on_app_finalize(SharedDeclaration(fun, options, of_an_app=True))
    task: Any
    if lazy and not app.finalized:
        task = PromiseProxy(app._task_from_fun, (fun,), options)
        app._pending.append(task)
    else:
        task = app._task_from_fun(fun, **options)
    return filter(task) if filter else task


class TaskRegistry(dict[str, Any]):
    """Tasks by name, as ``app.tasks``."""

    NotRegistered = NotRegistered

    def __missing__(self, name: str) -> Any:
        raise self.NotRegistered(name)

    def register(self, task: Any) -> None:
        """Add a task; a class is instantiated first. Raises `InvalidTaskError` where it has no name."""
        task = task() if inspect.isclass(task) else task
        if task.name is None:
            raise InvalidTaskError(f'Task class {type(task).__name__!r} must specify .name attribute')
        add_autoretry_behaviour(task)
        self[task.name] = task

    def unregister(self, name: Any) -> None:
        """Remove a task, given itself or its name. Raises `NotRegistered` where there is none."""
        name = getattr(name, 'name', name)
        if self.pop(name, None) is None:
            raise self.NotRegistered(name)


class SharedDeclaration:
    """Makes its task for each app that is finalized; one `of_an_app` is made by that app anyway."""

    def __init__(self, fun: Callable[..., Any], options: dict[str, Any], of_an_app: bool = False) -> None:
        self.fun = fun
        self.options = options
        self.of_an_app = of_an_app

    def name_for(self, app: Any) -> str:
        return self.options.get('name') or app.gen_task_name(self.fun.__name__, self.fun.__module__)

    def __call__(self, app: Any) -> Any:
        # An app's own tasks are made first, and those of another app's modules never take their names.
        if self.of_an_app and self.name_for(app) in app._tasks:
            return app._tasks[self.name_for(app)]
        return app._task_from_fun(self.fun, **self.options)

    def find(self) -> Any:
        """The current app's task."""
        app = get_current_app()
        return app.tasks[self.name_for(app)]


def reload_module(app: Any, module: ModuleType) -> None:
    """Import `module` again, and have its tasks be those of the app in place of what they were.

    When that fails they stay as they were. Raises what the import raises, and `ImproperlyConfigured` where the module
    makes the app itself.
    """
    held = {name for name, value in vars(module).items() if value is app}
    before = {name: task for name, task in app.tasks.items() if task.__module__ == module.__name__}
    for name in before:
        del app.tasks[name]
    try:
        importlib.reload(module)
        if any(vars(module).get(name) is not app for name in held):
            for name in held:
                setattr(module, name, app)
            app.set_current()
            app.set_default()
            raise ImproperlyConfigured(f'{module.__name__} makes the app itself: restart the worker to change that')
    except BaseException:
        app.tasks.update(before)
        raise


if TYPE_CHECKING:
    shared_task: TaskDecorator
else:
    def shared_task(*args: Any, **options: Any) -> Any:
        """Declare a task of every app, of those made later too; returns a proxy of the current app's task. Raises
        `TypeError` where the decorator was applied twice to one function."""
        if len(args) == 1 and callable(args[0]):
            return _share(args[0], **options)
        return partial(_share, **options)


def _share(fun: Any, /, **options: Any) -> Any:
    if type(fun) is Proxy:
        raise TypeError('@shared_task was applied more than once to the same function; remove one of the two')
    declaration = SharedDeclaration(fun, options)
    connect_on_app_finalize(declaration)
    for app in active_apps():
        if app.finalized:
            with app._finalize_mutex:
                declaration(app)
    return Proxy(declaration.find)


def make_task(app: Any, fun: Callable[..., Any], name: str | None = None, base: Any = None, bind: bool = False,
              **options: Any) -> Any:
    """The app's task of that name, made of `fun` if new. Raises `RuntimeError` before `finalize` if
    ``autofinalize=False``."""
    if not app.finalized and not app.autofinalize:
        raise RuntimeError('the app is not finalized; call app.finalize() before its tasks are used')
    name = name or app.gen_task_name(fun.__name__, fun.__module__)
    if name in app._tasks:
        task = app._tasks[name]
        if getattr(task, '_decorated_fun', fun) is not fun:
            _warn_of_duplicate(app, name, task, qualname(fun), 'The first one stays.')
        return task
    task = _task_class(app, fun, name, base or app.Task, bind, options)()
    if hasattr(fun, '__qualname__'):
        task.__qualname__ = fun.__qualname__  # of the class it would not be seen on the task
    app._tasks[name] = task
    task.bind(app)
    add_autoretry_behaviour(task, **options)
    return task


def _task_class(app: Any, fun: Callable[..., Any], name: str, base: type, bind: bool, options: dict[str, Any]) -> type:
    how = [options.pop(f'pydantic_{option}', None) for option in ('strict', 'context', 'dump_kwargs')]
    models: Any = Models(app, fun, name, bind, *how) if options.pop('pydantic', False) else None
    run: Any = models or fun
    run = run if bind else staticmethod(run)
    return type(fun.__name__, (base,), {
        'app': app, 'name': name, 'run': run, '__header__': app.type_checker(fun, bound=bind),
        '__doc__': fun.__doc__, '__module__': fun.__module__, '__wrapped__': run,
        '__annotations__': getattr(fun, '__annotations__', {}), '_decorated_fun': staticmethod(fun),
        '_models': staticmethod(models), **options,
    })


def register_task(app: Any, task: Any, **options: Any) -> Any:
    """Add a task that is an instance of a class, or that class; returns the instance."""
    task = task() if inspect.isclass(task) else task
    if not task.name:
        task.name = app.gen_task_name(type(task).__name__, type(task).__module__)
    existing = app.tasks.get(task.name)
    if existing is not None and existing is not task:
        _warn_of_duplicate(app, task.name, existing, _describe(task), 'It is replaced by the new one.')
    add_autoretry_behaviour(task, **options)
    app.tasks[task.name] = task
    task._app = app
    task.bind(app)
    return task


def _warn_of_duplicate(app: Any, name: str, existing: Any, new: str, consequence: str) -> None:
    """Once for each name: a module that is imported under two names would repeat it for each of its tasks."""
    if name not in app.duplicate_names:
        app.duplicate_names.add(name)
        warnings.warn(DuplicateTaskNameWarning(
            f'Task name {name!r} is already registered to {_describe(existing)}, now also given to {new}. '
            f'{consequence} Give one of them another name with name=.'), stacklevel=user_stacklevel())


def _describe(task: Any) -> str:
    return qualname(getattr(task, '_decorated_fun', None) or type(task))
