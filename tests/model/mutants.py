"""Joins that are broken on purpose, one fault each: the model must find out every one of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from math import inf
from typing import Any
from unittest.mock import patch

from canvaslite.backends import store
from canvaslite.backends.cache import MemoryRecord
from canvaslite.backends.chords import Claim, Part
from canvaslite.backends.heads import HELD, OPEN, ChordHead
from canvaslite.backends.keyjoin import KeyRecord
from canvaslite.backends.keyvalue import BaseKeyValueStoreBackend
from canvaslite.backends.queuejoin import QueueJoin
from canvaslite.backends.queuelink import PART, Holding
from canvaslite.backends.recordjoin import RecordJoin
from canvaslite.backends.redis import scripts

Mutant = Callable[[], AbstractContextManager[Any]]


def _counts(record: Any, part: Part) -> None:
    record._parts[part.task_id, part.place, len(record._parts)] = part


def _replaces(record: Any, part: Part) -> None:
    record._parts[part.task_id, part.place] = part


_claim = RecordJoin._claim


def _claim_for_ever(join: Any, record: Any, group_id: str, head: ChordHead, *args: Any) -> Any:
    return _claim(join, record, group_id, head._replace(due=inf) if head.state == HELD else head, *args)


def _finish_and_forget(join: Any, claim: Claim, failed: bool = False) -> bool:
    def begin_anew(record: Any) -> bool:
        head = record.read()
        record.clear()
        record.write(head._replace(state=OPEN))
        return True

    return bool(join.step(claim.group_id, begin_anew))


def _scripted(name: str, old: str, new: str) -> Mutant:
    """A script with another text in one place."""
    def mutant() -> AbstractContextManager[Any]:
        text = getattr(scripts, name).text.decode()
        assert text.count(old) == 1, f'{name} has changed: what was to be broken is not there'
        return patch.object(scripts, name, scripts.Script(text.replace(old, new)))

    return mutant


_take = Holding._take


def _take_last(held: Any, delivery: Any) -> None:
    kind, *said = json.loads(delivery.body.partition(b'\n')[0])
    if kind == PART:
        held.parts.pop((said[0], said[1]), None)
    _take(held, delivery)


@contextmanager
def _send_after(held: Any, claim: Claim, app: Any) -> Iterator[Any]:
    """The body leaves when the parts are gone, and not with them."""
    holding = held._held[claim.token]
    holding.channel.basic_ack(holding.last, multiple=True)
    holding.channel.tx_commit()
    with app.publisher.arriving() as producer:
        yield producer


_read = Holding.read


def _read_only(held: Any, message: bytes | None = None) -> None:
    _read(held)


@contextmanager
def _no_lease() -> Iterator[None]:
    """Claims without an end in the two scripts that make them."""
    with (_scripted('PART', "'NX', 'PX', lease * 1000)", "'NX')")(),
          _scripted('LOOK', "'NX', 'PX', lease * 1000)", "'NX')")(),
          _scripted('RENEW', "ARGV[5], 'PX', ARGV[6])", 'ARGV[5])')()):
        yield


#: By store and what is wrong.
ALL: Mapping[tuple[str, str], Mutant] = {
    ('memory', 'a counter instead of a set'): lambda: patch.object(MemoryRecord, 'add', _counts),
    ('memory', 'the last result wins'): lambda: patch.object(MemoryRecord, 'add', _replaces),
    ('memory', 'a claim that never ends'): lambda: patch.object(RecordJoin, '_claim', _claim_for_ever),
    ('memory', 'nobody who sweeps'): lambda: patch.object(store, 'sweep', lambda *args: 0),
    ('memory', 'no tombstone'): lambda: patch.object(RecordJoin, 'finish', _finish_and_forget),
    ('memory', 'another value than the stored one'): lambda: patch.object(
        BaseKeyValueStoreBackend, 'keep_and_count', store.Backend.keep_and_count),
    ('redis', 'a counter instead of a set'): _scripted(
        'PART', "redis.call('SADD', seen, slot)", "redis.call('SADD', seen, slot .. redis.call('SCARD', seen))"),
    ('redis', 'the last result wins'): _scripted(
        'PART', "if redis.call('SADD', seen, slot) == 1 and not is_there() then",
        "redis.call('SADD', seen, slot) redis.call('ZREMRANGEBYSCORE', parts, score, score) if true then"),
    ('redis', 'a claim that never ends'): _no_lease,
    ('redis', 'nobody who sweeps'): lambda: patch.object(store, 'sweep', lambda *args: 0),
    ('redis', 'no tombstone'): _scripted(
        'FINISH', "redis.call('SET', claim, 'done', 'EX', ARGV[6])", "redis.call('DEL', claim)"),
    ('redis', 'nothing due when it begins'): _scripted(
        'OPEN', "redis.call('ZADD', due, now + tonumber(pause), id)", ''),
    ('rpc', 'the last result wins'): lambda: patch.object(Holding, '_take', _take_last),
    ('rpc', 'a body that leaves after the parts'): lambda: patch.object(QueueJoin, 'sending', _send_after),
    ('rpc', 'a last part that is not added'): lambda: patch.object(Holding, 'read', _read_only),
    ('rpc', 'nothing that says a body has run'): lambda: patch.object(QueueJoin, 'outcome', lambda *args: None),
    ('rpc', 'nobody who sweeps'): lambda: patch.object(store, 'sweep', lambda *args: 0),
    ('atomic', 'a counter that is trusted'): lambda: patch.object(KeyRecord, 'count', lambda record: 1000),
    ('atomic', 'parts that stay'): lambda: patch.object(KeyRecord, 'clear', lambda record: None),
}
