"""Task ids: random UUIDs (version 4) as text, without the detour over `uuid.UUID`."""

from __future__ import annotations

from os import urandom
from typing import Any
from uuid import NAMESPACE_OID, uuid5

#: The hexadecimal digit that carries the variant bits (RFC 4122: ``10xx``), by the random digit it replaces.
_VARIANT = {digit: '89ab'[int(digit, 16) & 3] for digit in '0123456789abcdef'}


def uuid() -> str:
    """A new random UUID, 36 characters."""
    # The operating system is asked each time: a buffer of random bytes would be shared by forked children.
    digits = urandom(16).hex()
    return f'{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}'


def successor_id(task_id: Any, place: str) -> str:
    """The id of a task that follows from another one and has none of its own: the same whenever it is asked for."""
    return str(uuid5(NAMESPACE_OID, f'{task_id} {place}'))
