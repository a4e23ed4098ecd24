"""What follows a success: callbacks, and the next step of the chain."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from canvaslite.canvas import maybe_signature
from canvaslite.context import Context
from canvaslite.current import App
from canvaslite.execution.run import Run


def send_successors(run: Run) -> None:
    """Send the callbacks and the next chain step of a run that succeeded, all in one burst.

    Raises kombu's ``EncodeError`` or ``OperationalError`` when they cannot be sent.
    """
    dispatch_successors(run.prepared.app, run.context, run.value)


def dispatch_successors(app: App, context: Context, value: Any) -> None:
    """Send what is linked to and chained after the task that `context` describes, with `value` as its result."""
    options = _options(app, context)
    with _burst(app) as producer:
        if producer is not None:
            options['producer'] = producer
        for callback in context.callbacks or ():
            maybe_signature(callback, app=app).apply_async((value,), **options)
        if context.chain:
            # The chain is stored last step first, and each step hands on what is left of it.
            step = maybe_signature(context.chain[-1], app=app)
            step.apply_async((value,), chain=context.chain[:-1], **options)


def _options(app: App, context: Context) -> dict[str, Any]:
    options: dict[str, Any] = {'parent_id': context.id, 'root_id': context.root_id or context.id}
    if app.conf.task_inherit_parent_priority:
        priority = (context.delivery_info or {}).get('priority')
        if priority is not None:
            options['priority'] = priority
    return options


def _burst(app: App) -> AbstractContextManager[Any]:
    if app.conf.task_always_eager:
        return nullcontext()
    burst: AbstractContextManager[Any] = app.publisher.burst()
    return burst
