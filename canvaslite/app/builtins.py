"""The tasks that every app has, under Celery's names: canvases and clients of either side refer to them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from kombu.utils.uuid import uuid

from canvaslite import states, wire
from canvaslite.backends import chords
from canvaslite.canvas import chain, chord, chunks, maybe_signature
from canvaslite.exceptions import ChordError, Reject, Retry
from canvaslite.result import allow_join_result, result_from_tuple
from canvaslite.utils.functional import await_here

logger = logging.getLogger('celery.builtins')


def add_builtin_tasks(app: Any) -> None:
    """Register the built-in tasks with `app`."""
    # If it dies between the last look and the body, it looks again.
    unlocking = {'ignore_result': True, 'max_retries': None, 'acks_late': True, 'reject_on_worker_lost': True,
                 'default_retry_delay': app.conf.result_chord_retry_interval}
    for name, function, options in (
        (wire.BACKEND_CLEANUP, backend_cleanup, {}), (wire.ACCUMULATE, accumulate, {}),
        (wire.MAP, call_for_each, {}), (wire.STARMAP, call_with_each, {}), (wire.CHUNKS, call_chunk, {}),
        (wire.GROUP, send_group, {}), (wire.CHAIN, send_chain, {}), (wire.CHORD, send_chord, {'ignore_result': False}),
        (wire.CHORD_UNLOCK, unlock_chord, unlocking),
    ):
        app.task(name=name, bind=True, shared=False, lazy=False, **options)(function)


def backend_cleanup(self: Any) -> None:
    """Remove expired results from the store; beat sends this once a day where the store does not expire them."""
    self.app.backend.cleanup()


def accumulate(self: Any, *args: Any, **kwargs: Any) -> Any:
    """The arguments, or the one at `index`: makes one result of a group that has replaced a task."""
    index = kwargs.get('index')
    return args[index] if index is not None else args


def call_for_each(self: Any, task: Any, it: Iterable[Any]) -> list[Any]:
    """`xmap`: the results of `task` for each of `it`."""
    return call_with_each(self, task, ((item,) for item in it))


def call_with_each(self: Any, task: Any, it: Iterable[Any]) -> list[Any]:
    """`xstarmap`: the results of `task` for each argument list of `it`. A retry of one of them is one of the job."""
    call = maybe_signature(task, app=self.app).type
    call.push_request(_called_by=self, retries=self.request.retries)
    try:
        return [await_here(call(*item)) for item in it]
    finally:
        call.pop_request()


def call_chunk(self: Any, task: Any, it: Iterable[Any], n: int) -> Any:
    """`chunks`: sends `it` in parts of `n` calls."""
    return chunks.apply_chunks(task, it, n, app=self.app)


# -- canvases sent as tasks: only clients of old versions do that -----------------------------------------------------

def send_group(self: Any, tasks: Iterable[Any], result: Any, group_id: str, partial_args: Any = (),
               add_to_parent: bool = True) -> Any:
    """Send the members of a group that was sent as a task."""
    result = result_from_tuple(result, self.app)
    with self.app.publisher.burst() as burst:
        for member in tasks:
            sig = maybe_signature(member, app=self.app).clone(partial_args)
            sig.apply_async(group_id=group_id, producer=burst, add_to_parent=False)
    parent = self.app.current_worker_task
    if add_to_parent and parent:
        parent.add_trail(result)
    return result


def send_chain(self: Any, *args: Any, tasks: Iterable[Any] = (), **options: Any) -> Any:
    """Send a chain that was sent as a task, its first step with `args` before its own."""
    steps = [maybe_signature(step, app=self.app) for step in tasks]
    return chain(*steps, app=self.app).apply_async(args, **options)


def send_chord(self: Any, header: Any, body: Any, partial_args: Any = (), interval: float | None = None,
               countdown: float = 1, max_retries: int | None = None, eager: bool = False, **options: Any) -> Any:
    """Send a chord that was sent as a task."""
    tasks = header['kwargs']['tasks'] if isinstance(header, Mapping) else header
    members = [maybe_signature(member, app=self.app) for member in tasks]
    joined = chord(members, maybe_signature(body, app=self.app), app=self.app)
    return joined.apply_async(partial_args, interval=interval, countdown=countdown, max_retries=max_retries, **options)


# -- chords on stores that cannot join them ---------------------------------------------------------------------------

def unlock_chord(self: Any, group_id: str, callback: Any, interval: float | None = None,
                 max_retries: int | None = None, result: Iterable[Any] = (), GroupResult: Any = None,
                 result_from_tuple: Any = result_from_tuple, **kwargs: Any) -> None:
    """Look whether the header is complete: then send the body, else look again in `interval` seconds.

    A header that is not complete at the chord's deadline fails the body. Of several copies of this task, as there are
    when a worker dies between asking for the next look and acknowledging the last, one sends the body.
    """
    app = self.app
    members = (GroupResult or app.GroupResult)(
        group_id, [result_from_tuple(member, app=app) for member in result], app=app)
    callback = maybe_signature(callback, app=app)
    options = {'countdown': self.default_retry_delay if interval is None else interval, 'max_retries': max_retries}
    if kwargs.get('_chord_unlock_exchange_type') is not None:
        options['exchange_type'] = kwargs['_chord_unlock_exchange_type']
    if _has_ended(app, callback):
        return  # another copy has sent it
    deadline = kwargs.get(wire.UNLOCK_DEADLINE) or chords.deadline_from_now(app.conf)
    if deadline is not None and not self.request.called_directly:
        options['kwargs'] = {**self.request.kwargs, wire.UNLOCK_DEADLINE: deadline}
    if _is_overdue(members, deadline):
        error = chords.overdue(group_id)
        _fail_chord(app, group_id, callback, error, str(error))
        return
    _wait_until_ready(self, members, callback, options)
    if not _may_send(self, callback):
        return
    join = members.join_native if members.supports_native_join else members.join
    try:
        with allow_join_result():
            values = join(timeout=app.conf.result_chord_join_timeout, propagate=True)
    except Exception as exc:
        culprit = next(members._failed_join_report(), None)
        _fail_chord(app, group_id, callback, exc,
                    f'Dependency {culprit.id} raised {exc!r}' if culprit is not None else repr(exc))
        return
    try:
        with app.publisher.marked({wire.ATTEMPT_HEADER: uuid()[:8]}):
            callback.delay(values)
    except Exception as exc:
        if chords.is_outage(app.backend, exc) and not self.request.called_directly:
            raise Reject(exc, requeue=True) from exc
        _fail_chord(app, group_id, callback, exc, f'Callback error: {exc!r}')


def _has_ended(app: Any, callback: Any) -> bool:
    body_id = callback.options.get('task_id')
    return isinstance(body_id, str) and (
        app.backend.get_task_meta(body_id, cache=False)['status'] in states.READY_STATES)


def _may_send(task: Any, callback: Any) -> bool:
    """Whether no other copy of the task sends the body: one of an earlier or a later look."""
    join, body_id, look = task.app.backend.join, callback.options.get('task_id'), str(task.request.retries or 0)
    return (join is None or not isinstance(body_id, str)
            or join.take_run(f'unlock:{body_id}', look, chords.DONE_KEPT) == look)


def _is_overdue(members: Any, deadline: float | None) -> bool:
    if deadline is None or deadline > time.time():
        return False
    try:
        return not members.ready()
    except Exception:  # one of the results cannot be read, and will not be
        return True


def _wait_until_ready(task: Any, members: Any, callback: Any, options: dict[str, Any]) -> None:
    """Return when all members are ready; raises ``Retry`` when not, having sent the task again."""
    cause: BaseException | None = None
    try:
        try:
            if members.ready():
                return
        except Exception as exc:
            cause = exc
            options['exc'] = exc
        raise task.retry(**options) from cause
    except Retry:
        raise
    except Exception as exc:
        # Nobody will look again: fail the body, lest those who wait for it wait for ever.
        error = getattr(exc, 'reason', None) or exc
        reason = f'chord_unlock could not be retried: {error!r}'
        if cause is not None and cause is not error:
            reason += f' (after deps.ready() raised {cause!r})'
        _fail_chord(task.app, members.id, callback, error, reason)
        raise


def _fail_chord(app: Any, group_id: str, callback: Any, cause: BaseException, reason: str) -> None:
    logger.error('Chord %r raised: %r', group_id, cause, exc_info=cause)
    error = ChordError(reason)
    error.__cause__ = cause
    app.backend.chord_error_from_stack(callback=callback, exc=error)
