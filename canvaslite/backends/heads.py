"""What is known of a chord besides its parts: how it began (`Opening`, `Outbox`), and how it goes (`ChordHead`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ('HELD', 'OPEN', 'OVER', 'ChordHead', 'Opening', 'Outbox', 'Slot')

#: A task's id and its place in the header, None if it has none.
Slot = tuple[str, 'int | None']

# What becomes of a chord.
OPEN, HELD, OVER = 'open', 'claimed', 'done'


class ChordHead(NamedTuple):
    """What is known of a chord besides its parts and its outbox. Times are seconds since 1970."""

    #: Number of parts, None until it is known, and how many were added since.
    size: int | None = None
    extra: int = 0
    #: OPEN, HELD or OVER.
    state: str = OPEN
    #: Who holds the claim, and how often it was given.
    token: str | None = None
    attempts: int = 0
    #: When somebody must look again: at an open chord, at a claim that has run out; of one that is over, when nobody
    #: will miss the record any more.
    due: float = 0.0
    #: When the chord fails if it is not complete, None for never.
    deadline: float | None = None
    #: Whose workers look after it.
    home: str = ''
    #: The tasks that were added.
    added: Sequence[str] = ()


class Opening(NamedTuple):
    """A chord that begins. Times are in seconds since 1970."""

    group_id: str
    #: Number of parts, None if it is not known yet.
    size: int | None
    #: The body's signature, and what `pack_callback` made of it.
    callback: Mapping[str, Any]
    packed: bytes
    #: The tasks that end the header, as far as they are known.
    slots: Sequence[Slot]
    #: When it fails if it is not complete.
    deadline: float | None
    #: The header's `GroupResult` as a tuple, where the join keeps it (`ChordJoin.keeps_shape`).
    shape: Any = None
    #: It may have begun already, and must then go on as it is.
    again: bool = False
    #: Whose workers look after it: see `home_of`.
    home: str = ''


class Outbox(NamedTuple):
    """What a chord needs to be ended by a process that has no message of it."""

    #: The packed body, and the slots of the header.
    callback: bytes
    slots: Sequence[Slot]
    #: When the chord began, and the tasks that were added since, where the head does not say that.
    opened: float = 0.0
    added: Sequence[str] = ()
