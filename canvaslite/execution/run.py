"""`Run`: the record that the steps of one run of a task work on; `PreparedTask`: what all runs of a task share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_type_hints

from canvaslite import states
from canvaslite.canvas import Signature, maybe_signature
from canvaslite.context import Context
from canvaslite.current import App
from canvaslite.exceptions import Ignore, Reject, Retry
from canvaslite.execution.outcome import Kind, Outcome

#: The state that ``task_postrun`` and ``after_return`` are told for each way in which a run can end.
STATE_OF: Mapping[Kind | None, str | None] = {
    None: None, Kind.SUCCESS: states.SUCCESS, Kind.RETRY: states.RETRY, Kind.IGNORED: states.IGNORED,
    Kind.REJECTED: states.REJECTED, Kind.REQUEUED: states.REJECTED,
    Kind.FAILURE: states.FAILURE, Kind.UNRECORDED: states.FAILURE,
}


def signature_parameters(run: Callable[..., Any]) -> list[tuple[int, str]]:
    """Place and name of the parameters of `run` that are annotated as signatures."""
    if not getattr(run, '__annotations__', None):
        return []
    try:
        hints = get_type_hints(run)
        return [(place, name) for place, name in enumerate(inspect.signature(run).parameters) if any(
            isinstance(kind, type) and issubclass(kind, Signature)
            for kind in (hints.get(name), *get_args(hints.get(name))))]
    except Exception:  # annotations may be anything: what they mean is known to those who wrote them
        return []


class PreparedTask:
    """What every run of one task needs to know of it, looked up once.

    Hooks that the task does not override are None, so that they cost nothing.
    """

    __slots__ = ('after_return', 'app', 'before_start', 'calls_itself', 'function', 'given_up', 'name', 'on_success',
                 'signatures', 'task')

    def __init__(self, task: Any, app: App) -> None:
        self.task = task
        self.app = app
        self.name: str = task.name
        #: What runs of it is not to be kept any more.
        self.given_up = False
        #: Whether the task overrides ``__call__``, which then has to be part of the run.
        self.calls_itself: bool = task.overrides('__call__')
        self.function: Callable[..., Any] = task if self.calls_itself else task.run
        #: Parameters that are signatures, not the dicts in which these travel.
        self.signatures = signature_parameters(task.run)
        self.before_start = self._hook('before_start')
        self.on_success = self._hook('on_success')
        self.after_return = self._hook('after_return')

    def _hook(self, name: str) -> Callable[..., Any] | None:
        return getattr(self.task, name) if self.task.overrides(name) else None


class Run:
    """One run of a task while it happens. `kind`, `value` and `error` say how it ended."""

    __slots__ = ('args', 'context', 'eager', 'einfo', 'error', 'id', 'internal', 'kind', 'kwargs', 'note', 'prepared',
                 'propagate', 'runtime', 'stores_errors', 'stores_result', 'task', 'tracks_start', 'value')

    def __init__(self, prepared: PreparedTask, context: Context, eager: bool = False, propagate: bool = False) -> None:
        self.prepared = prepared
        self.task = task = prepared.task
        self.context = context
        self.id: str = context.id  # type: ignore[assignment]
        self.args: Sequence[Any] = context.args
        self.kwargs: Mapping[str, Any] = context.kwargs
        self.eager = eager
        self.propagate = propagate  #: an error is raised to the caller instead of being recorded (only when eager)
        self.kind: Kind | None = None
        self.value: Any = None  #: what the task returned
        self.error: BaseException | None = None  #: what it raised
        self.einfo: Any = None  #: billiard's `ExceptionInfo` of `error`, made when that is stored
        self.internal = False  #: `error` came from outside the task's own code
        self.runtime = 0.0  #: seconds that the task's own code took
        self.note = ''
        # Not context.ignore_result: its class-level False would hide the task's own wish.
        ignored = context.__dict__.get('ignore_result')
        if ignored is None:
            ignored = task.ignore_result
        may_store = not eager or task.store_eager_result
        self.stores_result = may_store and not ignored
        self.stores_errors = task.store_errors_even_if_ignored if ignored else may_store
        self.tracks_start = task.track_started and not ignored and not eager

    def end_with(self, exc: BaseException) -> None:
        """Let the run end with `exc`: its type decides how."""
        if isinstance(exc, Reject):
            # A message that was acknowledged when its task started cannot go back.
            self.kind = Kind.REQUEUED if exc.requeue and self.task.acks_late else Kind.REJECTED
        elif isinstance(exc, Ignore):
            self.kind = Kind.IGNORED
        elif isinstance(exc, Retry):
            self.kind = Kind.RETRY
        else:
            self.kind = Kind.FAILURE
        self.error = exc
        self.einfo = None

    def revive_signatures(self) -> None:
        """Make signatures of the dicts in those arguments that the task wants as such."""
        args, kwargs = list(self.args), dict(self.kwargs)
        for place, name in self.prepared.signatures:
            if place < len(args) and isinstance(args[place], dict):
                args[place] = maybe_signature(args[place], self.prepared.app)
            elif isinstance(kwargs.get(name), dict):
                kwargs[name] = maybe_signature(kwargs[name], self.prepared.app)
        self.args, self.kwargs = args, kwargs

    @property
    def result(self) -> Any:
        """What hooks and signals are told: the returned value, or what was raised."""
        return self.value if self.error is None else self.error

    @property
    def shown_name(self) -> str:
        """The task's name for people: its shadow, if it has one."""
        return self.context.shadow or self.prepared.name

    def outcome(self) -> Outcome:
        """The run's end, as data."""
        return Outcome(self.kind or Kind.FAILURE, self.result, self.einfo.traceback if self.einfo else None,
                       self.runtime, self.note)
