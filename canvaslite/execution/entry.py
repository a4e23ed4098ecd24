"""`Executor`: where a job from the worker's parent becomes the run of a task, or the record that it will not run."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from canvaslite import states
from canvaslite.context import Context, RunStack
from canvaslite.current import App, set_current_app, set_default_app
from canvaslite.execution.duplicates import end_copy, is_done_already, judge_copy, repeat_record
from canvaslite.execution.keeping import Unrecorded
from canvaslite.execution.message import Head, MessageReader, read_head
from canvaslite.execution.outcome import Kind, Outcome
from canvaslite.execution.run import PreparedTask, Run
from canvaslite.execution.tracer import trace
from canvaslite.execution.verdicts import record_verdict, refuse
from canvaslite.protocol.job import Job, Verdict
from canvaslite.utils.saferepr import saferepr, truncate

logger = logging.getLogger('celery.app.trace')

#: States of a task that nobody has started; a revoke may set them to REVOKED.
_NOT_STARTED = (states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED)
LONGEST_NOTE = 1990  #: characters, for the parent's log


class Executor:
    """Runs jobs, one at a time in each thread that calls it.

    Made in the process that runs the tasks (a prefork child, or the worker itself); it makes `app` the current one.
    """

    __slots__ = ('app', 'prepared', 'reader', 'swept', 'tasks')

    def __init__(self, app: App, hostname: str | None = None) -> None:
        set_current_app(app)
        set_default_app(app)
        app.finalize()
        self.app = app
        self.tasks = app.tasks
        self.reader = MessageReader(app.conf.accept_content, hostname)
        self.prepared: dict[str, PreparedTask] = {}
        #: Whether the last look at the chords succeeded.
        self.swept = True

    def run(self, job: Job) -> Outcome:
        """Run the task that `job` asks for, or record its verdict. A message that cannot be understood is an outcome.

        Raises only what is no `Exception` and comes from the task: ``SystemExit``, ``KeyboardInterrupt``.
        """
        try:
            outcome = self._run(job)
        except Unrecorded as exc:
            outcome = Outcome(Kind.UNRECORDED, exc, note=str(exc))
        if outcome.note:
            return outcome._replace(note=truncate(' '.join(outcome.note.splitlines()), LONGEST_NOTE))
        return outcome

    def _run(self, job: Job) -> Outcome:
        if job.verdict is not None and job.verdict.kind in ('sweep', 'mark'):
            return self._sweep() if job.verdict.kind == 'sweep' else self._mark_revoked(job.verdict.detail)
        head = None
        try:
            head = read_head(job)
            run, verdict = self._prepare(self.reader.read(job, head), job)
        except Exception as exc:
            return self._refuse_unreadable(job, head, exc)
        try:
            if verdict is not None:
                return record_verdict(run, verdict)
            if job.redelivered and is_done_already(run):
                return repeat_record(run)
            if run.context.headers:
                judged = judge_copy(run, job.redelivered)
                if judged is not None:
                    return judged
            outcome = trace(run)
            if run.context.headers:
                end_copy(run)
            return outcome
        except Unrecorded:
            raise
        except Exception as exc:
            # The last resort: an error where there should be none is the task's failure, not the end of the process.
            logger.critical('Task [%s]: internal error: %r', run.id, exc, exc_info=True)
            refuse(run, exc)
            return Outcome(Kind.FAILURE, exc)

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
        context = None if head is None else self.reader.read_head_only(job, head)
        if context is not None:
            run, _ = self._prepare(context, job)
            if job.verdict is not None:
                return record_verdict(run, job.verdict)
            refuse(run, exc)
        said, form = None, ''
        if head is not None:
            said = {name: value for name, value in head.headers.items() if name != 'args'}
            form = f' [type:{head.content_type!r} encoding:{head.content_encoding!r}]'
        note = (f'{type(exc).__name__}: {exc}{form} headers:{saferepr(said, 600)} '
                f'body:{saferepr(job.body[:300], 300)} ({len(job.body)}b)')
        return Outcome(Kind.UNDECODABLE, exc, note=note)
