"""Signals: what user code may listen to. An exception in a receiver is logged and does not reach the sender.

A hot path asks ``if signal.receivers:`` first, which is what keeps an unused signal free.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from kombu.utils.functional import retry_over_time

logger = logging.getLogger('celery.signals')

Receiver = Callable[..., Any]


def _key(receiver: Any, sender: Any, dispatch_uid: Any) -> tuple[Any, Any]:
    """What two connections of the same receiver to the same sender have in common."""
    target = (id(receiver.__self__), id(receiver.__func__)) if hasattr(receiver, '__func__') else id(receiver)
    return target if dispatch_uid is None else dispatch_uid, None if sender is None else id(sender)


class Signal:
    """A named event with receivers. `providing_args` documents their arguments, `use_caching` changes nothing."""

    def __init__(self, providing_args: Iterable[str] | None = None, use_caching: bool = False,
                 name: str | None = None) -> None:
        self.providing_args = set(providing_args or ())
        self.name = name
        self.receivers: list[tuple[tuple[Any, Any], Any, Any]] = []

    def connect(self, receiver: Receiver | None = None, /, sender: Any = None, weak: bool = True,
                dispatch_uid: Any = None, retry: bool = False) -> Any:
        """Call `receiver` when the signal is sent (by `sender`, if given). Usable as a decorator. A `weak` receiver is
        forgotten with its last other reference; with `retry` it is called until it raises nothing."""
        if receiver is None:
            return partial(self.connect, sender=sender, weak=weak, dispatch_uid=dispatch_uid, retry=retry)
        key = _key(receiver, sender, dispatch_uid)
        if any(known == key for known, _, _ in self.receivers):
            return receiver
        called: Receiver = _Retrying(receiver) if retry else receiver
        reference: Any = called if retry or not weak else self._weak(called, key)
        self.receivers = [*self.receivers, (key, reference, sender)]
        return receiver

    def _weak(self, receiver: Receiver, key: Any) -> Any:
        def forget(_: Any) -> None:
            self.receivers = [entry for entry in self.receivers if entry[0] != key]
        kind: Any = weakref.WeakMethod if hasattr(receiver, '__self__') else weakref.ref
        try:
            return kind(receiver, forget)
        except TypeError:  # a builtin or a callable without weak references: keep it
            return receiver

    def disconnect(self, receiver: Receiver | None = None, sender: Any = None, weak: bool | None = None,
                   dispatch_uid: Any = None) -> bool:
        """Undo `connect`; say whether there was anything to undo."""
        key, before = _key(receiver, sender, dispatch_uid), self.receivers
        self.receivers = [entry for entry in before if entry[0] != key]
        return len(before) != len(self.receivers)

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether anybody would be called."""
        return any(True for _ in self._live_receivers(sender))

    def _live_receivers(self, sender: Any) -> Iterable[Receiver]:
        for _, reference, wanted in self.receivers:
            if wanted is not None and wanted is not sender and wanted != sender:
                continue
            receiver = reference() if isinstance(reference, weakref.ReferenceType) else reference
            if receiver is not None:
                yield receiver

    def send(self, sender: Any, **named: Any) -> list[tuple[Receiver, Any]]:
        """Call the receivers; returns what each returned, or the exception it raised."""
        responses: list[tuple[Receiver, Any]] = []
        for receiver in self._live_receivers(sender):
            try:
                response = receiver(signal=self, sender=sender, **named)
            except Exception as exc:
                logger.exception('Signal handler %r raised: %r', receiver, exc)
                response = exc
            responses.append((receiver, response))
        return responses

    send_robust = send

    def __repr__(self) -> str:
        return f'<Signal: {self.name} providing_args={self.providing_args!r}>'


class _Retrying:
    """A receiver that is called again, with growing pauses, until it raises nothing."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def __call__(self, **named: Any) -> Any:
        return retry_over_time(self.receiver, Exception, (), named, self._report)

    def _report(self, exc: Exception, intervals: Any, retries: int) -> float:
        interval = float(next(intervals))
        logger.warning('Signal handler %r raised %r: trying again in %ss', self.receiver, exc, interval)
        return interval


before_task_publish = Signal({'body', 'exchange', 'routing_key', 'headers', 'properties', 'declare', 'retry_policy'},
                             name='before_task_publish')
after_task_publish = Signal({'body', 'exchange', 'routing_key', 'headers'}, name='after_task_publish')
task_received = Signal({'request'}, name='task_received')
task_prerun = Signal({'task_id', 'task', 'args', 'kwargs'}, name='task_prerun')
task_postrun = Signal({'task_id', 'task', 'args', 'kwargs', 'retval'}, name='task_postrun')
task_success = Signal({'result'}, name='task_success')
task_retry = Signal({'request', 'reason', 'einfo'}, name='task_retry')
task_failure = Signal({'task_id', 'exception', 'args', 'kwargs', 'traceback', 'einfo'}, name='task_failure')
task_internal_error = Signal({'task_id', 'args', 'kwargs', 'request', 'exception', 'traceback', 'einfo'},
                             name='task_internal_error')
task_revoked = Signal({'request', 'terminated', 'signum', 'expired'}, name='task_revoked')
task_rejected = Signal({'message', 'exc'}, name='task_rejected')
task_unknown = Signal({'message', 'exc', 'name', 'id'}, name='task_unknown')
subtask_sent = task_sent = Signal({'task_id', 'task', 'args', 'kwargs', 'eta', 'taskset'}, name='task_sent')

celeryd_init = Signal({'instance', 'conf', 'options'}, name='celeryd_init')
celeryd_after_setup = Signal({'instance', 'conf'}, name='celeryd_after_setup')
import_modules = Signal(name='import_modules')
worker_init = Signal(name='worker_init')
worker_before_create_process = Signal(name='worker_before_create_process')
worker_process_init = Signal(name='worker_process_init')
worker_process_shutdown = Signal({'pid', 'exitcode'}, name='worker_process_shutdown')
worker_ready = Signal(name='worker_ready')
worker_shutdown = Signal(name='worker_shutdown')
worker_shutting_down = Signal({'sig', 'how', 'exitcode'}, name='worker_shutting_down')
heartbeat_sent = Signal(name='heartbeat_sent')
setup_logging = Signal({'loglevel', 'logfile', 'format', 'colorize'}, name='setup_logging')
after_setup_logger = Signal({'logger', 'loglevel', 'logfile', 'format', 'colorize'}, name='after_setup_logger')
after_setup_task_logger = Signal({'logger', 'loglevel', 'logfile', 'format', 'colorize'},
                                 name='after_setup_task_logger')
beat_init = Signal(name='beat_init')
beat_embedded_init = Signal(name='beat_embedded_init')
user_preload_options = Signal({'app', 'options'}, name='user_preload_options')
