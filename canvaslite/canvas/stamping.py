"""Stamps: headers of the user's own that go with every task of a canvas.

A stamp is an execution option whose name is listed in the option ``stamped_headers``. `StampingVisitor` says which
stamps each part of a canvas gets; the functions below merge what it says with what is there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from canvaslite.utils.functional import maybe_list

STAMPED_HEADERS = 'stamped_headers'


class StampingVisitor(ABC):
    """Says which stamps the parts of a canvas get, given those from above; only `on_signature` must be written."""

    @abstractmethod
    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any] | None:
        """Stamps of one task."""

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any] | None:
        """Stamps of every member of a group."""
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None:
        """The members of a group have their stamps."""
        return

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any] | None:
        """Stamps of every step of a chain."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:
        """The steps of a chain have their stamps."""
        return

    def on_chord_header_start(self, sig: Any, **header: Any) -> dict[str, Any] | None:
        """Stamps of every member of a chord's header: those of a group, unless overridden."""
        return self.on_group_start(sig.header_group(), **header)

    def on_chord_header_end(self, sig: Any, **header: Any) -> None:
        """The members of a chord's header have their stamps."""
        self.on_group_end(sig.tasks, **header)

    def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any] | None:
        """Stamps of a chord's body."""
        return {}

    def on_callback(self, callback: Any, **header: Any) -> dict[str, Any] | None:
        """Stamps of what is linked to success."""
        return {}

    def on_errback(self, errback: Any, **header: Any) -> dict[str, Any] | None:
        """Stamps of what is linked to failure."""
        return {}


def merge_stamps(stamps: dict[str, Any], others: Mapping[str, Any] | None, aggregate_duplicates: bool = True) -> None:
    """Add `others` to `stamps`, in place.

    Where both have a name, lists are joined and dicts are merged; of other values both are kept in a list with
    `aggregate_duplicates`, else the one in `stamps` stays.
    """
    for name, other in (others or {}).items():
        if name not in stamps:
            stamps[name] = other
            continue
        value = stamps[name]
        if isinstance(value, dict):
            merge_stamps(value, other, aggregate_duplicates)
        elif isinstance(value, list) and isinstance(other, list):
            stamps[name] = value + other
        elif aggregate_duplicates:
            joins = isinstance(other, list) and isinstance(value, (str, int, float))
            stamps[name] = [*(maybe_list(value) or ()), *(other if joins else [other])]


def collect_stamps(headers: Mapping[str, Any], of_visitor: dict[str, Any] | None = None,
                   own: Mapping[str, Any] | None = None, append_stamps: bool = False) -> dict[str, Any]:
    """All stamps for one part of a canvas, with their names under ``stamped_headers``: `headers` from above, what a
    visitor returned, and those in the part's `own` options. With `append_stamps` one that is there twice gets both."""
    stamps = _copy_dicts(headers)
    stamps.setdefault(STAMPED_HEADERS, list(headers))
    if of_visitor is not None:
        of_visitor.setdefault(STAMPED_HEADERS, list(of_visitor))
        merge_stamps(stamps, of_visitor, append_stamps)
    if own is not None:
        stamps[STAMPED_HEADERS] = [*stamps[STAMPED_HEADERS], *(own.get(STAMPED_HEADERS) or ())]
        names = frozenset(stamps[STAMPED_HEADERS])
        merge_stamps(stamps, {name: value for name, value in own.items() if name in names}, append_stamps)
    stamps[STAMPED_HEADERS] = list(dict.fromkeys(stamps[STAMPED_HEADERS]))
    return stamps


def _copy_dicts(stamps: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which merging changes nothing of the caller's."""
    return {name: _copy_dicts(value) if isinstance(value, dict) else value for name, value in stamps.items()}
