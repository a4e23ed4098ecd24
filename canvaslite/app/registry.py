"""`TaskRegistry`: the tasks of an app by name, as ``app.tasks``."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from canvaslite.current import get_current_app
from canvaslite.exceptions import InvalidTaskError, NotRegistered

__all__ = ('TaskRegistry',)


class TaskRegistry(dict[str, Any]):
    """Tasks by name."""

    NotRegistered = NotRegistered

    def __missing__(self, name: str) -> Any:
        raise self.NotRegistered(name)

    def register(self, task: Any) -> None:
        """Add a task; a class is instantiated first.

        Raises:
            InvalidTaskError: the task has no name.
        """
        task = task() if inspect.isclass(task) else task
        if task.name is None:
            raise InvalidTaskError(f'Task class {type(task).__name__!r} must specify .name attribute')
        self[task.name] = task

    def unregister(self, name: Any) -> None:
        """Remove a task, given itself or its name.

        Raises:
            NotRegistered: there is no such task.
        """
        try:
            self.pop(getattr(name, 'name', name))
        except KeyError:
            raise self.NotRegistered(name) from None


def restore_task(name: str, module: str | None = None) -> Any:
    """The current app's task of that name: what a pickled task is unpickled with."""
    if module:
        import_module(module)
    return get_current_app().tasks[name]
