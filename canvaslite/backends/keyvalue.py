"""Stores that map keys to bytes: Celery's keys and values over ``get``, ``mget``, ``set`` and ``delete``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from math import inf
from typing import Any
from uuid import UUID

from kombu.utils.encoding import bytes_to_str, ensure_bytes

from canvaslite import states, wire
from canvaslite.backends import chords
from canvaslite.backends.codec import Meta, unreadable
from canvaslite.backends.store import Backend
from canvaslite.backends.waiting import SyncBackendMixin
from canvaslite.exceptions import BackendStoreError, UnreadableResult
from canvaslite.result import result_from_tuple
from canvaslite.utils.time import second_done


class BaseKeyValueStoreBackend(Backend):
    """A store of keys and values. `key_t` makes a key of what the store wants (bytes by default)."""

    key_t: Callable[[Any], Any] = staticmethod(ensure_bytes)
    task_keyprefix: Any = wire.TASK_KEY_PREFIX
    group_keyprefix: Any = wire.GROUP_KEY_PREFIX

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        prefix = self._global_keyprefix()
        self.task_keyprefix = self.key_t(prefix + bytes_to_str(self.task_keyprefix))
        self.group_keyprefix = self.key_t(prefix + bytes_to_str(self.group_keyprefix))
        self._chord_expires = self.app.conf.get('result_chord_expires')

    def _global_keyprefix(self) -> str:
        options = self.app.conf.get('result_backend_transport_options') or {}
        prefix = str(options.get('global_keyprefix') or '')
        return prefix if not prefix or prefix[-1] in ':_-.' else prefix + '_'

    @property
    def chord_expires(self) -> int | None:
        """Seconds for which the state of a chord is kept: ``result_chord_expires``, or else as results."""
        if self._chord_expires is None:
            return self.expires  # type: ignore[no-any-return]
        return self.prepare_expires(self._chord_expires, type=int)  # type: ignore[no-any-return]

    @property
    def chord_result_expires(self) -> int:
        """Seconds for which what a chord has saved and users may read is kept; 0 is for ever."""
        if not self.chord_expires or not self.expires:
            return 0
        return int(max(self.chord_expires, self.expires))

    # -- what a store writes ------------------------------------------------------------------------------------

    #: ``get(key)``: the value of `key`, or None.
    get: Any = Backend._unsupported
    #: ``set(key, value)``: keep `value` under `key`, for `expires` seconds where the store can.
    set: Any = Backend._unsupported
    #: ``delete(key)``: remove `key`; nothing happens if there is none.
    delete: Any = Backend._unsupported

    def mget(self, keys: Iterable[Any]) -> Any:
        """The values of `keys`: a list in their order (None where there is none), or a mapping."""
        return [self.get(key) for key in keys]

    def _set_with_state(self, key: Any, value: Any, state: str) -> Any:
        return self.set(key, value)

    # -- keys -------------------------------------------------------------------------------------------------------

    def get_key_for_task(self, task_id: Any, key: Any = '') -> Any:
        """The key of a task's result. Raises `ValueError` for an empty id."""
        return self._get_key_for(self.task_keyprefix, task_id, key)

    def get_key_for_group(self, group_id: Any, key: Any = '') -> Any:
        """The key of a saved group; with a suffix `key`, of one part of its join."""
        return self._get_key_for(self.group_keyprefix, group_id, key)

    def _get_key_for(self, prefix: Any, id: Any, key: Any = '') -> Any:
        if not id or not isinstance(id, (str, bytes, UUID)):
            raise ValueError(f'An id must be text and not empty, got {id!r}')
        if isinstance(id, UUID):
            id = str(id)
        return prefix + self.key_t(id) + self.key_t(key)

    def _strip_prefix(self, key: Any) -> str:
        key = self.key_t(key)
        for prefix in (self.task_keyprefix, self.group_keyprefix):
            if key.startswith(prefix):
                return bytes_to_str(key[len(prefix):])
        return bytes_to_str(key)

    # -- results ----------------------------------------------------------------------------------------------------

    def _store_result(self, task_id: str, result: Any, state: str, traceback: str | None = None,
                      request: Any = None, **kwargs: Any) -> Any:
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        meta['task_id'] = bytes_to_str(task_id)
        try:
            self._replace(task_id, self.encode(meta), state)
        except BackendStoreError as exc:
            raise BackendStoreError(str(exc), state=state, task_id=task_id) from exc
        return result

    def _replace(self, task_id: str, payload: Any, state: str) -> None:
        """Keep a result, unless what is there is final. A store that can do that in one atomic step overrides this."""
        key = self.get_key_for_task(task_id)
        if not states.is_final(self._state_in(self.get(key)), state):
            self._set_with_state(key, payload, state)

    def _state_in(self, payload: Any) -> str:
        """The state that is stored; PENDING for what nobody can read, and which is no loss."""
        try:
            return str(self.decode_result(payload)['status']) if payload else states.PENDING
        except UnreadableResult:
            return states.PENDING

    def _get_task_meta_for(self, task_id: str) -> Meta:
        payload = self.get(self.get_key_for_task(task_id))
        if not payload:
            return {'status': states.PENDING, 'result': None}
        return self.decode_result(payload, task_id)

    def _get_task_metas_for(self, task_ids: Collection[str]) -> dict[str, Meta]:
        ids = list(task_ids)
        values = self.mget([self.get_key_for_task(task_id) for task_id in ids])
        if isinstance(values, Mapping):
            found = ((self._strip_prefix(key), payload) for key, payload in values.items())
        else:
            found = zip(ids, values, strict=False)  # type: ignore[assignment]
        return {bytes_to_str(task_id): self.decode_result(payload, task_id) for task_id, payload in found if payload}

    def task_result_exists(self, task_id: str) -> bool:
        """Whether the store knows the task at all, be it as PENDING."""
        return bool(self.get(self.get_key_for_task(task_id)))

    def _forget(self, task_id: str) -> None:
        self.delete(self.get_key_for_task(task_id))

    def keep_and_count(self, task_id: str, result: Any, state: str, traceback: str | None, request: Any,
                       store: bool) -> None:
        """Store a final outcome, then count it; or the success of another run of the task, which stays in the store: it
        is to be what the chord's body gets."""
        if store:
            self.store_result(task_id, result, state, traceback=traceback, request=request)
        if chords.is_part(request):
            if store and self.join is not None:
                meta = self.get_task_meta(task_id, cache=False)
                if meta['status'] == states.SUCCESS and (
                        state != states.SUCCESS or self.encode(meta['result']) != self.encode(result)):
                    outbox = self.join.outbox(request.group)
                    # What is older than the chord is of an earlier one with the same ids.
                    if outbox is not None and (second_done(meta) or inf) >= outbox.opened:
                        state, result = states.SUCCESS, meta['result']
            self.on_chord_part_return(request, state, result)

    # -- groups -----------------------------------------------------------------------------------------------------

    def _save_group(self, group_id: str, result: Any) -> Any:
        self._set_with_state(self.get_key_for_group(group_id), self.encode({'result': result.as_stored_tuple()}),
                             states.SUCCESS)
        return result

    def _restore_group(self, group_id: str) -> Meta | None:
        payload = self.get(self.get_key_for_group(group_id))
        if not payload:
            return None
        try:
            meta: Meta = self.decode(payload)
            meta['result'] = result_from_tuple(meta['result'], self.app)
        except Exception as exc:
            raise unreadable(group_id, exc) from exc
        return meta

    def _delete_group(self, group_id: str) -> Any:
        self.delete(self.get_key_for_group(group_id))


class KeyValueStoreBackend(BaseKeyValueStoreBackend, SyncBackendMixin):
    """A store of keys and values that is polled."""
