"""Who publishes over which channel: a pool lends channels, a burst gathers what is sent over one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from kombu.exceptions import OperationalError

from canvaslite.publish.channels import CHUNK, QUIET, PublishChannel
from canvaslite.publish.messages import RawMessage
from canvaslite.publish.options import logger
from canvaslite.transport.connection import close_inherited

__all__ = ('Burst', 'ChannelPool', 'Held')

#: Bytes of frames, method and channel numbers beside a message's properties and body.
_FRAMING = 80
#: Most seconds between two attempts to settle streams while the broker is away.
_LONGEST_PAUSE = 5.0


class ChannelPool:
    """Lends at most ``broker_pool_limit`` channels (None: any number; 0: none is kept), the last one that came back
    first."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._limit: int | None = app.conf.broker_pool_limit
        #: Seconds to wait for a free channel.
        self._timeout: float | None = app.conf.broker_pool_acquire_timeout
        self._start_empty()

    def _start_empty(self) -> None:
        #: Taken and given back without a lock: list operations are atomic, and waiting is rare.
        self._free: list[PublishChannel] = []
        self._all: set[PublishChannel] = set()
        self._waiting = 0
        self._changed = threading.Condition()
        #: Settles the streams that nobody continues; None while there is none. What tells it to end.
        self._settler: threading.Thread | None = None
        self._closing = threading.Event()

    def take(self) -> PublishChannel | None:
        """A channel for this thread alone, until `release`; None when one would have to be waited for."""
        try:
            return self._free.pop()
        except IndexError:
            with self._changed:
                return self._take_or_make()

    def acquire(self) -> PublishChannel:
        """As `take`, but waits for a free one. Raises OperationalError when there is none in time."""
        with self._changed:
            # First said, then looked: `release` appends before it asks whether anybody waits.
            self._waiting += 1
            try:
                lent = self._changed.wait_for(self._take_or_make, self._timeout)
            finally:
                self._waiting -= 1
        if lent is None:
            raise OperationalError(f'No connection to the broker became free within {self._timeout}s, all '
                                   f'{self._limit} are in use: raise broker_pool_limit or broker_pool_acquire_timeout.')
        return lent

    def _take_or_make(self) -> PublishChannel | None:
        with contextlib.suppress(IndexError):
            return self._free.pop()
        if self._limit and len(self._all) >= self._limit:
            return None
        made = PublishChannel(self._app)
        self._all.add(made)
        return made

    def release(self, channel: PublishChannel) -> None:
        """Give a channel back."""
        if channel.retired or self._limit == 0:
            try:
                channel.settle_stream()
            except OperationalError as exc:
                _log_given_up([channel], exc)
            self._all.discard(channel)
            channel.forget()
            channel.connection.close()
            return
        self._free.append(channel)
        if self._waiting:
            with self._changed:
                self._changed.notify()

    # --- streams ---------------------------------------------------------------------------------

    def watch_streams(self) -> None:
        """A channel has a stream: have a thread settle it when nobody continues it."""
        if self._settler is None:
            with self._changed:
                if self._settler is None:
                    self._closing.clear()
                    self._settler = threading.Thread(
                        target=self._watch_streams, name='canvaslite-confirms', daemon=True)
                    self._settler.start()

    def _watch_streams(self) -> None:
        pause = tick = QUIET
        while True:
            self._closing.wait(pause)
            try:
                self.settle_streams(only_quiet=not self._closing.is_set())
                pause = tick
            except OperationalError as exc:
                if pause == tick:
                    logger.warning('Messages that the broker has not confirmed are kept, to be sent again: %s', exc)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception:
                logger.exception('Messages that the broker has not confirmed cannot be sent again now')
                pause = _LONGEST_PAUSE
            with self._changed:
                if self._closing.is_set() or not any(channel.streams for channel in self._all):
                    self._settler = None
                    return

    def settle_streams(self, only_quiet: bool = False) -> None:
        """Learn that the streams which nobody is sending (with `only_quiet`: for a while) have arrived.

        Raises `OperationalError` when the broker cannot be reached; the messages are kept.
        """
        for channel in tuple(self._all):
            if not (channel.is_quiet if only_quiet else channel.streams):
                continue
            try:
                self._free.remove(channel)
            except ValueError:  # somebody uses it, and will
                continue
            try:
                channel.settle_stream()
            finally:
                self.release(channel)

    def finish_streams(self) -> None:
        """Settle all streams, with the thread that may be at it. What cannot be sent now is lost, and logged."""
        settler = self._settler
        if settler is not None:
            self._closing.set()
            settler.join()
        try:
            self.settle_streams()
        except Exception as exc:
            _log_given_up(self._all, exc)

    # --- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the channels that nobody uses; those in use close when they come back."""
        self.finish_streams()
        for channel in tuple(self._all):
            channel.retired = True
        while self._free:
            self.release(self._free.pop())

    def abandon(self) -> None:
        """In a forked child: let go of the parent's connections without a word to the broker."""
        inherited = self._all
        self._start_empty()
        for channel in inherited:
            channel.forget()
            close_inherited(channel.connection)


def _log_given_up(channels: Iterable[PublishChannel], exc: BaseException) -> None:
    logger.error('%d message(s) that the broker has not confirmed are given up: %s',
                 sum(channel.streams for channel in channels), exc)


class Held(threading.local):
    """What each thread holds: bursts that have a channel; producers where the transport is not ours. Innermost last."""

    #: Headers that all it publishes gets.
    marks: Mapping[str, Any] | None = None
    #: What sends its errbacks, None for what sends the rest.
    errbacks: Any = None
    #: The burst with what follows the task whose success is being stored.
    following: Burst | None = None

    def __init__(self) -> None:
        self.bursts: list[Burst] = []
        self.producers: list[Any] = []


class Burst:
    """Gathers messages and writes them together; leaving the ``with`` block sends what is left.

    With publisher confirms the block ends when all messages are confirmed; without, it waits for the broker only where
    there was more than one write. ``after_task_publish`` is sent when a message is gathered, not when it is written.
    An exception in the block drops the messages that were not written yet: whoever published them gets that exception.

    A burst may be passed on as ``producer=`` to anything called inside the block, so that a whole canvas uses one
    channel. It borrows its channel with the first write and keeps it to the end; it never waits for a second one, so
    threads with a pool of one channel cannot block each other. A burst belongs to one thread.
    """

    def __init__(self, pool: ChannelPool, held: Held) -> None:
        self._pool = pool
        self._held = held
        self._gathered: list[RawMessage] = []
        self._size = 0
        self.lent: PublishChannel | None = None
        self._open = False

    def add(self, message: RawMessage) -> None:
        """Take one message; it is written with the next 64 kB or at the end. Raises RuntimeError outside the block."""
        if not self._open:
            raise RuntimeError('A burst takes messages only inside its with block.')
        self._gathered.append(message)
        self._size += len(message.properties) + len(message.body) + _FRAMING
        if self._size >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if self._gathered:
            messages, self._gathered, self._size = self._gathered, [], 0
            if self.lent is None:
                self.lent = self._borrow()
            self.lent.send(messages)

    @contextlib.contextmanager
    def handed_over(self) -> Iterator[Sequence[RawMessage]]:
        """Within the block somebody else sends what was gathered; it is still to be sent if that raises an error."""
        messages, size = self._gathered, self._size
        self._gathered, self._size = [], 0
        try:
            yield messages
        except BaseException:
            self._gathered, self._size = messages + self._gathered, size + self._size
            raise

    def finish(self) -> None:
        """Write what was gathered; with publisher confirms, return when all is confirmed."""
        self.flush()
        if self.lent is not None:
            self.lent.finish()

    def settle(self) -> None:
        """Write what was gathered, and return when all is known to have arrived, also without publisher confirms."""
        self.flush()
        if self.lent is not None:
            self.lent.settle()

    def _borrow(self) -> PublishChannel:
        lent = self._pool.take()
        if lent is None and self._held.bursts:
            # This thread holds a channel already and must not wait for another: it might wait for itself.
            held = self._held.bursts[-1].lent
            assert held is not None
            return held
        lent = lent or self._pool.acquire()
        self._held.bursts.append(self)
        return lent

    def __enter__(self) -> Burst:
        self._open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None,
                 traceback: TracebackType | None) -> None:
        try:
            if exc is None:
                self.finish()
        except BaseException:
            self._give_back(clean=False)
            raise
        self._give_back(clean=exc is None)

    def _give_back(self, clean: bool) -> None:
        self._open = False
        self._gathered, self._size = [], 0
        lent, self.lent = self.lent, None
        if lent is not None and self in self._held.bursts:  # otherwise it was lent to another, who goes on with it
            self._held.bursts.remove(self)
            if clean:
                lent.rest()
            else:
                lent.discard()
            self._pool.release(lent)
