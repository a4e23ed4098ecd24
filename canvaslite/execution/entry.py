"""`Executor`: where a job from the worker's parent becomes the run of a task, or the record that it will not run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from traceback import walk_tb

from canvaslite import states
from canvaslite.context import Context, RunStack
from canvaslite.current import App, set_current_app, set_default_app
from canvaslite.execution.duplicates import end_copy, is_done_already, judge_copy, judge_delayed, repeat_record
from canvaslite.execution.keeping import Unrecorded
from canvaslite.execution.losses import begin_again, end_again
from canvaslite.execution.message import Head, MessageReader, describe, read_head
from canvaslite.execution.outcome import Kind, Outcome
from canvaslite.execution.run import PreparedTask, Run
from canvaslite.execution.tracer import trace
from canvaslite.execution.verdicts import fail_followers, record_verdict, refuse
from canvaslite.protocol.job import Job, Verdict
from canvaslite.utils.inflate import Limits
from canvaslite.utils.redact import for_log

logger = logging.getLogger('celery.app.trace')

#: States of a task that nobody has started; a revoke may set them to REVOKED.
_NOT_STARTED = (states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED)


class Executor:
    """Runs jobs, one at a time in each thread that calls it.

    Made in the process that runs the tasks (a prefork child, or the worker itself); it makes `app` the current one.
    """

    __slots__ = ('app', 'given_up', 'prepared', 'reader', 'swept', 'tasks')

    def __init__(self, app: App, hostname: str | None = None) -> None:
        set_current_app(app)
        set_default_app(app)
        app.finalize()
        self.app = app
        self.tasks = app.tasks
        self.reader = MessageReader(app.conf.accept_content, hostname, Limits.of(app.conf))
        self.prepared: dict[str, PreparedTask] = {}
        #: The thread that runs this was told to end, but cannot be made to.
        self.given_up = False
        #: Whether the last look at the chords succeeded.
        self.swept = True

    def run(self, job: Job, on_read: Callable[[], None] | None = None) -> Outcome:
        """Run the task that `job` asks for, or record its verdict. A message that cannot be understood is an outcome.

        `on_read` is called when it was understood, before the task begins: from then on it may be acknowledged.
        Raises only what is no `Exception` and comes from the task: ``SystemExit``, ``KeyboardInterrupt``.
        """
        try:
            outcome = self._run(job, on_read)
        except Unrecorded as exc:
            outcome = Outcome(Kind.UNRECORDED, exc, note=str(exc))
        if isinstance(outcome.value, BaseException):
            clear_frames_of(outcome.value)
        return outcome._replace(note=for_log(outcome.note)) if outcome.note else outcome

    def give_up(self) -> None:
        """Keep nothing of what runs here now: its outcome is known to be another. Called in another thread."""
        self.given_up = True
        for prepared in list(self.prepared.values()):
            prepared.given_up = True

    def _run(self, job: Job, on_read: Callable[[], None] | None) -> Outcome:
        if job.verdict is not None and job.verdict.kind in ('sweep', 'mark'):
            return self._sweep() if job.verdict.kind == 'sweep' else self._mark_revoked(job.verdict.detail)
        head = None
        try:
            head = read_head(job)
            run, verdict = self._prepare(self.reader.read(job, head), job)
        except Exception as exc:
            return self._refuse_unreadable(job, head, exc)
        if on_read is not None:
            on_read()
        try:
            outcome = self._deal_with(run, verdict, job.redelivered)
            if run.context.headers:
                end_copy(run, outcome.kind)
            return outcome
        except Unrecorded:
            raise
        except Exception as exc:
            # The last resort: an error where there should be none is the task's failure, not the end of the process.
            logger.critical('Task [%s]: internal error: %r', run.id, exc, exc_info=True)
            refuse(run, exc)
            return Outcome(Kind.FAILURE, exc)

    def _deal_with(self, run: Run, verdict: Verdict | None, redelivered: bool) -> Outcome:
        if verdict is not None:
            return record_verdict(run, verdict)
        if redelivered and is_done_already(run):
            return repeat_record(run)
        judged = judge_delayed(run) or judge_copy(run, redelivered) if run.context.headers else None
        if judged is not None:
            return record_verdict(run, judged) if isinstance(judged, Verdict) else judged
        return _run_again(run) if redelivered else trace(run)

    def _sweep(self) -> Outcome:
        try:
            self.app.backend.sweep_chords()
            self.swept = True
        except Exception as exc:
            # Once, not every few seconds: what is away is away for all tasks, which say so as well.
            logger.log(logging.WARNING if self.swept else logging.DEBUG, 'Chords cannot be looked after: %r', exc)
            self.swept = False
        return Outcome(Kind.SWEPT)

    def _mark_revoked(self, ids: Iterable[str]) -> Outcome:
        backend = self.app.backend
        try:
            for task_id in ids:
                if backend.get_state(task_id) in _NOT_STARTED:
                    backend.mark_as_revoked(task_id, reason='revoked', store_result=True)
        except Exception as exc:
            logger.warning('Tasks cannot be marked as revoked in the result store: %r', exc)
        return Outcome(Kind.SWEPT)

    def _prepare(self, context: Context, job: Job) -> tuple[Run, Verdict | None]:
        """The run that `context` describes, and the verdict on it: a task that is not registered has one too."""
        name: str = context.task  # type: ignore[attr-defined]
        task = self.tasks.get(name)
        if task is None:
            # A task that does nothing stands for it, to be recorded as a failure.
            task = self.app.Task()
            task.name, task.request_stack = name, RunStack()
            return Run(PreparedTask(task, self.app), context), job.verdict or Verdict('unknown', name)
        prepared = self.prepared.get(name)
        if prepared is None or prepared.task is not task:
            prepared = self.prepared[name] = PreparedTask(task, self.app)
        return Run(prepared, context), job.verdict

    def _refuse_unreadable(self, job: Job, head: Head | None, exc: Exception) -> Outcome:
        """Let those who wait for a message that cannot be read know, as far as its headers say who they are."""
        context = None if head is None or self.reader.wants_signatures else self.reader.read_head_only(job, head)
        if context is not None:
            run, _ = self._prepare(context, job)
            fail_followers(run, exc)
            if job.verdict is not None:
                return record_verdict(run, job.verdict)
            refuse(run, exc)
        # (The worker has logged what is wrong with an ``invalid`` one.)
        told = job.verdict is not None and job.verdict.kind == 'invalid'
        said = '' if told else f'{type(exc).__name__}: {exc} {describe(job, head)}'
        return Outcome(Kind.UNDECODABLE, exc, note=said)


def clear_frames_of(exc: BaseException) -> None:
    """Forget the variables of the calls that `exc`, and what it came of, went through, as Celery does: one of them is
    the run that has the error, so that only a full garbage collection would free them, and that is rare."""
    pending: list[BaseException | None] = [exc]
    seen: set[int] = set()
    while pending:
        error = pending.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            for frame, _ in walk_tb(error.__traceback__):
                with suppress(RuntimeError):  # it is running
                    frame.clear()
                    _ = frame.f_locals  # whoever looked at it has left a copy there: this brings it up to date
            pending += (error.__cause__, error.__context__, getattr(error, 'exc', None))


def _run_again(run: Run) -> Outcome:
    """The run of a message that was delivered before, perhaps to a worker that it ended."""
    mark, judged = begin_again(run)
    if judged is not None:
        return judged
    outcome = trace(run)
    end_again(run, mark, outcome)
    return outcome
