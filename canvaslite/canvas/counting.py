"""How many tasks must end before a chord's body runs: the parts of a join."""

from __future__ import annotations

from typing import Any

from canvaslite.canvas.signatures import Signature
from canvaslite.canvas.steps import is_signature

__all__ = ('count_parts',)


def count_parts(sig: Any) -> int:
    """Number of tasks that end `sig`.

    One for a task; for a group all that end its members; for a chain those that end its last step that has any; for a
    chord those that end its body. A list counts its elements.
    """
    total = 0
    pending = [sig]
    while pending:
        sig = pending.pop()
        if isinstance(sig, dict) and not is_signature(sig):
            sig = Signature.from_dict(sig)
        if is_signature(sig) and sig.KIND == 'chunks':
            sig = sig.group()
        if not is_signature(sig):
            total += len(sig)
        elif sig.KIND == 'group':
            members = sig['kwargs']['tasks']
            pending.extend(members['kwargs']['tasks'] if is_signature(members) else members)
        elif sig.KIND == 'chain':
            total += next(filter(None, map(count_parts, reversed(sig['kwargs']['tasks']))), 0)
        elif sig.KIND == 'chord':
            pending.append(sig.body)
        else:
            total += 1
    return total
