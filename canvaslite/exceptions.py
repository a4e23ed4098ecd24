"""Every exception and warning of canvaslite; those of a lost or killed process are billiard's.

The names are Celery's, so that ``except`` clauses keep their meaning after a migration.
"""

from __future__ import annotations

import numbers
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kombu.exceptions import ContentDisallowed, DecodeError, EncodeError, OperationalError

if TYPE_CHECKING:
    from billiard.exceptions import SoftTimeLimitExceeded, Terminated, TimeLimitExceeded, WorkerLostError

__all__ = (
    'CeleryWarning', 'AlwaysEagerIgnored', 'DuplicateNodenameWarning', 'DuplicateTaskNameWarning',
    'NotConfigured', 'SecurityWarning', 'UnknownSettingWarning', 'CPendingDeprecationWarning', 'CDeprecationWarning',
    'CeleryError', 'TaskPredicate', 'Retry', 'Ignore', 'Reject', 'ImproperlyConfigured', 'SecurityError',
    'TaskError', 'QueueNotFound', 'IncompleteStream', 'NotRegistered', 'AlreadyRegistered', 'TimeoutError',
    'MaxRetriesExceededError', 'TaskRevokedError', 'InvalidTaskError', 'ChordError',
    'BackendError', 'BackendGetMetaError', 'BackendStoreError', 'UnreadableResult',
    'WorkerTerminate', 'WorkerShutdown', 'SoftTimeLimitExceeded', 'TimeLimitExceeded', 'WorkerLostError', 'Terminated',
    'ContentDisallowed', 'DecodeError', 'EncodeError', 'OperationalError',
)


class CeleryWarning(UserWarning):
    """Base of the warnings."""


class AlwaysEagerIgnored(CeleryWarning):
    """``send_task`` ignores ``task_always_eager``."""


class DuplicateNodenameWarning(CeleryWarning):
    """Two workers use the same node name."""


class DuplicateTaskNameWarning(CeleryWarning):
    """Two different functions were registered under one task name."""


class NotConfigured(CeleryWarning):
    """The application has no configuration."""


class SecurityWarning(CeleryWarning):
    """Something that may be a security risk."""


class UnknownSettingWarning(CeleryWarning):
    """A setting that canvaslite does not know; the message names the nearest one it does."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """Will be deprecated."""


class CDeprecationWarning(DeprecationWarning):
    """Is deprecated."""


class CeleryError(Exception):
    """Base of what canvaslite raises on purpose."""


class TaskPredicate(CeleryError):
    """Raised inside a task to choose its outcome."""


class Retry(TaskPredicate):
    """The task is to be run again, `when` (seconds, or a time) says; `exc` is the error that caused it, if any."""

    def __init__(self, message: str | None = None, exc: BaseException | str | None = None,
                 when: float | datetime | None = None, is_eager: bool = False, sig: Any = None, **kwargs: Any) -> None:
        self.message = message
        #: The error, and its text.
        self.exc = None if isinstance(exc, str) else exc
        self.excs = exc if isinstance(exc, str) or exc is None else _repr_safely(exc)
        self.when = when
        self.is_eager = is_eager
        self.sig = sig
        super().__init__(self, exc, when, **kwargs)

    def humanize(self) -> str:
        """When the retry will run, for people."""
        return f'in {self.when}s' if isinstance(self.when, numbers.Number) else f'at {self.when}'

    def __str__(self) -> str:
        return self.message or f'Retry {self.humanize()}' + (f': {self.excs}' if self.excs else '')

    def __reduce__(self) -> tuple[Any, ...]:
        return self.__class__, (self.message, self.exc, self.when)


class Ignore(TaskPredicate):
    """The worker leaves the task's state as it is."""


class Replaced(Ignore):
    """Raised by `Task.replace`: another task runs under this one's id, and what depends on it is told by that."""


class Reject(TaskPredicate):
    """The worker rejects the message, with `requeue` to have it delivered again."""

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        self.reason = reason
        self.requeue = requeue
        super().__init__(reason, requeue)

    def __repr__(self) -> str:
        return f'reject requeue={self.requeue}: {self.reason}'


class ImproperlyConfigured(CeleryError):
    """A setting is missing or wrong."""


class SecurityError(CeleryError):
    """Signing or verification of messages failed."""


class TaskError(CeleryError):
    """Base of what concerns one task."""


class QueueNotFound(KeyError, TaskError):
    """A task is routed to a queue that is not in ``task_queues``."""


class IncompleteStream(TaskError):
    """The results are not all there yet."""


class NotRegistered(KeyError, TaskError):
    """No task of that name is known here."""

    def __repr__(self) -> str:
        return f'Task of kind {self} never registered, please make sure it is imported.'


class AlreadyRegistered(TaskError):
    """A task of that name is registered already."""


class TimeoutError(TaskError):
    """The operation took longer than the caller would wait."""


class MaxRetriesExceededError(TaskError):
    """The task was retried as often as it may be."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.task_args: Any = kwargs.pop('task_args', [])
        self.task_kwargs: Any = kwargs.pop('task_kwargs', {})
        super().__init__(*args, **kwargs)


class TaskRevokedError(TaskError):
    """The task was revoked; it has no result."""


class InvalidTaskError(TaskError):
    """The task message cannot be understood."""


class ChordError(TaskError):
    """A task in a chord's header failed, or the chord could not be joined."""


class BackendError(Exception):
    """The result store did not do what it was asked."""


class BackendGetMetaError(BackendError):
    """A result could not be read."""

    def __init__(self, *args: Any, task_id: str = '', **kwargs: Any) -> None:
        self.task_id = task_id
        super().__init__(*args)

    def __repr__(self) -> str:
        return f'{super().__repr__()} task_id:{self.task_id}'


class UnreadableResult(BackendGetMetaError, DecodeError):
    """What the store has of a task is no result."""


class BackendStoreError(BackendError):
    """A result could not be written."""

    def __init__(self, *args: Any, task_id: str = '', state: str = '', **kwargs: Any) -> None:
        self.state, self.task_id = state, task_id
        super().__init__(*args)

    def __repr__(self) -> str:
        return f'{super().__repr__()} state:{self.state} task_id:{self.task_id}'


class WorkerTerminate(SystemExit):
    """The worker stops at once."""


class WorkerShutdown(SystemExit):
    """The worker stops when its running tasks have ended."""


def _repr_safely(exc: object) -> str:
    try:
        return repr(exc)
    except Exception as error:  # a repr of the user's own may fail
        return f'<unrepresentable {type(exc).__name__}: {type(error).__name__}>'


def __getattr__(name: str) -> Any:
    # billiard's own, imported on first use: a client that only sends needs no process pool.
    if name not in ('SoftTimeLimitExceeded', 'Terminated', 'TimeLimitExceeded', 'WorkerLostError'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(import_module('billiard.exceptions'), name)
    return value
