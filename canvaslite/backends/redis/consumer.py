"""Waiting for results on Redis: one subscribed connection for all threads of a process.

A result is published on the channel that is its key, and decoded straight from there. Subscribing and looking at what
is there already is one write and one reply where the server speaks RESP3; else two.

All traffic on the connection is done by one thread at a time: the one that reads, or, while nobody reads, the one that
holds the lock. A thread that begins to wait while another one reads hands its ids over and wakes it. Subscriptions that
nobody needs any more are ended together with the next command.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable
from typing import Any

from kombu.utils.encoding import bytes_to_str

from canvaslite.backends.codec import Meta
from canvaslite.backends.redis.driver import error_of
from canvaslite.backends.redis.link import pack
from canvaslite.backends.redis.replies import ErrorReply, Push
from canvaslite.backends.redis.stream import Stream
from canvaslite.backends.waiting import BaseResultConsumer

__all__ = ('ResultConsumer',)

logger = logging.getLogger('canvaslite.backends.redis')

#: Up to this many ids are looked up on the subscribed connection itself; more go by MGET on another one.
INLINE_LOOK = 64
#: So many subscriptions that nobody needs are kept until the next command.
IDLE_SUBSCRIPTIONS = 1000
#: Seconds to wait for the server to confirm a subscription.
CONFIRM_TIMEOUT = 5.0


class ResultConsumer(BaseResultConsumer):
    """Waits for results of a `RedisBackend`."""

    def __init__(self, backend: Any) -> None:
        super().__init__(backend)
        self._errors: tuple[type[Exception], ...] = (*backend.connection_errors, OSError)
        self._failures = 0
        self._heard = self._asked = 0.0
        self._clear()

    def _clear(self) -> None:
        self._stream: Stream | None = None
        #: Ids that the server has confirmed, and those among them that nobody waits for any more.
        self._confirmed: set[str] = set()
        self._unneeded: set[str] = set()
        #: Ids that another thread wants the reading one to subscribe to.
        self._handed_over: set[str] = set()
        #: Ids that were looked up while subscribing, and what was found.
        self._looked: dict[str, Meta | None] = {}
        #: Results that came while something else was awaited.
        self._backlog: list[Meta] = []

    def reset(self) -> None:
        """Forget the connection: it is the parent process's."""
        if self._stream is not None:
            self._stream.drop()
        self._clear()

    def stop(self) -> None:
        """Hang up."""
        with self.changed:
            stream = self._stream
            self._clear()
            if stream is not None:
                stream.close()

    def subscribe(self, task_ids: Collection[str]) -> None:
        """Subscribe, and look at what is there. If the server is away, `read` makes up for it."""
        ids = set(task_ids)
        self._unneeded -= ids
        if self._reading and self._stream is not None:
            self._handed_over |= ids
            self._stream.wake()
            self.changed.wait_for(lambda: not self._reading or self._handed_over.isdisjoint(ids), CONFIRM_TIMEOUT)
            if self._handed_over.isdisjoint(ids) or self._reading:
                return
            self._handed_over -= ids
        if self._reading:
            return  # it is reconnecting, and subscribes to all that is awaited
        try:
            self._subscribe_now(ids)
        except self._errors as exc:
            self._lose(exc)

    def unsubscribe(self, task_ids: Collection[str]) -> None:
        """Leave it to the next command to end the subscriptions."""
        for task_id in task_ids:
            self._looked.pop(task_id, None)
            if task_id in self._confirmed:
                self._unneeded.add(task_id)
        if len(self._unneeded) > IDLE_SUBSCRIPTIONS and self._stream is not None and not self._reading:
            try:
                self._stream.send(self._end_unneeded())
            except self._errors as exc:
                self._lose(exc)

    def look(self, task_ids: Collection[str]) -> Iterable[Meta]:
        """What was found while subscribing; the rest is asked for."""
        with self.changed:
            if self._stream is None:
                return ()  # `read` connects, and looks
            looked = {task_id: self._looked.pop(task_id) for task_id in task_ids if task_id in self._looked}
        found = [meta for meta in looked.values() if meta is not None]
        rest = [task_id for task_id in task_ids if task_id not in looked]
        return [*found, *super().look(rest)] if rest else found

    def read(self, timeout: float) -> Iterable[Meta]:
        """Results that come within `timeout` seconds."""
        try:
            if self._stream is None:
                self._reconnect()
            while self._handed_over:  # again and again: while one is served, the wake-up of the next may be read
                with self.changed:
                    wanted = set(self._handed_over)
                self._subscribe_now(wanted)
                with self.changed:
                    self._handed_over -= wanted
                    self.changed.notify_all()
            if not self._backlog:
                self._take(timeout)
        except self._errors as exc:
            time.sleep(min(self._lose(exc), timeout))
        backlog, self._backlog = self._backlog, []
        return backlog

    # -- on the connection, one thread at a time ---------------------------------------------------------------

    def _reconnect(self) -> None:
        with self.changed:
            wanted = set(self.subscriptions())
        if not wanted:
            return
        self._subscribe_now(wanted)
        rest = [task_id for task_id in wanted if task_id not in self._looked]
        found = [meta for task_id in wanted if (meta := self._looked.pop(task_id, None)) is not None]
        self._backlog += found
        if rest:
            self._backlog += super().look(rest)

    def _subscribe_now(self, ids: set[str]) -> None:
        stream = self._stream
        if stream is None:
            stream = self._stream = Stream(self.backend.link.pool)
            self._heard = time.monotonic()
        keys = [self.backend.get_key_for_task(task_id) for task_id in ids]
        # Those that are subscribed to still are subscribed to again: their confirmation says that the look came after.
        self._confirmed -= ids
        command = self._end_unneeded() + pack(b'SUBSCRIBE', *keys)
        inline = stream.speaks_resp3 and len(ids) <= INLINE_LOOK
        if inline:
            command += pack(b'MGET', *keys)
        stream.send(command)
        deadline = time.monotonic() + CONFIRM_TIMEOUT
        values: list[Any] | None = None
        while not ids <= self._confirmed or (inline and values is None):
            if time.monotonic() > deadline:
                raise ConnectionError('the Redis server does not answer')
            for reply in self._take(CONFIRM_TIMEOUT):
                if isinstance(reply, list):
                    values = reply
        for task_id, value in zip(ids, values or (), strict=False):
            self._looked[task_id] = self.backend.decode_result(value) if value else None
        self._failures = 0

    def _end_unneeded(self) -> bytes:
        with self.changed:
            ended, self._unneeded = self._unneeded, set()
            self._confirmed -= ended
        if not ended:
            return b''
        return pack(b'UNSUBSCRIBE', *[self.backend.get_key_for_task(task_id) for task_id in ended])

    def _take(self, timeout: float) -> list[Any]:
        """Read once: results go to the backlog, replies to commands are returned."""
        assert self._stream is not None
        self._check_health()
        replies = self._stream.receive(timeout)
        if replies:
            self._heard = time.monotonic()
        answers = []
        for reply in replies:
            if isinstance(reply, ErrorReply):
                raise error_of(reply)
            if not isinstance(reply, Push):
                answers.append(reply)
            elif reply[0] == b'message':
                self._keep(reply[2])
            elif reply[0] == b'subscribe':
                self._confirmed.add(self.backend._strip_prefix(reply[1]))
        return answers

    def _keep(self, payload: bytes) -> None:
        try:
            meta = self.backend.decode_result(payload)
            meta['task_id'] = bytes_to_str(meta['task_id'])
        except Exception as exc:  # anybody may publish anything on a channel
            logger.error('A message about a result cannot be understood: %r', exc)
        else:
            self._backlog.append(meta)

    def _check_health(self) -> None:
        interval = self.backend.connparams.get('health_check_interval')
        if not interval or self._stream is None:
            return
        now = time.monotonic()
        if now - self._heard < interval or now - self._asked < interval:
            return
        if self._asked > self._heard:
            raise ConnectionError('the Redis server does not answer')
        self._asked = now
        self._stream.send(pack(b'PING'))

    def _lose(self, exc: Exception) -> float:
        """The connection is gone: forget it, and say how many seconds to wait before the next attempt.

        Raises `exc` when there were more attempts than ``retry_policy`` allows.
        """
        with self.changed:
            stream = self._stream
            backlog = self._backlog
            self._clear()
            self._backlog = backlog
            if stream is not None:
                stream.close()
            self.changed.notify_all()
        self._failures += 1
        return self.backend.pause_after(exc, self._failures)  # type: ignore[no-any-return]
