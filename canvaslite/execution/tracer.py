"""One run of a task, from its first signal to its last.

`trace` is the table of contents of this package. Each step works on one `Run`; how the run ended is data
(`Run.kind`), and what is stored, announced and acknowledged is chosen by it.

=====================  ================================================================================
`enter`                put task and request where ``current_task`` and ``task.request`` find them
`announce_start`       ``task_prerun``, and the state STARTED if the task wants it
`call`                 ``before_start`` and the task's own code
`send_successors`      of a success: callbacks and the next step of the chain, in one burst
`keep`                 the result or error in the store, and in the chord it is a part of
`announce_end`         hooks, signals, log line
`leave`                ``task_postrun``, and off the stacks
=====================  ================================================================================

Successors go out before the result is stored, as in Celery, so that the stored result names its children.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from functools import partial
from time import monotonic
from types import CoroutineType

from canvaslite import states
from canvaslite.current import task_stack
from canvaslite.exceptions import OperationalError
from canvaslite.execution.announcing import announce_end, announce_internal_error
from canvaslite.execution.keeping import Unrecorded, is_outage, keep, patiently, persist
from canvaslite.execution.outcome import Kind, Outcome
from canvaslite.execution.run import STATE_OF, Run
from canvaslite.execution.successors import is_repeated, links_of, send_successors
from canvaslite.signals import task_postrun, task_prerun
from canvaslite.utils.functional import await_here

logger = logging.getLogger('celery.app.trace')


class UserCode:
    """Says whether this process is inside a task's own code, the only place where a soft time limit may strike: a
    signal handler that raises ``SoftTimeLimitExceeded`` anywhere else would tear down the recording of an outcome."""

    running = False


user_code = UserCode()


def trace(run: Run) -> Outcome:
    """Run a task and deal with how it ends.

    Raises what is no `Exception` (``SystemExit``, ``KeyboardInterrupt``), and any error of the task when the
    run propagates.
    """
    enter(run)
    try:
        announce_start(run)
        call(run)
        if run.prepared.given_up:
            raise SystemExit('the worker has stopped without this task')
        settle(run)
        announce_end(run)
    finally:
        leave(run)
    return run.outcome()


def enter(run: Run) -> None:
    """Make the run's task and request the current ones."""
    if run.prepared.calls_itself:
        run.context._protected = 1  # the base class's __call__ is part of this run, and must not push a request
    task_stack.push(run.task)
    run.task.request_stack.push(run.context)


def announce_start(run: Run) -> None:
    """Send ``task_prerun``, and store STARTED if the task wants that."""
    if task_prerun.receivers:
        task_prerun.send(sender=run.task, task_id=run.id, task=run.task, args=run.args, kwargs=run.kwargs)
    if run.tracks_start:
        try:
            run.task.backend.store_result(run.id, {'pid': os.getpid(), 'hostname': run.context.hostname},
                                          states.STARTED, request=run.context)
        except Exception as exc:  # it is only news: not a reason to keep the task from running
            logger.warning('Task %s[%s]: could not store that it started: %r', run.shown_name, run.id, exc)


def call(run: Run) -> None:
    """Run the task's own code."""
    prepared = run.prepared
    was_running = user_code.running
    started = monotonic()
    try:
        try:
            user_code.running = True
            if prepared.before_start is not None:
                prepared.before_start(run.id, run.args, run.kwargs)
            if prepared.signatures:
                run.revive_signatures()
            run.value = prepared.function(*run.args, **run.kwargs)
            if run.value.__class__ is CoroutineType:
                run.value = await_here(run.value)
            run.kind = Kind.SUCCESS
        finally:
            user_code.running = was_running
    except Exception as exc:
        run.end_with(exc)
        if run.propagate and run.kind in (Kind.FAILURE, Kind.RETRY):
            raise
    run.runtime = monotonic() - started


def settle(run: Run) -> None:
    """Keep the outcome, and send what follows a success; the task has failed if that cannot be sent."""
    context = run.context
    if run.task.acks_late and not run.eager:
        with suppress(OperationalError):  # what the broker has not got yet is kept, and sent again
            run.prepared.app.publisher.settle_streams()
    if run.kind is not Kind.SUCCESS or not (context.callbacks or context.__dict__.get('chain')):
        keep(run)
        return
    kept = False

    def keep_success() -> bool:
        nonlocal kept
        kept = True
        keep(run)
        return run.kind is Kind.SUCCESS

    try:
        send_successors(run.prepared.app, context, run.value, run.task.acks_late, is_repeated(context), keep_success)
        return
    except Exception as exc:
        if kept:
            _send_later(run, exc)
            return
        announce_internal_error(run, exc)
        run.end_with(exc)
        if run.propagate:
            raise
    keep(run)


def _send_later(run: Run, exc: Exception) -> None:
    """What follows a stored success could not be sent: try again while the broker is away, then leave it to whoever
    gets the message next; where nobody will, fail it."""
    app, backend, context = run.prepared.app, run.task.backend, run.context
    try:
        if not is_outage(backend, exc):
            raise exc
        patiently(run, partial(send_successors, app, context, run.value, run.task.acks_late))
    except Exception as failed:
        if isinstance(failed, Unrecorded) and run.task.acks_late:
            run.kind, run.note = Kind.UNRECORDED, str(failed)
            return
        error = failed.__cause__ if isinstance(failed, Unrecorded) else failed
        logger.error('Task %s[%s]: what follows could not be sent: %r', run.shown_name, run.id, error)
        links = [link.set(task_id=task_id) for link, task_id in links_of(app, context)]
        persist(run, '_fail_chain', [*links, *(context.chain or ())], error)


def leave(run: Run) -> None:
    """Send ``task_postrun`` and make the run's task and request no longer current."""
    try:
        if task_postrun.receivers:
            task_postrun.send(sender=run.task, task_id=run.id, task=run.task, args=run.args, kwargs=run.kwargs,
                              retval=run.result, state=STATE_OF[run.kind])
    finally:
        task_stack.pop()
        run.task.request_stack.pop()
        if not run.eager and (run.stores_result or run.error is not None):
            try:
                run.task.backend.process_cleanup()
            except Exception as exc:
                logger.exception('Process cleanup failed: %r', exc)
