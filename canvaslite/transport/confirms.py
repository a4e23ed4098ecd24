"""Publisher confirms of one channel: which messages the broker has not answered for yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from amqp import spec
from amqp.exceptions import ChannelError, MessageNacked


class Returned(NamedTuple):
    """A message that the broker sent back, with its reason; `properties` as the broker sent them."""

    reply_code: int
    reply_text: str
    exchange: str
    routing_key: str
    properties: bytes = b''


class MessagesReturned(ChannelError):  # type: ignore[misc]
    """The broker sent messages back: no queue gets what they name. It keeps none of them."""

    def __init__(self, text: str, reply_code: int, returned: Sequence[Returned]) -> None:
        self.returned = tuple(returned)
        super().__init__(text, spec.Basic.Return, 'Basic.return', reply_code)


class BrokerBlocked(TimeoutError):
    """The broker takes no messages on this connection: an alarm of its memory or disk."""


class BurstNacked(MessageNacked):  # type: ignore[misc]
    """The broker refused messages: those at `positions` in the burst, in rising order. It keeps none of them."""

    def __init__(self, text: str, positions: Sequence[int]) -> None:
        self.positions = tuple(positions)
        super().__init__(text)


class Confirms:
    """Counts the delivery tags of a channel in confirm mode."""

    def __init__(self) -> None:
        #: Tag of the last message published, and of the first one that was published since the last verdict.
        self._last = 0
        self._first = 1
        #: No tag below this one is outstanding.
        self._oldest = 1
        self._outstanding: set[int] = set()
        self._nacked: list[int] = []
        self._returned: list[Returned] = []
        self._routes: dict[int, tuple[str, str]] = {}
        #: Nobody waits any more for what is outstanding.
        self._given_up = False

    @property
    def outstanding(self) -> int:
        """How many messages the broker has not answered for."""
        return len(self._outstanding)

    def expect(self, count: int, routes: Sequence[tuple[str, str]] = ()) -> None:
        """`count` more messages are on their way; `routes` (exchange, routing key) name them in an error."""
        if self._given_up:
            self._outstanding.clear()
            self._start_afresh()
        first = self._last + 1
        self._last += count
        if count == 1:
            self._outstanding.add(first)
        else:
            self._outstanding.update(range(first, first + count))
        if routes:
            self._routes.update(zip(range(first, first + count), routes, strict=False))

    def settle(self, tag: int, multiple: bool, accepted: bool) -> None:
        """The broker answered for `tag`, and with `multiple` for all before it."""
        if not multiple:
            settled = [tag] if tag in self._outstanding else []
        elif tag == 0:  # AMQP's way to say all of them
            settled = sorted(self._outstanding)
        else:
            settled = [each for each in range(self._oldest, tag + 1) if each in self._outstanding]
            self._oldest = max(self._oldest, tag + 1)
        self._outstanding.difference_update(settled)
        if not accepted:
            self._nacked += settled

    def add_return(self, returned: Returned) -> None:
        self._returned.append(returned)

    def give_up(self) -> None:
        """Stop waiting; late answers are not taken for those to the messages that follow."""
        self._given_up = True

    def unconfirmed(self, count: int) -> list[int]:
        """Which of the `count` messages since the last verdict are not known to have arrived, by their positions."""
        first, doubtful = self._first, self._outstanding.union(self._nacked)
        return [position for position in range(count) if first + position in doubtful or first + position > self._last]

    def describe(self) -> str:
        """The messages that are waited for, in words."""
        routes = [self._routes[tag] for tag in self._outstanding if tag in self._routes]
        return f'{len(self._outstanding)} message(s){_name_routes(routes)}'

    def raise_for_refused(self) -> None:
        """Raise if a message since the last verdict was refused (`BurstNacked`) or sent back (`MessagesReturned`)."""
        nacked, returned, routes, first = sorted(self._nacked), self._returned, self._routes, self._first
        self._start_afresh()
        if nacked:
            self._returned = returned  # to be told next time: whoever tries the refused ones again waits again
            named = _name_routes([routes[tag] for tag in nacked if tag in routes])
            raise BurstNacked(f'The broker refused {len(nacked)} message(s){named}', [tag - first for tag in nacked])
        if returned:
            raise_returned(returned)

    def _start_afresh(self) -> None:
        self._first = self._oldest = self._last + 1
        self._nacked, self._returned, self._routes, self._given_up = [], [], {}, False


def raise_returned(returned: Sequence[Returned]) -> None:
    """Raise the error for messages that came back."""
    first, named = returned[0], _name_routes([(each.exchange, each.routing_key) for each in returned])
    raise MessagesReturned(f'The broker sent back {len(returned)} message(s){named}: {first.reply_text}: no queue is '
                           'there for them', first.reply_code, returned)


def _name_routes(routes: Sequence[tuple[str, str]]) -> str:
    routes = sorted(set(routes))
    if not routes:
        return ''
    shown = ', '.join(f'exchange {exchange!r} with routing key {routing_key!r}' for exchange, routing_key in routes[:3])
    return f' to {shown}' + (' and others' if len(routes) > 3 else '')
