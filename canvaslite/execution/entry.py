"""`Executor`: where a job from the worker's parent becomes the run of a task, or the record that it will not run."""

from __future__ import annotations

import logging
from typing import Any

from canvaslite.context import Context
from canvaslite.current import App, set_current_app, set_default_app
from canvaslite.exceptions import NotRegistered
from canvaslite.execution.duplicates import is_done_already, repeat_record
from canvaslite.execution.keeping import Unrecorded
from canvaslite.execution.message import Head, MessageReader, read_head
from canvaslite.execution.outcome import Kind, Outcome
from canvaslite.execution.run import PreparedTask, Run
from canvaslite.execution.tracer import trace
from canvaslite.execution.verdicts import record_verdict, refuse, unknown_note
from canvaslite.protocol.job import Job
from canvaslite.utils.saferepr import saferepr

logger = logging.getLogger('canvaslite.execution')

#: Longest note for the parent's log, in characters.
LONGEST_NOTE = 2000


class Executor:
    """Runs jobs, one at a time in each thread that calls it.

    Made in the process that runs the tasks (a prefork child, or the worker itself); it makes `app` the current one.
    """

    __slots__ = ('app', 'prepared', 'reader', 'tasks')

    def __init__(self, app: App, hostname: str | None = None) -> None:
        set_current_app(app)
        set_default_app(app)
        app.finalize()
        self.app = app
        self.tasks = app.tasks
        self.reader = MessageReader(app.conf.accept_content, hostname)
        self.prepared: dict[str, PreparedTask] = {}

    def run(self, job: Job) -> Outcome:
        """Run the task that `job` asks for, or record its verdict. A message that cannot be understood is an outcome.

        Raises only what is no `Exception` and comes from the task: ``SystemExit``, ``KeyboardInterrupt``.
        """
        try:
            head = read_head(job)
        except Exception as exc:
            return _undecodable(exc, job, None)
        try:
            context = self.reader.read(job, head)
        except Exception as exc:
            return self._refuse_unreadable(job, head, exc)
        try:
            if job.verdict is not None:
                return record_verdict(self.app, context, job.verdict)
            return self._run_task(context, job)
        except Unrecorded as exc:
            return Outcome(Kind.UNRECORDED, exc, note=_clip(f'[{context.id}]: {exc}'))
        except Exception as exc:
            return self._fail_internally(context, exc)

    def _run_task(self, context: Context, job: Job) -> Outcome:
        name: str = context.task  # type: ignore[attr-defined]
        task = self.tasks.get(name)
        if task is None:
            exc = NotRegistered(name)
            refuse(self.app, context, exc)
            return Outcome(Kind.UNKNOWN, exc, note=_clip(unknown_note(context)))
        prepared = self.prepared.get(name)
        if prepared is None or prepared.task is not task:
            prepared = self.prepared[name] = PreparedTask(task, self.app)
        if job.redelivered and is_done_already(prepared, context):
            return repeat_record(prepared, context)
        return trace(Run(prepared, context))

    def _fail_internally(self, context: Context, exc: Exception) -> Outcome:
        """The last resort: an error where there should be none is the task's failure, not the end of the process."""
        logger.critical('Task [%s]: internal error: %r', context.id, exc, exc_info=True)
        try:
            refuse(self.app, context, exc)
        except Unrecorded as unrecorded:
            return Outcome(Kind.UNRECORDED, unrecorded, note=_clip(f'[{context.id}]: {unrecorded}'))
        return Outcome(Kind.FAILURE, exc)

    def _refuse_unreadable(self, job: Job, head: Head, exc: Exception) -> Outcome:
        """Let those who wait for a message that cannot be read know, as far as its headers say who they are."""
        context = self.reader.read_head_only(job, head)
        try:
            if context is not None and job.verdict is not None:
                return record_verdict(self.app, context, job.verdict)
            if context is not None:
                refuse(self.app, context, exc)
        except Unrecorded as unrecorded:
            return Outcome(Kind.UNRECORDED, unrecorded, note=_clip(f'{unrecorded}'))
        return _undecodable(exc, job, head)


def _undecodable(exc: Exception, job: Job, head: Head | None) -> Outcome:
    said: Any = None if head is None else {name: value for name, value in head.headers.items() if name != 'args'}
    content = '' if head is None else f' [type:{head.content_type!r} encoding:{head.content_encoding!r}]'
    shown = saferepr(job.body[:300], 300)
    note = f'{type(exc).__name__}: {exc}{content} headers:{saferepr(said, 600)} body:{shown} ({len(job.body)}b)'
    return Outcome(Kind.UNDECODABLE, exc, note=_clip(note))


def _clip(note: str) -> str:
    """`note` as one line that is not too long."""
    line = ' '.join(note.splitlines())
    return line if len(line) <= LONGEST_NOTE else f'{line[:LONGEST_NOTE - 3]}...'
