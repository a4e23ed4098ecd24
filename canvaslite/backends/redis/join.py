"""The chord join on Redis: each step is one Lua script, on Celery's keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import getrandbits
from typing import Any

from canvaslite import wire
from canvaslite.backends import chords
from canvaslite.backends.chords import ChordJoin, Claim, Part, Report
from canvaslite.backends.redis import scripts

_UNPLACED = b'+inf'
_STATUS = (chords.RECORDED, chords.CLAIMED, chords.BUSY, chords.DONE)


class RedisJoin(ChordJoin):
    """Joins chords for a `RedisBackend`."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        options = backend.transport_options
        #: Whether the parts are kept in the header's order (``result_chord_ordered``).
        self.ordered: bool = options.get('result_chord_ordered', True)
        self._run = backend.run_script

    def _keys(self, group_id: str, *suffixes: str) -> tuple[bytes, ...]:
        base = self.backend.get_key_for_group(group_id)
        return tuple(base + suffix.encode() for suffix in suffixes)

    def open(self, group_id: str, size: int | None, callback: Mapping[str, Any], task_ids: Sequence[str]) -> None:
        """Begin: state of an earlier run under the same id is dropped."""
        keys = self._keys(group_id, wire.JOIN_PARTS, wire.JOIN_EXTRA, wire.JOIN_SIZE, wire.JOIN_SEEN, wire.JOIN_CLAIM)
        self._run(scripts.OPEN, keys, (b'' if size is None else b'%d' % size, b'%d' % self._kept))

    def set_size(self, group_id: str, size: int) -> None:
        """Say how many parts there are."""
        kept = (b'EX', b'%d' % self._kept) if self._kept else ()
        self.backend.run_command(b'SET', *self._keys(group_id, wire.JOIN_SIZE), b'%d' % size, *kept)

    def extend(self, group_id: str, count: int = 1) -> None:
        """Wait for `count` parts more."""
        self._run(scripts.EXTEND, self._keys(group_id, wire.JOIN_EXTRA), (b'%d' % count, b'%d' % self._kept))

    @property
    def _kept(self) -> int:
        return int(self.backend.chord_expires or 0)

    def part(self, part: Part) -> Report:
        """Count a part whose result is stored already, or is not to be stored."""
        return self.keep_and_count(part, None)

    def keep_and_count(self, part: Part, stored: tuple[bytes, bytes, bytes] | None) -> Report:
        """Count a part, and in the same step keep its result: `stored` is payload, seconds, mark of a success."""
        backend = self.backend
        task_id = part.task_id.encode()
        score = _UNPLACED if part.place is None else b'%d' % part.place
        value = backend.encode_bytes([1, part.task_id, part.state, part.result])
        base = backend.get_key_for_group(part.group_id)
        keys: tuple[bytes, ...] = (base + b'.j', base + b'.t', base + b'.s', base + b'.d', base + b'.c', base)
        token = '%032x' % getrandbits(128)
        args: tuple[bytes, ...] = (
            task_id + b':' + score, value, b'1' if self.ordered else b'0', score, b'%d' % self._kept,
            b'%d' % backend.chord_result_expires, b'%d' % (chords.CLAIM_LEASE * 1000), token.encode())
        if stored is not None:
            keys = (*keys, backend.get_key_for_task(part.task_id))
            args = (*args, *stored)
        reply = self._run(scripts.PART, keys, args)
        if len(reply) == 1:
            return Report(_STATUS[reply[0]])
        _, size, values, slots, saved = reply
        shape = backend.decode(saved)['result'] if saved else None
        parts = self._read_parts(part.group_id, size, values, slots)
        return Report(chords.CLAIMED, Claim(part.group_id, token, size), parts, shape)

    def parts(self, claim: Claim) -> Sequence[Part]:
        """The parts in order."""
        keys = self._keys(claim.group_id, wire.JOIN_PARTS, wire.JOIN_SEEN)
        values = self.backend.run_command(b'ZRANGE' if self.ordered else b'LRANGE', keys[0], b'0', b'-1')
        return self._read_parts(claim.group_id, claim.size, values, self.backend.run_command(b'SMEMBERS', keys[1]))

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
        keys = self._keys(claim.group_id, wire.JOIN_CLAIM, wire.JOIN_SIZE)
        return bool(self._run(scripts.RENEW, keys, (claim.token.encode(), b'%d' % int(seconds * 1000))))

    def release(self, claim: Claim) -> None:
        """Give the claim back."""
        self._run(scripts.RELEASE, self._keys(claim.group_id, wire.JOIN_CLAIM), (claim.token.encode(),))

    def finish(self, claim: Claim, failed: bool = False) -> bool:
        """Drop the state and leave a tombstone; the parts of a chord that has failed stay as long, as in Celery."""
        keys = self._keys(claim.group_id, wire.JOIN_CLAIM, wire.JOIN_PARTS, wire.JOIN_EXTRA, wire.JOIN_SIZE,
                          wire.JOIN_SEEN)
        kept = self.backend.chord_result_expires or chords.DONE_KEPT
        return bool(self._run(scripts.FINISH, keys, (claim.token.encode(), b'%d' % kept, b'%d' % failed)))
