"""What the setting ``canvas_strict`` changes: routing options and links of a canvas hold for the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canvaslite.canvas.copying import map_parts
from canvaslite.canvas.members import is_linked, is_signature
from canvaslite.canvas.signatures import Signature
from canvaslite.canvas.steps import make_chord
from canvaslite.wire import ACCUMULATE

#: Options that say where to; who has one of them of its own is not told the others.
_ADDRESS = frozenset({'queue', 'exchange', 'exchange_type', 'routing_key'})
ROUTING = _ADDRESS | {'priority', 'delivery_mode'}


def strict_copy(canvas: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A copy to be run, whose tasks have its routing options and those among `options`; and what else is in these."""
    copy = canvas.clone(**{name: value for name, value in options.items() if name in ROUTING and value is not None})
    hand_down(copy, {})
    copy._disposable = True
    return copy, {name: value for name, value in options.items() if name not in ROUTING}


def hand_down(sig: Any, options: Mapping[str, Any]) -> None:
    """Give the tasks of `sig` the routing options of what they are in, outermost `options`; their own win."""
    pending = [(sig, {name: value for name, value in options.items() if name in ROUTING})]
    while pending:
        sig, routing = pending.pop()
        own = sig['options']
        addressed = not _ADDRESS.isdisjoint(own)
        routing = {**{name: value for name, value in routing.items() if not (addressed and name in _ADDRESS)},
                   **{name: own.pop(name) for name in ROUTING & own.keys()}}
        if not sig.PARTS:
            own.update(routing)
            continue

        def visit(part: Any, sig: Any = sig, routing: dict[str, Any] = routing) -> Any:
            part = part if is_signature(part) else Signature.from_dict(part, app=sig._app)
            pending.append((part, routing))
            return part

        sig['kwargs'] = map_parts(sig['kwargs'], sig.PARTS, visit)


def joined(group: Any) -> Any:
    """`group`, a copy of our own; or if anything is linked to it as a whole, the chord that gives its list to that."""
    options = group['options']
    if not is_linked(group):
        return group
    links = {name: options.pop(name) for name in ('link', 'link_error') if name in options}
    chord = make_chord(group, Signature(ACCUMULATE, (), {'index': 0}, links, app=group._app))
    chord['kwargs']['header'] = group
    return chord
