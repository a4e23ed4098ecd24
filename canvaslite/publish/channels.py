"""The channels through which an app publishes: a bounded pool, one connection each.

Every channel has a connection to itself, so threads never share a socket, and an error on one concerns nobody else.
The pool hands out the channel that came back last: the others stay idle and the fewest possible are opened.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any

from kombu.common import maybe_declare

from canvaslite.publish.destination import Destination
from canvaslite.publish.errors import no_free_connection
from canvaslite.transport.connection import close_inherited

__all__ = ('ChannelPool', 'PublishChannel')


#: Destinations that a channel remembers; others are looked up again, which costs little.
_DESTINATIONS_KEPT = 1000


class PublishChannel:
    """One connection and its channel, used by one thread at a time."""

    __slots__ = ('channel', 'connection', 'declared', 'retired')

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        #: None until it is opened, and after it was lost.
        self.channel: Any = None
        #: Destinations whose queues and exchanges were declared on this connection.
        self.declared: set[Destination] = set()
        #: Whether it is to be closed when it comes back to the pool.
        self.retired = False

    def open(self) -> Any:
        """The open channel. Each host of the URL is tried once. Raises the transport's errors."""
        if self.channel is None:
            connection = self.connection
            hosts = len(connection.alt or ()) or 1
            connection.ensure_connection(max_retries=hosts - 1, interval_start=0, interval_step=0,
                                         reraise_as_library_errors=False)
            self.declared.clear()
            self.channel = connection.channel()
        return self.channel

    def declare(self, destination: Destination) -> None:
        """Declare what the destination needs, once per connection where that is possible."""
        known = self.connection.declared_entities
        for entity in destination.declare:
            # kombu asks the same, but only after it has copied the entity.
            if not entity.can_cache_declaration or hash(entity) not in known:
                maybe_declare(entity, self.channel)
        if destination.declared_once:
            if len(self.declared) >= _DESTINATIONS_KEPT:
                self.declared.clear()
            self.declared.add(destination)

    def drop(self) -> None:
        """Forget the connection after an error; the next `open` makes another, to the next host if there is one."""
        self.channel = None
        self.declared.clear()
        self.connection.collect()
        self.connection.maybe_switch_next()

    def drop_channel(self) -> None:
        """Forget the channel after the broker closed it; the connection is kept."""
        self.channel = None

    def discard(self) -> None:
        """Close the connection in good order: the broker may still answer to what its user has given up."""
        self.channel = None
        self.declared.clear()
        with contextlib.suppress(Exception):  # it may be lost already, which is as good
            self.connection.close()

    def close(self) -> None:
        """Close the connection for good."""
        self.channel = None
        self.connection.close()


class ChannelPool:
    """Lends `PublishChannel` objects; at most `limit` exist (None: any number; 0: none is kept).

    `connect` makes an unconnected `kombu.Connection`. `timeout`: how long to wait for a free channel, in seconds.
    """

    def __init__(self, connect: Callable[[], Any], limit: int | None, timeout: float | None = None) -> None:
        self.connect = connect
        self.limit = limit
        self.timeout = timeout
        self._start_empty()
        _pools.add(self)

    def _start_empty(self) -> None:
        #: Taken and given back without a lock: list operations are atomic, and waiting is rare.
        self._free: list[PublishChannel] = []
        self._all: set[PublishChannel] = set()
        self._waiting = 0
        self._changed = threading.Condition()

    def take(self) -> PublishChannel | None:
        """A channel for this thread alone, until `release`; None when one would have to be waited for."""
        try:
            return self._free.pop()
        except IndexError:
            with self._changed:
                return self._make()

    def acquire(self) -> PublishChannel:
        """As `take`, but waits for a free one. Raises OperationalError when there is none in time."""
        until = None if self.timeout is None else monotonic() + self.timeout
        with self._changed:
            # First said, then looked: `release` appends before it asks whether anybody waits.
            self._waiting += 1
            try:
                while True:
                    if self._free:
                        return self._free.pop()
                    made = self._make()
                    if made is not None:
                        return made
                    left = None if until is None else until - monotonic()
                    if left is not None and left <= 0:
                        raise no_free_connection(self.limit or 0, self.timeout or 0)
                    self._changed.wait(left)
            finally:
                self._waiting -= 1

    def _make(self) -> PublishChannel | None:
        if self.limit and len(self._all) >= self.limit:
            return None
        made = PublishChannel(self.connect())
        self._all.add(made)
        return made

    def release(self, channel: PublishChannel) -> None:
        """Give a channel back."""
        if channel.retired or self.limit == 0:
            self._all.discard(channel)
            channel.close()
            return
        self._free.append(channel)
        if self._waiting:
            with self._changed:
                self._changed.notify()

    def close(self) -> None:
        """Close the channels that nobody uses; those in use close when they come back."""
        for channel in tuple(self._all):
            channel.retired = True
        while self._free:
            self.release(self._free.pop())

    def abandon(self) -> None:
        """In a forked child: let go of the parent's connections without a word to the broker."""
        inherited = self._all
        self._start_empty()
        for channel in inherited:
            channel.channel = None
            channel.declared.clear()
            close_inherited(channel.connection)


_pools: weakref.WeakSet[ChannelPool] = weakref.WeakSet()


def _abandon_inherited() -> None:
    for pool in list(_pools):
        pool.abandon()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_abandon_inherited)
