"""Running a task in the caller's process, through the same steps as in a worker."""

from __future__ import annotations

from typing import Any

from kombu import serialization

from canvaslite import states
from canvaslite.backends.codec import get_pickleable_exception
from canvaslite.context import Context
from canvaslite.current import task_stack
from canvaslite.exceptions import Retry
from canvaslite.execution.run import STATE_OF, PreparedTask, Run
from canvaslite.execution.tracer import trace
from canvaslite.result import EagerResult, denied_join_result
from canvaslite.utils.functional import maybe_list
from canvaslite.utils.nodenames import gethostname
from canvaslite.utils.uuid import uuid


def apply_locally(task: Any, args: Any = None, kwargs: Any = None, *, throw: bool | None = None,
                  retries: int | None = None, **options: Any) -> EagerResult:
    """`Task.apply`. A retry is applied again at once, without its delay."""
    app = task._get_app()
    registered = app.tasks[task.name]
    request = make_request(task, args, kwargs, retries or 0, options)
    propagate = app.conf.task_eager_propagates if throw is None else throw
    outcome = trace(Run(PreparedTask(registered, app), request, eager=True, propagate=propagate))
    if isinstance(outcome.value, Retry) and outcome.value.sig is not None:
        again: EagerResult = outcome.value.sig.apply(retries=(retries or 0) + 1)
        return again
    state = STATE_OF[outcome.kind] or states.FAILURE
    value = get_pickleable_exception(outcome.value) if state == states.FAILURE else outcome.value
    return EagerResult(str(request.id), value, state, traceback=outcome.traceback, name=task.name)


def apply_through_serializer(task: Any, app: Any, args: Any, kwargs: Any, task_id: str | None = None,
                             **options: Any) -> EagerResult:
    """`Task.apply_async` with ``task_always_eager``: the arguments are written and read as a message's would be."""
    serializer = options.get('serializer') or app.conf.task_serializer
    content_type, encoding, data = serialization.dumps((args, kwargs), serializer)
    args, kwargs = serialization.loads(data, content_type, encoding, accept=[content_type])
    with denied_join_result():
        result: EagerResult = task.apply(args, kwargs, task_id=task_id or uuid(), **options)
    return result


def make_request(task: Any, args: Any, kwargs: Any, retries: int, options: dict[str, Any]) -> Context:
    """The request of an eager run, as a message with these options would have made it."""
    task_id = options.get('task_id') or uuid()
    parent = task_stack.top
    parent_request = parent.request if parent is not None else None
    limits = (task.time_limit, task.soft_time_limit)
    request = Context({
        'id': task_id, 'task': task.name, 'args': args or (), 'kwargs': kwargs or {}, 'retries': retries,
        'parent_id': parent_request.id if parent_request else None,
        'root_id': (parent_request.root_id if parent_request else None) or task_id,
        'is_eager': True, 'called_directly': False, 'hostname': gethostname(),
        'logfile': options.get('logfile'), 'loglevel': options.get('loglevel') or 0,
        'callbacks': maybe_list(options.get('link')), 'errbacks': maybe_list(options.get('link_error')),
        'headers': options.get('headers'),
        'timelimit': None if limits == (None, None) else list(limits),
        'ignore_result': options.get('ignore_result', task.ignore_result),
        'delivery_info': {'is_eager': True, **{name: options.get(name)
                                               for name in ('exchange', 'routing_key', 'priority')}},
    })
    if 'stamped_headers' in options:
        request.stamped_headers = list(maybe_list(options['stamped_headers']) or ())
        request.stamps = {name: maybe_list(options.get(name, [])) for name in request.stamped_headers}
    return request
