from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from canvaslite.worker.receipts import RawReceipts


class Channel:
    """A channel that keeps RabbitMQ's book of unacknowledged deliveries, and fails as it does."""

    def __init__(self, deliveries: int = 0) -> None:
        self.connection = self
        self.unacked = set(range(1, deliveries + 1))
        self.acks = 0
        self.flushed = 0

    def ack_raw(self, tag: int, multiple: bool = False) -> None:
        assert tag in self.unacked, f'unknown delivery tag {tag}'
        self.unacked -= {other for other in self.unacked if other <= tag} if multiple else {tag}
        self.acks += 1

    def reject_raw(self, tag: int, requeue: bool) -> None:
        assert tag in self.unacked, f'unknown delivery tag {tag}'
        self.unacked.remove(tag)

    def flush(self) -> None:
        self.flushed += 1


def delivery(tag: int) -> Any:
    return SimpleNamespace(delivery_tag=tag, properties=b'')


def receipts_of(channel: Channel) -> RawReceipts:
    receipts = RawReceipts(channel)
    for tag in sorted(channel.unacked):
        receipts.expect(delivery(tag))
    return receipts


def test_what_ended_in_order_is_acknowledged_at_once() -> None:
    channel = Channel(100)
    receipts = receipts_of(channel)
    for tag in range(1, 81):
        receipts.acknowledge(delivery(tag))
    receipts.flush()
    assert channel.unacked == set(range(81, 101))
    assert channel.acks == 1


def test_what_ended_before_an_earlier_one_does_not_wait_for_it() -> None:
    channel = Channel(10)
    receipts = receipts_of(channel)
    for tag in (2, 4, 3):
        receipts.acknowledge(delivery(tag))
    receipts.flush()
    assert channel.unacked == {1, 5, 6, 7, 8, 9, 10}


@given(st.lists(st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=10), max_size=10))
def test_the_broker_always_knows_what_was_settled(turns: list[list[tuple[int, bool]]]) -> None:
    channel = Channel(30)
    receipts = receipts_of(channel)
    settled: set[int] = set()
    for turn in turns:
        for tag, accepted in turn:
            if tag in settled:
                continue
            settled.add(tag)
            if accepted:
                receipts.acknowledge(delivery(tag))
            else:
                receipts.reject(delivery(tag), True)
        receipts.flush()
        assert channel.unacked == set(range(1, 31)) - settled


def test_closed_receipts_say_nothing_to_the_next_channel() -> None:
    channel: Any = Channel(3)
    receipts = receipts_of(channel)
    receipts.acknowledge(delivery(1))
    receipts.close()
    receipts.acknowledge(delivery(2))
    receipts.reject(delivery(3), True)
    receipts.flush()
    assert channel.unacked == {1, 2, 3}
