"""The chord join of `recordjoin`, for stores of keys and values that can change one key at a time (`AtomicStore`).

A chord's head is one key, changed by compare-and-set: whoever claims the chord has read all its parts before. A part is
a key of its own, which is only ever added: the first outcome of a slot stays. The slots that have come are noted in a
few lists, and a counter says how many are missing. It is only a hint when to read the lists, so that a part costs the
same however many there are; what it gets wrong is made good by the next look. The chords to be looked at are a few
lists too, changed by compare-and-set.

What the store loses is missed, by a look, until the deadline. If it lost the head, that is made anew of the outbox.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar
from zlib import crc32

from kombu.utils.encoding import ensure_bytes
from kombu.utils.uuid import uuid

from canvaslite import wire
from canvaslite.backends import chords
from canvaslite.backends.chords import Claim, Opening, Outbox, Part, Report, Slot
from canvaslite.backends.recordjoin import OVER, ChordHead, ChordRecord, RecordJoin

__all__ = ('AtomicStore', 'KeyValueJoin')

T = TypeVar('T')

#: Lists in which a chord's slots are noted, and lists of the chords that are due.
SLOT_LISTS, DUE_LISTS = 8, 32
#: What a counter holds before the number of parts is known.
UNSIZED = 1 << 40
#: Bytes of an outbox in one value.
PIECE = 500_000
#: Keys that are read or removed at once.
KEYS_AT_ONCE = 1000


class AtomicStore(Protocol):
    """A store of keys and values (bytes), each of these methods one atomic step. Values are kept for `seconds`."""

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """The values of those keys that are there."""

    def get_token(self, key: str) -> tuple[bytes | None, Any]:
        """The value, and a token for `cas`; the value is None if there is none."""

    def set_many(self, values: Mapping[str, bytes], seconds: int) -> None:
        """Keep the values, whatever is there."""

    def add(self, key: str, value: bytes, seconds: int) -> bool:
        """Keep the value if there is none. Whether it is kept."""

    def cas(self, key: str, value: bytes, token: Any, seconds: int) -> bool:
        """Keep the value if nobody has changed it since `get_token`. Whether it is kept."""

    def append(self, key: str, value: bytes) -> bool:
        """Add to the end of a value; False if there is none."""

    def count(self, key: str, change: int) -> int | None:
        """Change a number, which does not fall below 0. What it is then, or None if there is none."""

    def delete_many(self, keys: Collection[str]) -> None:
        """Remove those keys that are there."""


class Keys:
    """The keys of one chord."""

    def __init__(self, group_id: str) -> None:
        self.head = f'{wire.JOIN_PREFIX}{group_id}'
        self.missing, self.outbox, self._slots = f'{self.head}-missing', f'{self.head}-body', f'{self.head}-slots'
        self.lists = [f'{self._slots}-{number}' for number in range(SLOT_LISTS)]

    def list_of(self, slot: str) -> str:
        """The key of the list in which the slot is noted."""
        return self.lists[crc32(slot.encode()) % SLOT_LISTS]

    def part(self, slot: str) -> str:
        """The key of a part."""
        return f'{self.head}-part-{slot}'


class KeyRecord(ChordRecord):
    """A chord in a store. What is written is kept by `commit`, if nobody else has changed the head since it was read.
    """

    def __init__(self, join: KeyValueJoin, group_id: str) -> None:
        self._join, self._store, self._group_id = join, join.store, group_id
        self.keys = Keys(group_id)
        self._token: Any = None
        self._was: bytes | None = None
        self._head: ChordHead | None = None
        self._found: dict[str, bytes] | None = None
        self._is_read = self._is_over = False

    def read(self) -> ChordHead | None:
        if not self._is_read:
            self._is_read = True
            self._was, self._token = self._store.get_token(self.keys.head)
            self._head = None if self._was is None else ChordHead(*json.loads(self._was))
        return self._head

    def begin(self, head: ChordHead, outbox: Outbox) -> None:
        if head.state != OVER:
            if self.read() is not None:
                self._remove_parts(outbox.slots)
            self.write(head)
            self.keep(outbox)
            count = UNSIZED if head.size is None else head.size
            self._store.set_many({**dict.fromkeys(self.keys.lists, b''), self.keys.missing: b'%d' % count},
                                 self._join.kept)
        self.write(head)

    def write(self, head: ChordHead) -> None:
        self.read()
        self._head = head

    def commit(self) -> bool:
        """Keep the head; False if somebody else has changed it."""
        head = self._head
        if head is not None and (now := json.dumps(list(head)).encode()) != self._was:
            # A chord that is over is remembered as long as it says, another one until something must have become of it.
            kept = max(1, int(head.due - time.time())) if head.state == OVER else self._join.kept
            if not (self._store.add(self.keys.head, now, kept) if self._was is None
                    else self._store.cas(self.keys.head, now, self._token, kept)):
                return False
        if self._is_over:
            self._remove_parts()
        return True

    def outbox(self) -> Outbox | None:
        return (self.find_outbox() or (None, None))[0]

    def find_outbox(self) -> tuple[Outbox, float | None] | None:
        """The outbox, and the chord's deadline."""
        first = self._store.get_many([self.keys.outbox]).get(self.keys.outbox)
        if first is None:
            return None
        said, _, data = first.partition(b'\n')
        length, pieces, opened, deadline = json.loads(said)
        names = [f'{self.keys.outbox}-{number}' for number in range(1, pieces)]
        found = self._store.get_many(names)
        if len(found) < len(names):
            return None  # the store has lost some
        data += b''.join(found[name] for name in names)
        return Outbox(data[:length], [*map(tuple, json.loads(data[length:]))], opened), deadline

    def keep(self, outbox: Outbox) -> None:
        data = outbox.callback + json.dumps(outbox.slots).encode()
        pieces = [data[start:start + PIECE] for start in range(0, len(data), PIECE)]
        deadline = None if self._head is None else self._head.deadline
        first = json.dumps([len(outbox.callback), len(pieces), outbox.opened, deadline]).encode()
        self._store.set_many({f'{self.keys.outbox}-{number}': piece for number, piece in enumerate(pieces) if number}
                             | {self.keys.outbox: first + b'\n' + pieces[0]}, self._join.kept)

    def add(self, part: Part) -> None:
        """Nothing: `KeyValueJoin.part` has added it."""

    def count(self) -> int:
        return len(self._find())

    def parts(self) -> list[Part]:
        decode = self._join.backend.decode
        return [Part(self._group_id, *decode(value)) for value in self._find().values()]

    def _find(self) -> dict[str, bytes]:
        if self._found is not None:
            return self._found
        outbox = self.outbox()
        slots = {_name(slot) for slot in (outbox.slots if outbox is not None else ())} | self._noted()
        names = [self.keys.part(slot) for slot in sorted(slots)]
        found: dict[str, bytes] = {}
        for start in range(0, len(names), KEYS_AT_ONCE):
            found.update(self._store.get_many(names[start:start + KEYS_AT_ONCE]))
        self._found = found
        return found

    def _noted(self) -> set[str]:
        return {line for noted in self._store.get_many(self.keys.lists).values()
                for line in noted.decode().splitlines() if line}

    def clear(self) -> None:
        self._is_over = True  # when the head says so

    def _remove_parts(self, slots: Sequence[Slot] = ()) -> None:
        keys = self.keys
        # The counter first: who counts after that sees that the chord is over, who did before has noted its part.
        self._store.delete_many([keys.missing])
        known = (*slots, *getattr(self.outbox(), 'slots', ()))
        self._store.delete_many([keys.part(slot) for slot in {*map(_name, known), *self._noted()}])
        self._store.delete_many([keys.outbox, *keys.lists])  # what says which parts there are, last

    def remove(self) -> None:
        self._remove_parts()
        self._store.delete_many([self.keys.head])
        self._is_read, self._head = False, None


def _name(slot: Slot | Sequence[Any]) -> str:
    task_id, place = slot
    return f'{task_id}:{"" if place is None else place}'


class KeyValueJoin(RecordJoin):
    """Chords in `store`, for `backend`; `expires` and `kept` are in seconds: for how long those that are over are
    remembered, and what belongs to one that is not."""

    def __init__(self, backend: Any, store: AtomicStore, expires: float | None, kept: int) -> None:
        super().__init__(expires, backend.app.conf)
        self.backend, self.store, self.kept = backend, store, kept

    def step(self, group_id: str, do: Callable[..., T], *args: Any) -> T:
        """``do(record, *args)``, again if somebody else has changed the chord meanwhile."""
        while True:
            record = KeyRecord(self, group_id)
            done = do(record, *args)
            if record.commit():
                return done

    def open(self, chord: Opening) -> None:
        self._note_due(chord.group_id, time.time() + chords.LOOK_INTERVAL)
        super().open(chord)

    def set_size(self, group_id: str, size: int, slots: Sequence[Slot] = ()) -> None:
        before = self.step(group_id, KeyRecord.read)
        super().set_size(group_id, size, slots)
        if before is not None and before.size != size:
            self.store.count(Keys(group_id).missing, size - (UNSIZED if before.size is None else before.size))

    def extend(self, group_id: str, task_id: str | None = None) -> None:
        head = self.step(group_id, KeyRecord.read)
        if head is not None and task_id not in head.added:
            self.store.count(Keys(group_id).missing, 1)
        super().extend(group_id, task_id)

    def part(self, part: Part) -> Report:
        keys, slot = Keys(part.group_id), _name((part.task_id, part.place))
        value = [part.task_id, part.place, part.state, part.result]
        self.store.add(keys.part(slot), ensure_bytes(self.backend.encode(value)), self.kept)
        # A copy of it is noted and counted again: nobody knows how far the one before it came.
        where, line = keys.list_of(slot), slot.encode() + b'\n'
        if not self.store.append(where, line) and not self.store.add(where, line, self.kept):
            self.store.append(where, line)
        report = Report(chords.RECORDED) if self.store.count(keys.missing, -1) else self._complete(part, keys)
        if report.status == chords.DONE:
            self.store.delete_many([keys.part(slot), where])
        return report

    def _complete(self, part: Part, keys: Keys) -> Report:
        """Claim the chord if it is complete, as it seems to be."""
        token = uuid()
        head = self._head(part.group_id)
        if head is None:
            return Report(chords.UNKNOWN_CHORD)
        report = self.step(part.group_id, self.count, part, token)
        while report.status == chords.RECORDED and head.size is not None:
            # Parts came twice, or another part's process has not noted it yet.
            missing = self._missing(part.group_id)
            if self.store.count(keys.missing, missing) is None:
                self.store.set_many({keys.missing: b'%d' % missing}, self.kept)  # it was lost
            excess = missing - self._missing(part.group_id)
            if not excess:
                break
            self.store.count(keys.missing, -excess)
            report = self.step(part.group_id, self.count, part, token)
        return report

    def _head(self, group_id: str) -> ChordHead | None:
        """What is known of the chord; if that was lost, as far as the outbox knows it."""
        return self.step(group_id, self._read_or_restore, time.time())

    def _missing(self, group_id: str) -> int:
        def count(record: KeyRecord) -> int:
            head = record.read()
            return 0 if head is None or head.state == OVER else (head.size or 0) + head.extra - record.count()

        return max(0, self.step(group_id, count))

    def adopt(self, part: Part, callback: Mapping[str, Any]) -> Report:
        """Take up a chord that the store has lost: what came before is missed at the deadline."""
        conf = self.backend.app.conf
        self.open(Opening(part.group_id, part.size, callback, chords.pack_callback(self.backend.app, callback), (),
                          chords.deadline_from_now(conf), None, True))
        return self.part(part)

    # -- the chords that are due -----------------------------------------------------------------------------------

    def _note_due(self, group_id: str, due: float | None) -> None:
        """Note when the chord is due, None for never more."""
        key, kept = self._due_list(crc32(group_id.encode()) % DUE_LISTS), False
        while not kept:
            value, token = self.store.get_token(key)
            noted = json.loads(value) if value else {}
            if due is None and group_id not in noted:
                return
            noted.pop(group_id, None)
            data = json.dumps(noted if due is None else {**noted, group_id: round(due, 3)}).encode()
            kept = self.store.add(key, data, 0) if value is None else self.store.cas(key, data, token, 0)

    def _due_list(self, number: int) -> str:
        return f'{wire.JOIN_DUE}:{self.home}:{number}'

    def due(self, now: float, limit: int) -> Sequence[str]:
        lists = self.store.get_many([*map(self._due_list, range(DUE_LISTS))])
        found = sorted((due, group_id) for value in lists.values()
                       for group_id, due in json.loads(value).items() if due <= now)
        return [group_id for _, group_id in found[:limit]]

    def look(self, group_id: str, now: float, reason: str | None = None) -> Report:
        self._head(group_id)
        report = super().look(group_id, now, reason)
        head = self.step(group_id, KeyRecord.read)
        if report.status == chords.DONE:  # whoever ended it died, and has left something
            KeyRecord(self, group_id)._remove_parts()
        self._note_due(group_id, None if head is None or head.state == OVER else head.due)
        return report

    def _read_or_restore(self, record: KeyRecord, now: float) -> ChordHead | None:
        found = record.find_outbox() if record.read() is None else None
        if found is not None:
            # It may have been claimed already.
            record.write(ChordHead(size=len(found[0].slots) or None, due=now, deadline=found[1], attempts=1))
        return record.read()

    def release(self, claim: Claim) -> None:
        super().release(claim)
        self._note_due(claim.group_id, time.time() + chords.RELEASED_PAUSE)

    def finish(self, claim: Claim, failed: bool = False) -> bool:
        finished = super().finish(claim, failed)
        if finished:
            self._note_due(claim.group_id, None)
        return finished

    def forget(self, group_id: str) -> None:
        super().forget(group_id)
        self._note_due(group_id, None)
