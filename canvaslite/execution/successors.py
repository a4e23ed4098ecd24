"""What follows a success: callbacks, and the next step of the chain."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from canvaslite.canvas import maybe_signature
from canvaslite.context import Context
from canvaslite.current import App
from canvaslite.utils.undecoded import ChainTail


def send_successors(app: App, context: Context, value: Any) -> None:
    """Send, in one burst, what is linked to and chained after the task that `context` describes."""
    options: dict[str, Any] = {'parent_id': context.id, 'root_id': context.root_id or context.id}
    if app.conf.task_inherit_parent_priority:
        priority = (context.delivery_info or {}).get('priority')
        if priority is not None:
            options['priority'] = priority
    burst: AbstractContextManager[Any] = nullcontext() if app.conf.task_always_eager else app.publisher.burst()
    with burst as producer:
        if producer is not None:
            options['producer'] = producer
        for callback in context.callbacks or ():
            maybe_signature(callback, app=app).apply_async((value,), **options)
        chain = context.__dict__.get('chain')
        if chain:
            # The chain is stored last step first, and each step hands on what is left of it: undecoded, unless the
            # next step is a canvas, which keeps it for its end.
            step, rest = chain.split() if isinstance(chain, ChainTail) else (chain[-1], chain[:-1])
            step = maybe_signature(step, app=app)
            if isinstance(rest, ChainTail) and step.KIND != 'task':
                rest = rest.decode()
            step.apply_async((value,), chain=rest, **options)
