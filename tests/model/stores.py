"""The stores under the model: the real ones, with a `pause` before each atomic step that they do for a process.

=================  ====================================================================================
memory             a step of the join, and each look at or change of a result, under the memory's lock
file               a step of the join, under the folder's lock; within it a process may die before each file is changed
sqlite …           a transaction, and a query outside one
redis              a command, of which a script is one
memcached          an operation of `keyjoin.AtomicStore`, against a memcached; what concerns several keys is done one
                   key after another, as other clients may come between
atomic             the same `keyjoin` on a dictionary of this process: much faster, and exactly as atomic as promised
rpc                what is said to RabbitMQ at once, and answered: see `Queues`
=================  ====================================================================================

Each store also knows how to let time pass where it has a clock of its own (`pass_time`), and what may be left in it
when all chords are over (`left`).
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch
from urllib.parse import unquote

import amqp
import redis
from kombu.utils.encoding import ensure_bytes
from pymemcache.exceptions import MemcacheUnexpectedCloseError
from sqlalchemy import exc as sql_errors

from canvaslite import wire
from canvaslite.backends import cache, chords, filesystem, memcached, queuelink, rpc
from canvaslite.backends.database import engines
from canvaslite.backends.keyjoin import AtomicStore, KeyValueJoin
from canvaslite.backends.recordjoin import OVER
from canvaslite.backends.redis import link
from canvaslite.transport.channel import Channel
from canvaslite.transport.properties import encode_properties
from tests.model.broker import Broker, Message
from tests.model.processes import Node, atomic, here, pause

#: A method of a class before which a process stands still.
Seam = tuple[type, str, 'Callable[[], BaseException] | None']


class Store:
    """One store: its `url`, and what the model has to know of it."""

    #: Methods that are one atomic step each, with what they raise where the model has the store be away.
    seams: Sequence[Seam] = ()
    #: Whether its steps may fail, and whether Celery's workers may join chords in it with ours.
    fails = celery = False
    #: Whether anybody may ask for a result.
    keeps = True

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        self.settings: dict[str, Any] = {}
        #: Whether a process died within a step, so that something may be left which only `cleanup` removes.
        self.torn = False
        #: Bodies whose result has left, where the store says so: they must not run again.
        self.ran: set[str] = set()
        #: An app that is no process of the model.
        self.observer: Any = None

    @contextlib.contextmanager
    def stepping(self) -> Iterator[None]:
        """Within ``with`` the processes of the model stand still before each step."""
        with contextlib.ExitStack() as patches:
            for owner, name, error in self.seams:
                patches.enter_context(patch.object(owner, name, _stepping(getattr(owner, name), name, error)))
            yield

    def clear(self) -> None:
        """Nothing is left of the last schedule."""

    def pass_time(self, seconds: float) -> None:
        """Time passes for a store with a clock of its own."""

    def forget(self, node: Node) -> None:
        """The process on that node is dead: what the store's client has in memory is gone with it."""
        backend = node.app.backend
        backend._cache.clear()
        getattr(backend.join, '_leases', {}).clear()

    def unfinished(self, now: float) -> list[str]:
        """The chords that somebody would still have to look at."""
        return list(self.observer.backend.join.due(now + 10 * 86400, 10))

    def state(self, task_id: str) -> tuple[str, Any]:
        """The state and result of a task."""
        meta = self.observer.backend.get_task_meta(task_id, cache=False)
        return meta['status'], meta['result']

    def collect(self, broker: Broker) -> None:
        """Give the model's broker what the store itself has sent."""

    def left(self) -> list[str]:
        """What is left in the store and should not be, now that all chords are over."""
        return []

    def left_after_cleanup(self) -> list[str]:
        """What is left when even tombstones have expired, and the store was cleaned up."""
        return []

    def close(self) -> None:
        """Close what was opened."""


def _stepping(operation: Callable[..., Any], name: str, error: Callable[[], BaseException] | None
              ) -> Callable[..., Any]:
    def step(*args: Any, **kwargs: Any) -> Any:
        return atomic(name, error, operation, *args, **kwargs)

    return step


class Memory(Store):
    seams = ((cache.MemoryJoin, 'step', None), (cache.MemoryJoin, 'due', None), (cache.CacheBackend, 'get', None),
             (cache.CacheBackend, 'set', None), (cache.CacheBackend, '_replace', None))

    @contextlib.contextmanager
    def stepping(self) -> Iterator[None]:
        # What is replaced is looked at and set in one step.
        with super().stepping(), patch.object(cache.CacheBackend, '_replace', _whole(cache.CacheBackend._replace)):
            yield

    def clear(self) -> None:
        cache.memory.chords.clear()
        cache.memory.values.clear()

    def left(self) -> list[str]:
        return [f'{group_id}: {record.head}' for group_id, record in cache.memory.chords.items()
                if not group_id.startswith('run:') and (
                    record.head is None or record.head.state != OVER or record.outbox() or record.parts())]


def _whole(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation within which nobody stands still: another one is one of its steps."""
    def step(*args: Any) -> Any:
        node = here()
        if node is None:
            return operation(*args)
        with node.at_a_stretch():
            return operation(*args)

    return step


class Files(Store):
    @contextlib.contextmanager
    def stepping(self) -> Iterator[None]:
        with contextlib.ExitStack() as patches, super().stepping():
            for owner, name in ((filesystem.FolderJoin, 'step'), (filesystem.FilesystemBackend, '_replace')):
                patches.enter_context(patch.object(owner, name, _locked(getattr(owner, name), name)))
            for name in ('get', 'set', 'delete'):
                patches.enter_context(patch.object(
                    filesystem.FilesystemBackend, name, _file_step(getattr(filesystem.FilesystemBackend, name), name)))
            yield

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return Path(self.url.removeprefix('file://'))

    def clear(self) -> None:
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def left(self) -> list[str]:
        found = []
        for folder in self.folder.glob(f'{wire.JOIN_PREFIX}*'):
            head = self.observer.backend.decode((folder / 'head').read_bytes()) if (folder / 'head').exists() else None
            names = {path.name for path in folder.iterdir()} - {'head', 'lock'}
            if not folder.name.startswith(f'{wire.JOIN_PREFIX}run') and (
                    (head is not None and head[2] != OVER) or (names and not self.torn)):
                found.append(f'{folder.name}: {head} {names}')
        return found

    def left_after_cleanup(self) -> list[str]:
        with patch.object(filesystem, 'time', Mock(time=lambda: time.time() + 30 * 86400)):
            self.observer.backend.cleanup()
        return [path.name for path in self.folder.iterdir() if not path.name.startswith('.lock')]


def _locked(operation: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A step under a lock: nobody else comes between, but the process may die before each file that it changes."""
    def step(*args: Any) -> Any:
        node = here()
        if node is None:
            return operation(*args)
        pause(name)
        with node.at_a_stretch():
            return operation(*args)

    return step


def _file_step(operation: Callable[..., Any], name: str) -> Callable[..., Any]:
    def step(*args: Any) -> Any:
        node = here()
        if node is not None and node.stretched:
            if name != 'get':
                node.burn()
        else:
            pause(f'file {name}')
        return operation(*args)

    return step


def _database_lost() -> BaseException:
    return sql_errors.OperationalError('model', {}, Exception('the model has the database be away'),
                                       connection_invalidated=True)


class Tables(Store):
    seams = ((engines.Database, '_transact_once', _database_lost), (engines.Database, '_fetch_once', _database_lost))
    fails = True

    def clear(self) -> None:
        database = self.observer.backend.database
        self.observer.backend.prepare()
        with database.engine.begin() as connection:
            for table in ('celery_taskmeta', 'celery_tasksetmeta', 'cl_join_part', 'cl_join'):
                connection.exec_driver_sql(f'DELETE FROM {table}')

    def left(self) -> list[str]:
        with self.observer.backend.database.engine.begin() as connection:
            chords = connection.exec_driver_sql(
                "SELECT gid, state FROM cl_join WHERE gid NOT LIKE 'run:%%'"
                " AND (state <> 'done' OR callback IS NOT NULL OR slots IS NOT NULL)")
            return [f'{row}' for row in chords] + [
                f'part {row}' for row in connection.exec_driver_sql('SELECT gid, slot FROM cl_join_part')]


def _redis_lost() -> BaseException:
    return redis.exceptions.ConnectionError('the model has Redis be away')


#: Time passes for the keys that are to expire.
_PASS_TIME = """
for _, key in ipairs(redis.call('KEYS', '*')) do
    local left = redis.call('PTTL', key)
    if left >= 0 then
        if left <= tonumber(ARGV[1]) then redis.call('DEL', key)
        else redis.call('PEXPIRE', key, left - ARGV[1]) end
    end
end
"""


class Redis(Store):
    seams = ((link.Link, 'call', _redis_lost),)
    fails = celery = True

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, name)
        self.client = redis.Redis.from_url(url)

    def clear(self) -> None:
        self.client.flushdb()

    def pass_time(self, seconds: float) -> None:
        self.client.eval(_PASS_TIME, 0, int(seconds * 1000))

    def left(self) -> list[str]:
        found = []
        for key in self.client.scan_iter(count=1000):
            name, stays = key.decode(), self.client.ttl(key) >= 0
            if name[-2:-1] == '.':
                stays = stays and (name.endswith('.j') or (name.endswith('.c') and self.client.get(key) == b'done'))
            if name.startswith('celery-taskset-meta-') and not stays:
                found.append(f'{name}: {self.client.type(key).decode()}, for {self.client.ttl(key)} s')
            elif name.startswith('canvaslite-join'):
                found.append(f'{name}: {self.client.zrange(key, 0, -1)}')
        return found

    def close(self) -> None:
        self.client.close()


def _memcached_lost() -> BaseException:
    return MemcacheUnexpectedCloseError('the model has memcached be away')


def _split(operation: Callable[..., Any], name: str) -> Callable[..., Any]:
    """An operation on several keys, one key after another."""
    def step(store: Any, keys: Any, *args: Any) -> Any:
        if here() is None:
            return operation(store, keys, *args)
        if name == 'set_many':
            for key, value in keys.items():
                atomic(f'set {key}', _memcached_lost, operation, store, {key: value}, *args)
            return None
        found: dict[str, bytes] = {}
        for key in keys:
            found.update(atomic(f'{name} {key}', _memcached_lost, operation, store, [key], *args) or {})
        return found

    return step


class Keys(Store):
    """A store with `keyjoin`."""

    fails = True
    kind: type = memcached.Memcached

    @contextlib.contextmanager
    def stepping(self) -> Iterator[None]:
        with contextlib.ExitStack() as patches, super().stepping():
            for name in ('get_many', 'set_many', 'delete_many'):
                patches.enter_context(patch.object(self.kind, name, _split(getattr(self.kind, name), name)))
            for name in ('get_token', 'add', 'cas', 'append', 'count'):
                operation = getattr(self.kind, name)
                patches.enter_context(patch.object(self.kind, name, _stepping(operation, name, _memcached_lost)))
            yield

    def keys(self) -> Collection[str]:
        """The keys that are there."""
        text = self.observer.backend.store._clients()[0].raw_command(b'lru_crawler metadump all', b'END\r\n')
        return [unquote(line.split()[0].removeprefix('key=')) for line in text.decode().splitlines()
                if line.startswith('key=')]

    def clear(self) -> None:
        self.observer.backend.store._clients()[0].flush_all(noreply=False)

    def left(self) -> list[str]:
        found = []
        for name, value in self.observer.backend.store.get_many(list(self.keys())).items():
            if name.startswith(wire.JOIN_DUE):
                over = not json.loads(value)
            else:
                over = not name.startswith(wire.JOIN_PREFIX) or bool(
                    re.fullmatch(r'(run:)?[0-9a-f-]{36}(\.begun[\d.]+)?', name.removeprefix(wire.JOIN_PREFIX))
                    and json.loads(value)[2] == OVER)
            if not over:
                found.append(f'{name}: {value!r:.100}')
        return found


class Dictionary:
    """An `AtomicStore` in this process: exactly as atomic as it must be."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[int, bytes]] = {}
        self._changes = 0

    def _keep(self, key: str, value: bytes) -> bool:
        self._changes += 1
        self.values[key] = self._changes, value
        return True

    def get_many(self, keys: Collection[str]) -> dict[str, bytes]:
        return {key: self.values[key][1] for key in keys if key in self.values}

    def get_token(self, key: str) -> tuple[bytes | None, Any]:
        token, value = self.values.get(key, (None, None))
        return value, token

    def set_many(self, values: Mapping[str, bytes], seconds: int) -> None:
        for key, value in values.items():
            self._keep(key, value)

    def add(self, key: str, value: bytes, seconds: int) -> bool:
        return key not in self.values and self._keep(key, value)

    def cas(self, key: str, value: bytes, token: Any, seconds: int) -> bool:
        return self.values.get(key, (None,))[0] == token and self._keep(key, value)

    def append(self, key: str, value: bytes) -> bool:
        return key in self.values and self._keep(key, self.values[key][1] + value)

    def count(self, key: str, change: int) -> int | None:
        if key not in self.values:
            return None
        changed = max(0, int(self.values[key][1]) + change)
        self._keep(key, b'%d' % changed)
        return changed

    def delete_many(self, keys: Collection[str]) -> None:
        for key in keys:
            self.values.pop(key, None)

    def close(self) -> None:
        self.values.clear()


#: One for all apps of this process.
DICTIONARY: AtomicStore = Dictionary()


class DictionaryBackend(memcached.MemcachedBackend):
    """`MemcachedBackend`, whose servers are `DICTIONARY`."""

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(app, *args, **kwargs)
        self.store: Any = DICTIONARY
        assert isinstance(self.join, KeyValueJoin)


class InProcess(Keys):
    """`keyjoin` on a dictionary."""

    kind = Dictionary

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, name)
        self.settings = {'cache_backend': 'memcached://127.0.0.1:1/'}  # nobody connects to it

    def keys(self) -> Collection[str]:
        return list(self.observer.backend.store.values)

    def clear(self) -> None:
        self.observer.backend.store.values.clear()


def _connection_lost() -> BaseException:
    return amqp.RecoverableConnectionError('the model has RabbitMQ be away')


class Queues(Store):
    """RabbitMQ alone. The messages of header and errbacks are the model's, the chord's own queue and the body, which
    leaves it in a transaction, are RabbitMQ's. A step is a method that RabbitMQ is sent, with its answer; reading a
    chord's queue is one, for who reads has it alone. When a process dies its connections are closed.

    Nobody but the sender can read a result: that the body ran, or its errbacks, is all that is asked; and that it does
    not run again once its result has left.
    """

    seams = ((queuelink.Link, 'add', _connection_lost), (queuelink.Link, 'begin', _connection_lost),
             (queuelink.Link, 'count', _connection_lost), (queuelink.Holding, 'read', _connection_lost),
             (queuelink.Holding, 'send', _connection_lost), (rpc.RPCBackend, 'store_result', None),
             *((Channel, name, _connection_lost) for name in ('tx_select', 'tx_commit', 'queue_delete', 'basic_get')))
    fails, keeps = True, False
    #: Of the queues that chords, watches and tasks are in.
    names = (wire.CHORDS_WATCHED_QUEUE, wire.CHORDS_DUE_QUEUE, 'celery')

    def __init__(self, url: str, name: str) -> None:
        super().__init__('rpc://', name)
        self.settings = {'broker_url': url, 'broker_pool_limit': None}
        self.begun: set[str] = set()
        self._connection: Any = None
        self._waited = 0.0

    @contextlib.contextmanager
    def stepping(self) -> Iterator[None]:
        with (super().stepping(), patch.object(queuelink.Link, 'begin', self._noting(queuelink.Link.begin)),
              patch.object(queuelink.Link, 'add_with', self._noting_end(queuelink.Link.add_with))):
            yield

    def _noting_end(self, add_with: Callable[..., Any]) -> Callable[..., Any]:
        def step(link: Any, queue: str, said: Any, *args: Any) -> Any:
            add_with(link, queue, said, *args)
            self.ran.add(said[1])

        return step

    def _noting(self, begin: Callable[..., Any]) -> Callable[..., Any]:
        def step(link: Any, queue: str, *args: Any) -> Any:
            self.begun.add(queue)
            return begin(link, queue, *args)

        return step

    @property
    def channel(self) -> Any:
        """A channel of the model's own."""
        if self._connection is None:
            self._connection = self.observer.connection_for_write(transport_options={'confirm_publish': False})
            watches = {**queuelink.OF_WATCHES, 'x-dead-letter-routing-key': wire.CHORDS_DUE_QUEUE}
            for name, arguments in zip(self.names, (watches, {'x-queue-type': 'classic'}, None), strict=True):
                self._connection.default_channel.queue_declare(name, durable=True, auto_delete=False,
                                                               arguments=arguments)
        return self._connection.default_channel

    def clear(self) -> None:
        self._waited = 0.0
        self.ran.clear()
        for queue in self.begun:
            self.channel.queue_delete(queue)
        self.begun.clear()
        for name in self.names:
            self.channel.queue_purge(name)

    def pass_time(self, seconds: float) -> None:
        self._waited += seconds
        if self._waited >= chords.LOOK_INTERVAL:
            self._waited = 0.0
            while (message := self.channel.basic_get(wire.CHORDS_WATCHED_QUEUE, no_ack=True)) is not None:
                self.channel.basic_publish(message, '', wire.CHORDS_DUE_QUEUE)

    def collect(self, broker: Broker) -> None:
        while (message := self.channel.basic_get('celery', no_ack=True)) is not None:
            known = message.properties
            properties = encode_properties(known.pop('application_headers'), **known)
            broker.arrive([Message(properties, ensure_bytes(message.body))])

    def forget(self, node: Node) -> None:
        join = node.app.backend.join
        for own in (*join._idle, *(held.link for held in join._held.values())):
            own.connection.close()
        join._idle, join._held, join._due = [], {}, {}
        join._in_vain.clear()

    def unfinished(self, now: float) -> list[str]:
        return [name for name in self.names[:2]
                if self.channel.queue_declare(name, passive=True).message_count]

    def left(self) -> list[str]:
        found = []
        for queue in self.begun:
            with contextlib.suppress(amqp.NotFound):
                self.channel.queue_declare(queue, passive=True)
                found.append(queue)
        return found

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


KINDS: Mapping[str, type[Store]] = {
    'memory': Memory, 'file': Files, 'sqlite': Tables, 'postgresql': Tables, 'mysql': Tables, 'redis': Redis,
    'memcached': Keys, 'atomic': InProcess, 'rpc': Queues}
