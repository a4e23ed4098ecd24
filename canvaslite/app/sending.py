"""Sending a task by its name: ``app.send_task``."""

from __future__ import annotations

import warnings
from typing import Any

from canvaslite.exceptions import AlwaysEagerIgnored
from canvaslite.utils.callers import user_stacklevel
from canvaslite.utils.uuid import uuid

__all__ = ('send_by_name',)


def send_by_name(app: Any, name: str, args: Any, kwargs: Any, options: dict[str, Any], producer: Any = None,
                 router: Any = None, route_name: str | None = None, result_cls: Any = None,
                 add_to_parent: bool = True) -> Any:
    """Send the task called `name`, which need not be known here; returns its result. `options` as of `apply_async`.

    A task of that name in the app's registry gives the options that are not given; the app is not finalized for it.
    """
    if app.conf.task_always_eager:
        warnings.warn(AlwaysEagerIgnored('task_always_eager has no effect on send_task'), stacklevel=user_stacklevel())
    task = app._tasks.get(name)
    if task is not None:
        options = {**task._get_exec_options(), **options}
    if router is not None or route_name is not None:
        options = (router or app.amqp.router).route(options, route_name or name, args, kwargs, task)
    options['task_id'] = task_id = options.get('task_id') or uuid()
    ignored = options.get('ignore_result')
    if not ignored:
        app.backend.on_task_call(producer, task_id)
    app.publisher.publish(name, args, kwargs, options, task=task, producer=producer)
    result = (result_cls or app.AsyncResult)(task_id)
    result.ignored = ignored
    parent = app.current_worker_task if add_to_parent else None
    if parent is not None:
        parent.add_trail(result)
    return result
