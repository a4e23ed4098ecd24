"""Methods of `Task` that change the canvas it is part of."""

from __future__ import annotations

from typing import Any

from canvaslite.canvas import _chain, signature
from canvaslite.canvas.freezing import add_header, with_one_result
from canvaslite.canvas.members import unroll_groups
from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.utils.functional import maybe_list
from canvaslite.utils.uuid import successor_id
from canvaslite.wire import WINDOW_HEADER


def replace(task: Any, sig: Any) -> Any:
    """End this run and run the canvas `sig` in its place: with its id, callbacks and place in chain and chord.

    Raises ``Ignore`` (write ``return self.replace(...)``); when run eagerly it returns the canvas's value.
    Raises ``ImproperlyConfigured`` for a member of a chord and for an empty chain.
    """
    request = task.request
    if 'chord' in sig.options:
        raise ImproperlyConfigured('A signature replacing a task must not be part of a chord')
    if isinstance(sig, _chain) and not getattr(sig, 'tasks', True):
        raise ImproperlyConfigured('Cannot replace with an empty chain')
    joined = with_one_result(sig)
    if isinstance(sig, _chain) and isinstance(joined, _chain):
        sig.tasks = joined.tasks  # as everything else is set on it, in place
    else:
        sig = joined
    inherit_links(sig, request)
    # Who waits for the current run gets the results of what takes its place.
    own, task.app._local.oid = task.app.thread_oid, request.reply_to or task.app.thread_oid
    try:
        sig.freeze(request.id)
    finally:
        task.app._local.oid = own
    nesting = (request.replaced_task_nesting or 0) + 1
    sig.set(chord=request.chord, group_id=request.group, group_index=request.group_index, root_id=request.root_id,
            replaced_task_nesting=nesting)
    if isinstance(sig, _chain):
        for step in sig.tasks:
            step.set(replaced_task_nesting=nesting)
    # What is left of the chain keeps its ids; it is stored last step first.
    for step in reversed(request.chain or ()):
        following = signature(step, app=task.app)
        following.set(replaced_task_nesting=nesting)
        sig |= following
    window = (request.headers or {}).get(WINDOW_HEADER)
    if window:
        add_header(sig, WINDOW_HEADER, window)
    return task.on_replace(sig)


def inherit_links(sig: Any, request: Any) -> None:
    """Link to `sig` what was linked to the current run."""
    for callback in maybe_list(request.callbacks) or ():
        sig.link(callback)
    for errback in maybe_list(request.errbacks) or ():
        sig.link_error(errback)
    if isinstance(sig, _chain) and 'link' in sig.options:
        # They belong to the chain's last task: more steps may be added behind it.
        end = sig.tasks[-1] = unroll_groups(sig.tasks[-1])
        for callback in maybe_list(sig.options.pop('link')) or ():
            end.link(callback)


def add_to_chord(task: Any, sig: Any, lazy: bool = False) -> Any:
    """Add `sig` to the header of the chord that the current run is in. With `lazy` it is returned, not sent.

    Raises `ValueError`: it is in none.
    """
    request = task.request
    if not request.chord:
        raise ValueError('Current task is not member of any chord')
    sig.set(group_id=request.group, group_index=request.group_index, chord=request.chord, root_id=request.root_id)
    # A run that is repeated, as its process died, adds the same part.
    request.added = number = getattr(request, 'added', 0) + 1
    task_id = sig.id or successor_id(request.id, f'part {request.retries} {number}')
    task.backend.add_to_chord(request.group, sig.freeze(task_id))
    return sig if lazy else sig.delay()
