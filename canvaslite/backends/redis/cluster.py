"""`ClusterBackend`: results and chords in a Redis Cluster.

What the server does in one step must lie in one hash slot. The keys of a chord, and the due index in which it stands,
therefore carry one of `TAGS` hash tags, chosen by the group's id. The results of its tasks lie where their ids put
them: a result is kept first and counted then, and a sweep counts what was kept by somebody who died between the two.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from random import randrange
from typing import Any
from zlib import crc32

from kombu.utils.encoding import bytes_to_str, ensure_bytes
from kombu.utils.objects import cached_property

from canvaslite.backends.redis import parameters
from canvaslite.backends.redis.backend import RedisBackend, SentinelBackend
from canvaslite.backends.redis.canvases import RedisCanvases
from canvaslite.backends.redis.join import RedisJoin
from canvaslite.backends.redis.link import CLUSTER_ERRORS, CONNECTION_ERRORS, Link, redis
from canvaslite.backends.redis.scripts import Script
from canvaslite.exceptions import ImproperlyConfigured

__all__ = ('ClusterBackend',)

#: Over so many hash slots chords are spread. All processes that share a cluster must agree on it.
TAGS = 16


class ClusterLink(Link):
    """Calls through redis-py's client of a cluster, which knows what lies where."""

    @property
    def cluster(self) -> Any:
        """The client."""
        if self._pool is None:
            self._pool = self._make_pool()
        return self._pool

    def call(self, *command: bytes) -> Any:
        """The reply to a command. Raises redis-py's errors."""
        return self.cluster.execute_command(command[0].decode(), *command[1:])

    def tell(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...], waits: bool = False) -> None:
        """Run a script."""
        self.run(script, keys, args)

    def connect(self) -> Any:
        """A connection to any node: what is published on one is heard on all."""
        pool = self.cluster.get_redis_connection(self.cluster.get_random_node()).connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        connection.connect()
        return connection

    def discard(self, connection: Any) -> None:
        """Hang up."""
        connection.disconnect()

    def close(self) -> None:
        """Close all connections."""
        cluster = self._pool
        self.forget()
        if cluster is not None:
            cluster.close()


class ClusterJoin(RedisJoin):
    """Joins chords for a `ClusterBackend`."""

    def _keys(self, group_id: str) -> tuple[bytes, ...]:
        return (*super()._keys(group_id)[:-1], self._due_of(_tag_of(group_id)))

    def _due_of(self, tag: int) -> bytes:
        return b'%s:{%d}' % (self._due, tag)

    def due(self, now: float, limit: int) -> Sequence[str]:
        """The chords whose time has come, of one tag after the other, from a different one each time."""
        return list(itertools.islice(self._all_due(now, limit), limit))

    def _all_due(self, now: float, limit: int) -> Iterator[str]:
        first = randrange(TAGS)
        for tag in range(first, first + TAGS):
            yield from self._due_in(self._due_of(tag % TAGS), now, limit)


class ClusterCanvases(RedisCanvases):
    """Keeps the records of a `ClusterBackend`, all in one slot: their ids stand in one index."""

    def __init__(self, backend: Any) -> None:
        super().__init__(backend)
        self._prefix += b'{canvases}'


class ClusterBackend(RedisBackend):
    """Keeps results in a Redis Cluster, of which some nodes are named:
    ``rediscluster://:password@host:port;rediscluster://host2:port``."""

    link: ClusterLink
    _read_url = staticmethod(parameters.sentinel_parameters)
    _link_class = ClusterLink
    _join_class = ClusterJoin
    _canvases_class = ClusterCanvases
    _away = (*CONNECTION_ERRORS, *CLUSTER_ERRORS)
    _joins_by_script = False  # type: ignore[assignment]
    as_uri = SentinelBackend.as_uri

    def _make_pool(self) -> Any:
        options = {**self.connparams, 'decode_responses': False}
        options.pop('retry_on_timeout')  # it always does
        if options.pop('db', 0):
            raise ImproperlyConfigured('result_backend: a Redis Cluster has no numbered databases')
        nodes = [redis.cluster.ClusterNode(host['host'], host['port']) for host in options.pop('hosts')]
        secure = options.pop('connection_class', None) is not None
        return redis.cluster.RedisCluster(
            startup_nodes=nodes, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 2),
            **options, **({'ssl': True} if secure else {}))

    @cached_property
    def client(self) -> Any:
        """redis-py's client of the cluster, for commands of your own."""
        return self.link.cluster

    def mget(self, keys: Iterable[Any]) -> Any:
        """The values of `keys`, wherever they lie."""
        return self.client.mget_nonatomic([*map(ensure_bytes, keys)])

    def get_key_for_group(self, group_id: Any, key: Any = '') -> Any:
        """The key of a saved group, or of a part of its join, in the slot of all keys of its chord."""
        name = bytes_to_str(group_id)
        return super().get_key_for_group(name and f'{{{_tag_of(name)}}}{name}', key)


def _tag_of(group_id: str) -> int:
    return crc32(str(group_id).encode()) % TAGS
