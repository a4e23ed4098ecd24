"""Waiting for results on Redis: one subscribed connection for all threads of a process.

A result is published on the channel that is its key, and decoded straight from there. Whoever speaks or reads on the
connection holds the lock; the thread whose turn it is to read waits for data without it. Subscriptions that nobody
needs any more are ended together with the next command.
"""

from __future__ import annotations

import select
import time
from collections.abc import Collection, Iterable
from typing import Any

from canvaslite.backends.codec import Meta
from canvaslite.backends.redis.link import logger
from canvaslite.backends.waiting import BaseResultConsumer

#: So many subscriptions that nobody needs are kept until the next command.
IDLE_SUBSCRIPTIONS = 1000
#: Seconds to wait for the server to confirm a subscription.
CONFIRM_TIMEOUT = 5.0


class ResultConsumer(BaseResultConsumer):
    """Waits for results of a `RedisBackend`."""

    def __init__(self, backend: Any) -> None:
        super().__init__(backend)
        self._failures = 0
        #: Results that were read while something else was awaited.
        self._backlog: list[Meta] = []
        self.reset()

    def reset(self) -> None:
        """Forget the connection: it is the parent process's."""
        self._connection: Any = None
        self._heard = 0.0
        #: How many subscriptions the server was asked for on this connection, and how many it has confirmed.
        self._asked = self._confirmed = 0
        #: Ids that are subscribed to, but that nobody waits for any more.
        self._unneeded: set[str] = set()

    def stop(self) -> None:
        """Hang up."""
        with self.changed:
            connection = self._connection
            self.reset()
            if connection is not None:
                self.backend.link.discard(connection)

    def subscribe(self, task_ids: Collection[str]) -> None:
        """Subscribe. If the server is away, `read` makes up for it."""
        try:
            self._subscribe_now(task_ids)
        except self.backend.connection_errors as exc:
            self._lose(exc)

    def unsubscribe(self, task_ids: Collection[str]) -> None:
        """Leave it to the next command to end the subscriptions."""
        self._unneeded.update(task_ids)
        if len(self._unneeded) > IDLE_SUBSCRIPTIONS and self._connection is not None:
            try:
                self._send()
            except self.backend.connection_errors as exc:
                self._lose(exc)

    def look(self, task_ids: Collection[str]) -> Iterable[Meta]:
        """What the store had when the subscriptions began; nothing while the server is away, for then `read` looks."""
        try:
            with self.changed:
                if self._connection is None:
                    return ()
                self._await_confirmation()
            found = super().look(task_ids)
        except self.backend.connection_errors as exc:
            self._lose(exc)
            return ()
        self._failures = 0
        return found

    def read(self, timeout: float) -> Iterable[Meta]:
        """Results that come within `timeout` seconds."""
        try:
            with self.changed:
                if self._connection is None:
                    wanted = self.subscriptions()
                    self._subscribe_now(wanted)
                    self._await_confirmation(reading=True)
                    self._backlog += super().look(wanted)
                    self._failures = 0
                self._check_health()
                readable = select.poll()
                readable.register(self._connection._sock, select.POLLIN)
            if not self._backlog:
                readable.poll(timeout * 1000)
                with self.changed:
                    self._take_all()
        except self.backend.connection_errors as exc:
            time.sleep(min(self._lose(exc), timeout))
        with self.changed:
            backlog, self._backlog = self._backlog, []
        return backlog

    # -- on the connection, with the lock held

    def _subscribe_now(self, task_ids: Collection[str]) -> None:
        if self._connection is None:
            self._connection = self.backend.link.connect()
            self._heard = time.monotonic()
        self._unneeded.difference_update(task_ids)
        self._send((b'SUBSCRIBE', *map(self.backend.get_key_for_task, task_ids)))
        self._asked += len(task_ids)

    def _await_confirmation(self, reading: bool = False) -> None:
        """Wait until all subscriptions have begun. `reading`: this is the thread whose turn it is to read."""
        connection, asked = self._connection, self._asked
        if not reading:  # whoever waits for data reads the confirmation too
            self.changed.wait_for(lambda: not self._reading or self._connection is not connection
                                  or self._confirmed >= asked, CONFIRM_TIMEOUT)
        while self._connection is connection and self._confirmed < asked:
            if not connection.can_read(CONFIRM_TIMEOUT):
                raise ConnectionError('the Redis server does not answer')
            self._take()
        if reading or not self._reading:
            self._take_all()  # what is left in the buffers would not wake who waits for data

    def _send(self, *commands: tuple[bytes, ...]) -> None:
        if self._unneeded:
            commands = ((b'UNSUBSCRIBE', *map(self.backend.get_key_for_task, self._unneeded)), *commands)
            self._unneeded.clear()
        self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)

    def _take_all(self) -> None:
        while self._connection is not None and self._connection.can_read(0):
            self._take()
        self.changed.notify_all()

    def _take(self) -> None:
        reply = self._connection.read_response(disable_decoding=True, push_request=True)
        self._heard = time.monotonic()
        if reply[0] == b'subscribe':
            self._confirmed += 1
        elif reply[0] == b'message':
            try:
                meta = self.backend.decode_result(reply[2])
                meta['task_id'] = self.backend._strip_prefix(reply[1])
            except Exception as exc:  # anybody may publish anything on a channel
                logger.error('A message about a result cannot be understood: %r', exc)
            else:
                self._backlog.append(meta)

    def _check_health(self) -> None:
        interval = self.backend.connparams.get('health_check_interval')
        silent = time.monotonic() - self._heard
        if interval and silent > 2 * interval:
            raise ConnectionError('the Redis server does not answer')
        if interval and silent > interval:
            self._send((b'PING',))

    def _lose(self, exc: Exception) -> float:
        """The connection is gone; seconds to wait before the next attempt. Raises `exc` when ``retry_policy`` allows
        none."""
        with self.changed:
            self.stop()
            self.changed.notify_all()
        self._failures += 1
        return self.backend.pause_after(exc, self._failures)  # type: ignore[no-any-return]
