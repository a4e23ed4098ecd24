"""`Backend`: what every result store can do. The page to read first is `backends.base`."""

from __future__ import annotations

import logging
import random
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from kombu.utils.encoding import ensure_bytes
from kombu.utils.functional import LRUCache
from kombu.utils.url import maybe_sanitize_url

from canvaslite import states, wire
from canvaslite.backends import chords
from canvaslite.backends.canvases import CanvasStore
from canvaslite.backends.codec import Meta, ResultCodec
from canvaslite.backends.failures import FailurePropagation
from canvaslite.backends.heads import OVER
from canvaslite.backends.sweeping import end_chord, sweep
from canvaslite.backends.waiting import SyncBackendMixin
from canvaslite.current import get_current_app, get_current_task
from canvaslite.exceptions import (
    BackendGetMetaError,
    BackendStoreError,
    ImproperlyConfigured,
    TaskRevokedError,
    TimeoutError,
)
from canvaslite.result.nodes import CanvasRecord, Run, read_run
from canvaslite.utils.outage import Outage
from canvaslite.utils.redact import one_line, redact

__all__ = ('Backend', 'BaseBackend', 'unpickle_backend')

logger = logging.getLogger('celery.backends')


class _NoCache(dict[str, Meta]):
    """A cache that keeps nothing."""

    def __setitem__(self, key: str, value: Meta) -> None:
        pass


def unpickle_backend(cls: type[Backend], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Backend:
    """A store like the pickled one, for the current app."""
    return cls(*args, **{'app': get_current_app(), **kwargs})


class Backend(ResultCodec, FailurePropagation):
    """A result store. Safe to use from several threads, and after a fork.

    `expires` is in seconds; `expires_type` converts it; `url` is what the store was found by.
    """

    TimeoutError = TimeoutError

    #: Whether one look fetches many results.
    supports_native_join = False
    #: Whether the store forgets expired results by itself.
    supports_autoexpire = False
    #: Whether results outlive the store's process.
    persistent = True
    #: Whether the result of any task can be looked up, and set, by its id alone.
    keeps_results = True
    #: Whether ``result_failure_expires`` is honoured.
    supports_failure_expires = False
    #: How this store joins chords; None where a ``celery.chord_unlock`` task has to poll.
    join: chords.ChordJoin | None = None
    #: Where records of canvases are kept; None where that is not possible.
    canvases: CanvasStore | None = None
    #: Whether Celery joins chords in this store by a task that polls: `result_chord_join` may ask for that here too.
    celery_polls = False
    #: Whether the threads of a process may share one instance; None: as ``result_backend_thread_safe`` says.
    thread_safe: bool | None = None

    retry_policy: Mapping[str, Any] = {'max_retries': 20, 'interval_start': 0, 'interval_step': 1, 'interval_max': 1}

    def __init__(self, app: Any, serializer: str | None = None, max_cached_results: int | None = None,
                 accept: Iterable[str] | None = None, expires: Any = None,
                 expires_type: Callable[[float], Any] | None = None, url: str | None = None, **kwargs: Any) -> None:
        self.app = app
        self.url = url
        conf = app.conf
        self.prepare_codec(serializer, accept)
        cached = max_cached_results or conf.result_cache_max
        self._cache: Any = _NoCache() if cached == -1 else LRUCache(limit=cached)
        self.expires = self.prepare_expires(expires, expires_type)
        if conf.get('result_failure_expires') is not None and not self.supports_failure_expires:
            warnings.warn(f'{type(self).__name__} does not honour result_failure_expires: failures expire like '
                          'any other result', UserWarning, stacklevel=2)
        if conf.result_chord_join not in ('native', 'compat'):
            raise ImproperlyConfigured(f"result_chord_join is {conf.result_chord_join!r}; use 'native', or 'compat' "
                                       'where Celery workers run parts of our chords on a store in which they poll')
        self.outage = Outage(logger)
        self.always_retry = conf.get('result_backend_always_retry', False)
        self.max_sleep_between_retries_ms = conf.get('result_backend_max_sleep_between_retries_ms', 10000)
        self.base_sleep_between_retries_ms = conf.get('result_backend_base_sleep_between_retries_ms', 10)
        self.max_retries = conf.get('result_backend_max_retries', float('inf'))
        if self.thread_safe is None:
            self.thread_safe = bool(conf.get('result_backend_thread_safe', False))

    def retry_by_default(self) -> None:
        """Try three times more what fails, as Celery does with a database, unless the user says otherwise."""
        conf = self.app.conf
        if not conf.value_set_for('result_backend_always_retry') or self.always_retry is None:
            self.always_retry = True
        if not conf.value_set_for('result_backend_max_retries') or self.max_retries is None:
            self.max_retries = 3

    def as_uri(self, include_password: bool = False) -> str:
        """Where the store is, its password masked unless `include_password`."""
        if include_password:
            return self.url or ''
        url = redact(maybe_sanitize_url(self.url or ''))
        return url[:-1] if url.endswith(':///') else url

    # -- a task's progress ---------------------------------------------------------------------------------------

    def mark_as_started(self, task_id: str, **meta: Any) -> Any:
        """The task has started; `meta` is kept as its result until there is one."""
        return self.store_result(task_id, meta, states.STARTED)

    def mark_as_done(self, task_id: str, result: Any, request: Any = None, store_result: bool = True,
                     state: str = states.SUCCESS) -> None:
        """The task has succeeded: keep its result, and count it in its chord."""
        store = store_result and not (request is not None and request.ignore_result)
        self.keep_outcome(task_id, result, state, None, request, store)

    def mark_as_failure(self, task_id: str, exc: BaseException, traceback: str | None = None, request: Any = None,
                        store_result: bool = True, call_errbacks: bool = True, state: str = states.FAILURE) -> None:
        """The task has failed: keep the error, fail what depends on it, call its errbacks."""
        self.keep_outcome(task_id, exc, state, traceback, request, store_result)
        if request is None:
            return
        self._fail_chain(getattr(request, 'chain', None), exc, traceback, store_result=store_result, state=state)
        if call_errbacks and request.errbacks:
            self._call_task_errbacks(request, exc, traceback)

    def mark_as_revoked(self, task_id: str, reason: str = '', request: Any = None, store_result: bool = True,
                        state: str = states.REVOKED) -> None:
        """The task was revoked before it ran, or is not to be run any more."""
        self.keep_outcome(task_id, TaskRevokedError(reason), state, None, request, store_result)

    def mark_as_retry(self, task_id: str, exc: Any, traceback: str | None = None, request: Any = None,
                      store_result: bool = True, state: str = states.RETRY) -> Any:
        """The task will run again; keeps the exception that caused it."""
        return self.store_result(task_id, exc, state, traceback=traceback, request=request)

    def keep_outcome(self, task_id: str, result: Any, state: str, traceback: str | None, request: Any,
                     store: bool) -> None:
        """Store a final outcome (if `store`), count it in the chord that the request belongs to, if any, and send what
        waits for it in a group with ``max_concurrency``."""
        self.keep_and_count(task_id, result, state, traceback, request, store)
        headers = None if request is None else request.headers
        if headers.__class__ is dict and isinstance(window := headers.get(wire.WINDOW_HEADER), str):
            self.app.publisher.end_member(window, request.id)

    def keep_and_count(self, task_id: str, result: Any, state: str, traceback: str | None, request: Any,
                       store: bool) -> None:
        """Store a final outcome and count it. A store that can do both in one atomic step overrides this."""
        if store:
            self.store_result(task_id, result, state, traceback=traceback, request=request)
        if chords.is_part(request):
            self.on_chord_part_return(request, state, result)

    def store_result(self, task_id: str, result: Any, state: str, traceback: str | None = None, request: Any = None,
                     **kwargs: Any) -> Any:
        """Keep a task's state and result; returns the result as it was encoded.

        A success is never overwritten. Raises `BackendStoreError` (or the store's own error, without
        ``result_backend_always_retry``) when the store cannot be reached, `EncodeError` for what cannot be written.
        """
        result = self.encode_result(result, state)
        # By position: backends written for Celery may call these parameters something else.
        self._ensure_retryable(self._store_result, task_id, result, state, traceback,
                               fallback_exc=partial(BackendStoreError, task_id=task_id, state=state),
                               fallback_msg='failed to store result on the backend', request=request, **kwargs)
        return result

    def _unsupported(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f'{type(self).__name__} does not keep this')

    # What a store writes: see `backends.base`.
    _store_result: Any = _unsupported
    _get_task_meta_for: Any = _unsupported
    _forget: Any = _unsupported
    _save_group: Any = _unsupported
    _restore_group: Any = _unsupported
    _delete_group: Any = _unsupported

    def _get_result_meta(self, result: Any, state: str, traceback: Any, request: Any, format_date: bool = True,
                         encode: bool = False) -> Meta:
        date_done: Any = None
        if state in states.READY_STATES:
            date_done = self.app.now()
            if format_date:
                date_done = date_done.isoformat()
        meta: Meta = {'status': state, 'result': result, 'traceback': traceback,
                      'children': self.current_task_children(request), 'date_done': date_done}
        if request is None:
            return meta
        if getattr(request, 'group', None):
            meta['group_id'] = request.group
        if getattr(request, 'parent_id', None):
            meta['parent_id'] = request.parent_id
        if self.app.conf.result_extended:
            meta.update(self._describe_request(request, encode))
        return meta

    def _describe_request(self, request: Any, encode: bool) -> Meta:
        delivery = getattr(request, 'delivery_info', None)
        described = {name: getattr(request, attribute, None) for name, attribute in _EXTENDED}
        described['queue'] = delivery.get('routing_key') if delivery else None
        if getattr(request, 'stamps', None):
            names = request.stamped_headers
            described['stamped_headers'] = names
            described.update((name, value) for name, value in request.stamps.items() if name in (names or ()))
        if encode:
            for name in ('args', 'kwargs'):
                described[name] = ensure_bytes(self.encode(described[name]))
        return described

    def current_task_children(self, request: Any = None) -> list[Any] | None:
        """What the task of `request` (or the running one) has sent, as tuples."""
        if request is None:
            request = getattr(get_current_task(), 'request', None)
        if request is None:
            return None
        return [child.as_stored_tuple() for child in getattr(request, 'children', ())]

    # -- reading ----------------------------------------------------------------------------------------------------

    def get_task_meta(self, task_id: str, cache: bool = True) -> Meta:
        """What is known of a task: ``status``, ``result`` and more. An unknown task is PENDING."""
        self._ensure_not_eager()
        if cache and task_id in self._cache:
            return self._cache[task_id]  # type: ignore[no-any-return]
        meta: Meta = self._ensure_retryable(self._get_task_meta_for, task_id,
                                            fallback_exc=partial(BackendGetMetaError, task_id=task_id),
                                            fallback_msg='failed to get meta')
        if cache and meta.get('status') == states.SUCCESS:
            self._cache[task_id] = meta
        return meta

    def get_outcome(self, task_id: str, request: Any) -> Meta:
        """What the store itself says now of the task whose `request` came again; ``settled`` in it: nothing of it is
        left to be done."""
        return self.get_task_meta(task_id, cache=False)

    def get_task_metas(self, task_ids: Collection[str]) -> dict[str, Meta]:
        """What is known of those tasks, in one look where the store can; unknown tasks are left out."""
        found: dict[str, Meta] = {task_id: self._cache[task_id] for task_id in task_ids if task_id in self._cache}
        missing = [task_id for task_id in task_ids if task_id not in found]
        if missing:
            fetched = self._ensure_retryable(self._get_task_metas_for, missing, fallback_exc=BackendGetMetaError,
                                             fallback_msg='failed to get meta')
            for task_id, meta in fetched.items():
                found[task_id] = meta
                if meta['status'] in states.READY_STATES:
                    self._cache[task_id] = meta
        return found

    def _get_task_metas_for(self, task_ids: Collection[str]) -> dict[str, Meta]:
        metas = ((task_id, self._get_task_meta_for(task_id)) for task_id in task_ids)
        return {task_id: meta for task_id, meta in metas if meta['status'] != states.PENDING}

    def get_state(self, task_id: str) -> str:
        """The task's state."""
        return self.get_task_meta(task_id)['status']  # type: ignore[no-any-return]

    get_status = get_state

    def get_traceback(self, task_id: str) -> str | None:
        """The traceback of a failed task."""
        return self.get_task_meta(task_id).get('traceback')

    def get_result(self, task_id: str) -> Any:
        """The task's return value or exception."""
        return self.get_task_meta(task_id).get('result')

    def get_children(self, task_id: str) -> Any:
        """What the task has sent."""
        return self.get_task_meta(task_id).get('children')

    def task_result_exists(self, task_id: str) -> bool:
        """Whether the store knows the task at all."""
        return bool(self._get_task_meta_for(task_id)['status'] != states.PENDING)

    def is_cached(self, task_id: str) -> bool:
        """Whether the result is in this process already."""
        return task_id in self._cache

    def forget(self, task_id: str) -> None:
        """Remove what is known of the task."""
        self._cache.pop(task_id, None)
        self._ensure_retryable(self._forget, task_id)

    # -- groups ----------------------------------------------------------------------------------------------------

    def save_group(self, group_id: str, result: Any) -> Any:
        """Keep a `GroupResult`, for `restore_group`."""
        return self._ensure_retryable(self._save_group, group_id, result)

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        """The `GroupResult` that was saved, or None."""
        meta = self.get_group_meta(group_id, cache=cache)
        return meta['result'] if meta else None

    def get_group_meta(self, group_id: str, cache: bool = True) -> Meta | None:
        """What was saved of the group, its ``result`` as a `GroupResult`."""
        self._ensure_not_eager()
        if cache and group_id in self._cache:
            return self._cache[group_id]  # type: ignore[no-any-return]
        meta: Meta | None = self._ensure_retryable(self._restore_group, group_id)
        if cache and meta is not None:
            self._cache[group_id] = meta
        return meta

    def delete_group(self, group_id: str) -> Any:
        """Remove a saved group."""
        self._cache.pop(group_id, None)
        return self._ensure_retryable(self._delete_group, group_id)

    # -- canvases --------------------------------------------------------------------------------------------------

    @property
    def keeps_canvases(self) -> bool:
        """Whether records of canvases are kept here (``result_canvas_index``)."""
        return self.canvases is not None and bool(self.app.conf.result_canvas_index)

    def keep_canvas(self, record: CanvasRecord) -> None:
        """Keep the record of a canvas that is about to be sent. A store that is away is warned of: the canvas works
        without."""
        try:
            if self.canvases is not None:
                self.canvases.keep(record)
        except Exception as exc:
            self.warn_of_no_record(record, exc)

    def warn_of_no_record(self, record: CanvasRecord, exc: Exception) -> None:
        """Say in the log that a canvas is sent without a record."""
        self.outage.note(logging.WARNING, 'No record is kept of the canvas %s, which cannot be found by its ids (with '
                         'result_canvas_index = False none is ever kept): %s', record.run, redact(one_line(exc)))

    def find_canvas(self, task_id: str) -> Run | None:
        """The run that a task, group or canvas with this id is part of; None if no record of it is kept."""
        if self.canvases is None or not self.app.conf.result_canvas_index:
            return None
        found = self._ensure_retryable(self.canvases.find, task_id)
        return None if found is None else read_run(*found)

    def forget_canvas(self, run: Run) -> None:
        """Remove the records of a run, and what is kept of its chords."""
        if self.canvases is not None:
            self._ensure_retryable(self.canvases.drop, run.id, list(run.nodes))
        for node in run.nodes.values():
            if node.kind == 'group':
                self.forget_chord(str(node.id))

    # -- chords ----------------------------------------------------------------------------------------------------

    def forget_chord(self, group_id: str) -> None:
        """Remove what is kept of a chord that has ended, and the header that was saved."""
        head = None if self.join is None else self.join.head(group_id)
        if self.join is not None and head is not None and head.state == OVER:
            self.join.forget(group_id)
            self.delete_group(group_id)

    def ensure_chords_allowed(self) -> None:
        """Raise if this store cannot join chords."""

    def apply_chord(self, header_result_args: tuple[Any, ...], body: Any, slots: Sequence[chords.Slot] = (),
                    **kwargs: Any) -> None:
        """Prepare the join of a chord, before its first header task is sent.

        `header_result_args` are the arguments of the header's `GroupResult`, `slots` the tasks that end the header;
        `kwargs` are ``interval``, ``countdown`` and ``max_retries`` of the polling task, used only where the store
        cannot join.
        """
        self.ensure_chords_allowed()
        join = self.join_of_new
        if join is None:
            self.fallback_chord_unlock(self.app.GroupResult(*header_result_args), body, **kwargs)
        else:
            chords.open_chord(self, join, header_result_args, body, slots)

    @property
    def join_of_new(self) -> chords.ChordJoin | None:
        """How a chord that begins now is joined; None by a ``celery.chord_unlock`` task."""
        return None if self.celery_polls and self.app.conf.result_chord_join == 'compat' else self.join

    def abort_chord(self, group_id: str, reason: str = 'revoked') -> bool:
        """End a chord whatever is missing: its body, and what depends on that, becomes REVOKED. False if the chord has
        ended, or is unknown."""
        return self.join is not None and end_chord(self, self.join, group_id, reason)

    def sweep_chords(self) -> int:
        """End the chords that those who were to do it have left, by death or by a deadline; how many these were.

        Every worker calls this every few seconds.
        """
        return 0 if self.join is None else sweep(self, self.join)

    def fallback_chord_unlock(self, header_result: Any, body: Any, countdown: float = 1, **kwargs: Any) -> None:
        """Send the ``celery.chord_unlock`` task, which polls until the header is ready."""
        chords.send_unlock_task(self, header_result, body, countdown=countdown, **kwargs)

    def set_chord_size(self, group_id: str, chord_size: int, slots: Sequence[chords.Slot] = ()) -> None:
        """How many parts the chord waits for, and which tasks they are to come from."""
        if self.join is not None:
            self.join.set_size(group_id, chord_size, slots)

    @property
    def is_told_chord_sizes(self) -> bool:
        """Whether `set_chord_size` is another one than ours: it is called for each chord, after `apply_chord`."""
        return getattr(self.set_chord_size, '__func__', None) is not Backend.set_chord_size

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """The chord waits for one part more: `result`, sent from inside its header. Raises `ImproperlyConfigured` where
        a task polls for the chord, which has the list of those it waits for."""
        if self.join is None:
            raise ImproperlyConfigured(f'result_backend: {type(self).__name__} cannot add to a running chord')
        self.join.extend(chord_id, getattr(result, 'id', None))

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """A header task ended: count it, and send the body if it was the last one."""
        if self.join is not None:
            chords.return_part(self, self.join, request, state, result)

    # -- housekeeping -------------------------------------------------------------------------------------------

    def cleanup(self) -> None:
        """Remove what has expired."""

    def process_cleanup(self) -> None:
        """Called after each task in a worker process, and when it ends."""

    def on_task_call(self, producer: Any, task_id: str) -> Any:
        """Called when a task is sent, by stores that override it."""
        return {}

    def prepare_persistent(self, enabled: bool | None = None) -> bool:
        """Whether result messages outlive the broker: `enabled`, else ``result_persistent``, else the class's."""
        if enabled is None:
            enabled = self.app.conf.result_persistent
        return self.persistent if enabled is None else enabled

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Whether the operation that raised `exc` may be tried again (``result_backend_always_retry``)."""
        return False

    def on_backend_retryable_error(self, exc: Exception) -> None:
        """Called before an operation is tried again."""

    def _ensure_retryable(self, operation: Callable[..., Any], *args: Any, fallback_exc: Any = None,
                          fallback_msg: str | None = None, max_retries: float | None = None, **kwargs: Any) -> Any:
        retries, limit = 0, self.max_retries if max_retries is None else max_retries
        while True:
            try:
                done = operation(*args, **kwargs)
                if retries:
                    self.outage.end('The result backend')
                return done
            except Exception as exc:
                if not (self.always_retry and self.exception_safe_to_retry(exc)):
                    raise
                if retries >= limit:
                    if fallback_exc is None:
                        raise
                    raise fallback_exc(fallback_msg) from exc
                retries += 1
                self.outage.note(logging.WARNING, 'Result backend: %s failed (%s), trying again (%s of %s)',
                                 getattr(operation, '__name__', operation), redact(one_line(exc)), retries, limit)
                self.on_backend_retryable_error(exc)
            ceiling = min(self.max_sleep_between_retries_ms, self.base_sleep_between_retries_ms * 2 ** min(retries, 32))
            time.sleep(random.uniform(0, ceiling) / 1000)

    def _ensure_not_eager(self) -> None:
        conf = self.app.conf
        if conf.task_always_eager and not conf.task_store_eager_result:
            warnings.warn('Results are not stored in the backend with task_always_eager, unless '
                          'task_store_eager_result is set: do not look for them there.', RuntimeWarning, stacklevel=3)

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return unpickle_backend, (self.__class__, args, kwargs or {})


#: Names in an extended result, and the attributes of a request that they are read from.
_EXTENDED = (('name', 'task'), ('args', 'args'), ('kwargs', 'kwargs'), ('worker', 'hostname'), ('retries', 'retries'))


class BaseBackend(Backend, SyncBackendMixin):
    """A store that is polled."""

