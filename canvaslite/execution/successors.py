"""What follows a success: callbacks, and the next step of the chain."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from canvaslite import wire
from canvaslite.canvas import maybe_signature
from canvaslite.canvas.records import part_of_a_canvas
from canvaslite.context import Context
from canvaslite.current import App
from canvaslite.utils.undecoded import ChainTail
from canvaslite.utils.uuid import successor_id, uuid


class Dropped(Exception):
    """What would have followed is not to be sent."""


def send_successors(app: App, context: Context, value: Any, late: bool, again: bool = True,
                    keep: Callable[[], bool] | None = None) -> None:
    """Send, in one burst, what is linked to and chained after the task that `context` describes.

    All of it is made, then `keep()` is called, then it leaves: so an outcome that says so is stored before anything
    that follows can run, and what cannot be made fails the task. Nothing leaves if `keep` returns false. (Other
    transports than our own send each message as soon as it is made.) `late`: it may have to be sent again, since the
    task's message is acknowledged late; `again`: it may have been sent before.
    """
    options: dict[str, Any] = {'parent_id': context.id, 'root_id': context.root_id or context.id}
    if app.conf.task_inherit_parent_priority:
        priority = (context.delivery_info or {}).get('priority')
        if priority is not None:
            options['priority'] = priority
    burst: AbstractContextManager[Any] = nullcontext() if app.conf.task_always_eager else app.publisher.burst()
    # (`Dropped`: `keep` has seen to the rest.)
    with suppress(Dropped), app.publisher.marked(_copy_marks(app, late, again)), burst as producer:
        if producer is not None:
            options['producer'] = producer
        _make_successors(app, context, value, options)
        if keep is not None:
            with app.publisher.followed_by(producer):
                kept = keep()
            if not kept:
                raise Dropped


def is_repeated(context: Context) -> bool:
    """Whether a run like this one may have sent its successors before."""
    headers = context.headers
    return bool((context.delivery_info or {}).get('redelivered')
                or (headers.__class__ is dict and wire.AGAIN_HEADER in headers))


def _copy_marks(app: App, late: bool, again: bool) -> dict[str, Any]:
    """Headers by which a worker tells the copies of a message apart, where it may come to be sent twice.

    What follows an early task seldom does: its first copy has none, and a second says since when it is on its way.
    """
    if not (again or late) or not app.conf.worker_deduplicate_successors:
        return {}
    marks: dict[str, Any] = {wire.ATTEMPT_HEADER: uuid()[:8]}
    return {**marks, wire.AGAIN_HEADER: True if late else time.time()} if again else marks


def links_of(app: App, context: Context) -> list[tuple[Any, str]]:
    """The callbacks of the task, each with its id: the same whenever it is sent."""
    links = [maybe_signature(callback, app=app, clone=True) for callback in context.callbacks or ()]
    # The id of a chord is that of its header; what is sent with an id gives it to its end.
    return [(link, (link.id if link.KIND == 'task' else None) or successor_id(context.id, f'link {place}'))
            for place, link in enumerate(links)]


def _make_successors(app: App, context: Context, value: Any, options: dict[str, Any]) -> None:
    for link, task_id in links_of(app, context):
        # A canvas that is linked has the ids of its parts from now on only: it is recorded now.
        with part_of_a_canvas() if link.KIND == 'task' else nullcontext():
            link.apply_async((value,), task_id=task_id, **options)
    chain = context.__dict__.get('chain')
    if chain:
        # The chain is stored last step first, and each step hands on what is left of it: undecoded, unless the
        # next step is a canvas, which keeps it for its end.
        step, rest = chain.split() if isinstance(chain, ChainTail) else (chain[-1], chain[:-1])
        step = maybe_signature(step, app=app)
        if isinstance(rest, ChainTail) and step.KIND != 'task':
            rest = rest.decode()
        with part_of_a_canvas():
            step.apply_async((value,), chain=rest, **options)
