"""The base classes of result stores, and the few methods that a store has to write.

A store of its own kind (SQL, rpc, …) derives from `BaseBackend` and writes::

    _store_result(task_id, result, state, traceback=None, request=None)    result is encoded by `encode_result`
    _get_task_meta_for(task_id) -> meta                     {'status': 'PENDING', 'result': None} if unknown
    _get_task_metas_for(task_ids) -> {task_id: meta}        optional: many in one look
    _save_group, _restore_group, _delete_group, _forget     groups and forgetting
    cleanup()                                               optional: remove what has expired

A store that maps keys to bytes derives from `KeyValueStoreBackend` and writes ``get``, ``mget``, ``set``, ``delete``.
A store that can join chords itself sets ``join`` (`chords.ChordJoin`; `keyjoin.KeyValueJoin` needs compare-and-set);
without it a ``celery.chord_unlock`` task polls. A store that can notify uses `waiting.AsyncBackendMixin`.
"""

from __future__ import annotations

from canvaslite.backends.keyvalue import BaseKeyValueStoreBackend, KeyValueStoreBackend
from canvaslite.backends.store import Backend, BaseBackend, unpickle_backend
from canvaslite.backends.waiting import AsyncBackendMixin, BaseResultConsumer, SyncBackendMixin

__all__ = ('AsyncBackendMixin', 'Backend', 'BaseBackend', 'BaseDictBackend', 'BaseKeyValueStoreBackend',
           'BaseResultConsumer', 'KeyValueStoreBackend', 'SyncBackendMixin', 'unpickle_backend')

#: Celery's other name for it.
BaseDictBackend = BaseBackend
