"""The chord join on Redis: each step is one Lua script, on Celery's keys and two of our own."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import timedelta
from random import getrandbits
from typing import Any

from canvaslite import wire
from canvaslite.backends import chords
from canvaslite.backends.chords import ChordJoin, Claim, Opening, Outbox, Part, Report, Slot
from canvaslite.backends.heads import HELD, OPEN, OVER, ChordHead
from canvaslite.backends.redis import scripts
from canvaslite.backends.redis.scripts import Script

_UNPLACED = b'+inf'
#: What the scripts answer, by its number.
_STATUS = (chords.RECORDED, chords.CLAIMED, chords.BUSY, chords.DONE, chords.UNKNOWN_CHORD, chords.GONE)
_SUFFIXES = tuple(suffix.encode() for suffix in (
    wire.JOIN_PARTS, wire.JOIN_EXTRA, wire.JOIN_SIZE, wire.JOIN_SEEN, wire.JOIN_CLAIM, wire.JOIN_OUTBOX, ''))
_LEASE, _LOOK = b'%d' % chords.CLAIM_LEASE, b'%d' % int(chords.LOOK_INTERVAL)


class RedisJoin(ChordJoin):
    """Joins chords for a `RedisBackend`."""

    keeps_shape = True

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        options = backend.transport_options
        #: Whether the parts are kept in the header's order (``result_chord_ordered``).
        self.ordered: bool = options.get('result_chord_ordered', True)
        #: How long, in seconds, a chord's keys are kept; 0 is for ever.
        self.kept = b'%d' % _seconds_kept(backend)
        self._index = backend._global_keyprefix() + wire.JOIN_DUE

    @property
    def _due(self) -> bytes:
        """The key of the due index."""
        home = chords.home_of(self.backend.app.conf)
        return f'{self._index}:{home}'.encode() if home else self._index.encode()

    def _keys(self, group_id: str) -> tuple[bytes, ...]:
        base = self.backend.get_key_for_group(group_id)
        return (*[base + suffix for suffix in _SUFFIXES], self._due)

    def _run(self, script: Script, group_id: str, *args: bytes, more_keys: tuple[bytes, ...] = (),
             now: float | None = None) -> Any:
        known = (group_id.encode(), b'%.3f' % (now or time.time()), self.kept, b'1' if self.ordered else b'0')
        return self.backend.run_script(script, self._keys(group_id) + more_keys, known + args)

    def open(self, chord: Opening) -> None:
        """Begin: state of an earlier run under the same id is dropped."""
        saved = b'' if chord.shape is None else self.backend.encode_bytes({'result': chord.shape})
        self._run(scripts.OPEN, chord.group_id, b'1' if chord.again else b'0', _number(chord.size), chord.packed,
                  _pack_slots(chord.slots), _number(chord.deadline), _LOOK, saved)

    def set_size(self, group_id: str, size: int, slots: Sequence[Slot] = ()) -> None:
        """Say how many parts there are."""
        self._run(scripts.RESIZE, group_id, b'%d' % size, _pack_slots(slots))

    def extend(self, group_id: str, task_id: str | None = None) -> None:
        """Wait for one part more."""
        self._run(scripts.EXTEND, group_id, (task_id or '').encode())

    def part(self, part: Part) -> Report:
        """Count a part whose result is stored already, or is not to be stored."""
        return self.keep_and_count(part, None)

    def adopt(self, part: Part, callback: Any) -> Report:
        """Count a part of a chord that Celery sent, or that Redis has lost."""
        return self.keep_and_count(part, None, callback)

    def keep_and_count(self, part: Part, stored: tuple[bytes, bytes, bytes] | None, callback: Any = None) -> Report:
        """Count a part, and in the same step keep its result: `stored` is payload, seconds, mark of a success.

        `callback` is the chord's body, for a chord that is not known here.
        """
        backend = self.backend
        score = _UNPLACED if part.place is None else b'%d' % part.place
        value = backend.encode_bytes([1, part.task_id, part.state, part.result])
        token = '%032x' % getrandbits(128)
        args: tuple[bytes, ...] = (part.task_id.encode() + b':' + score, value, score, token.encode(), _LEASE)
        if callback is None:
            args = (*args, b'', b'', b'', _LOOK)
        else:
            args = (*args, chords.pack_callback(backend.app, callback), _number(callback.get('chord_size')),
                    _number(chords.deadline_from_now(backend.app.conf)), _LOOK)
        keys: tuple[bytes, ...] = ()
        if stored is not None:
            keys, args = (backend.get_key_for_task(part.task_id),), (*args, *stored)
        return self._report(part.group_id, token, self._run(scripts.PART, part.group_id, *args, more_keys=keys))

    def _report(self, group_id: str, token: str, reply: Sequence[Any]) -> Report:
        if reply[0] != 1:
            return Report(_STATUS[reply[0]])
        _, size, values, slots, saved, attempt, reason = reply
        shape = self.backend.decode(saved)['result'] if saved else None
        claim = Claim(group_id, token, size, attempt, reason.decode() or None)
        return Report(chords.CLAIMED, claim, self._read_parts(group_id, size, values, slots), shape)

    def parts(self, claim: Claim) -> Sequence[Part]:
        """The parts in order."""
        keys, run = self._keys(claim.group_id), self.backend.run_command
        values = run(b'ZRANGE' if self.ordered else b'LRANGE', keys[0], b'0', b'-1')
        return self._read_parts(claim.group_id, claim.size, values, run(b'SMEMBERS', keys[3]))

    def _read_parts(self, group_id: str, size: int, values: Sequence[bytes], slots: Sequence[bytes]) -> list[Part]:
        decode = self.backend.decode
        parts = []
        for place, value in enumerate(values):
            _, task_id, state, result = decode(value)
            parts.append(Part(group_id, task_id, place, state, result))
        if len(parts) == size:
            return parts
        first: dict[str, Part] = {}
        for part in parts:
            first.setdefault(part.task_id, part)
        if len(slots) >= size:
            # Some parts are alike to the letter (the same frozen task twice in one header), and a sorted set keeps
            # one of them: the slots tell where they all belong.
            placed = sorted((float(place), task_id.decode())
                            for task_id, _, place in (slot.rpartition(b':') for slot in slots))
            return [first[task_id]._replace(place=place) for place, (_, task_id) in enumerate(placed)]
        # A Celery before 5.7 counts a task that ran twice with different results as two parts.
        return list(first.values())

    def renew(self, claim: Claim, seconds: float) -> bool:
        """Hold the claim, or take it again."""
        return bool(self._run(scripts.RENEW, claim.group_id, claim.token.encode(), b'%d' % (seconds * 1000)))

    def release(self, claim: Claim) -> None:
        """Give the claim back."""
        self._run(scripts.RELEASE, claim.group_id, claim.token.encode(), _number(chords.RELEASED_PAUSE))

    def finish(self, claim: Claim, failed: bool = False) -> bool:
        """Drop the state and leave a tombstone; the parts of a chord that has failed stay as long, as in Celery."""
        kept = self.backend.chord_result_expires or chords.DONE_KEPT
        return bool(self._run(scripts.FINISH, claim.group_id, claim.token.encode(), b'%d' % kept, b'%d' % failed))

    def due(self, now: float, limit: int) -> Sequence[str]:
        """The chords whose time has come."""
        return self._due_in(self._due, now, limit)

    def _due_in(self, index: bytes, now: float, limit: int) -> list[str]:
        found = self.backend.run_command(b'ZRANGEBYSCORE', index, b'-inf', _number(now), b'LIMIT', b'0', b'%d' % limit)
        return [group_id.decode() for group_id in found]

    def look(self, group_id: str, now: float, reason: str | None = None) -> Report:
        """Claim it, or put it off."""
        token = '%032x' % getrandbits(128)
        return self._report(group_id, token, self._run(
            scripts.LOOK, group_id, token.encode(), _LEASE, (reason or '').encode(), _LOOK,
            b'%d' % chords.MISSING_PER_SECOND, now=now))

    def outbox(self, group_id: str) -> Outbox | None:
        """The hash ``.o``."""
        callback, slots, opened = self.backend.run_command(
            b'HMGET', self._keys(group_id)[5], b'callback', b'slots', b'opened')
        if callback is None:
            return None
        return Outbox(callback, [*map(tuple, json.loads(slots))] if slots else [], float(opened))

    def head(self, group_id: str) -> ChordHead | None:
        """What is known of the chord."""
        found = self._run(scripts.HEAD, group_id)
        if not found:
            return None
        size, added, claim, deadline, attempts, due = (value.decode() for value in found)
        state = OVER if claim == 'done' else HELD if claim else OPEN
        return ChordHead(int(size) if size else None, int(added), state, claim or None, int(attempts), float(due),
                         float(deadline) if deadline else None, chords.home_of(self.backend.app.conf))

    def missing(self, group_id: str, slots: Sequence[Slot]) -> Sequence[Slot]:
        """Those that are not in ``.d``."""
        seen = set(self.backend.run_command(b'SMEMBERS', self._keys(group_id)[3]))
        return [(task_id, place) for task_id, place in slots
                if b'%s:%s' % (task_id.encode(), _UNPLACED if place is None else b'%d' % place) not in seen]

    def forget(self, group_id: str) -> None:
        """Remove its keys."""
        self._run(scripts.FORGET, group_id)

    def take_run(self, task_id: str, attempt: str, seconds: float) -> str:
        """Under the task's key with ``.run``."""
        key = self.backend.get_key_for_task(task_id, wire.RUN_KEY)
        args = attempt.encode(), b'%d' % seconds, b'%d' % (attempt == chords.ENDED)
        return str(self.backend.run_script(scripts.TAKE_RUN, (key,), args).decode())


def _number(value: float | None) -> bytes:
    return b'' if value is None else b'%d' % value if isinstance(value, int) else b'%.3f' % value


def _pack_slots(slots: Sequence[Slot]) -> bytes:
    return json.dumps(slots, separators=(',', ':')).encode() if slots else b''


def _seconds_kept(backend: Any) -> int:
    """A live chord must not expire before its deadline has made it fail."""
    deadline = backend.app.conf.result_chord_deadline
    if isinstance(deadline, timedelta):
        deadline = deadline.total_seconds()
    if deadline:
        return int(max(deadline + chords.DONE_KEPT, backend.chord_expires or 0))
    return int(backend.chord_expires or 0) if backend.app.conf.result_chord_expires else 0
