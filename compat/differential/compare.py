"""Comparing the records of both sides: what differs, and whether the table says that it should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from compat.differential.differences import DIFFERENCES, Intended
from compat.differential.normal import flatten, normalise

MISSING = '(nothing)'


class Found(NamedTuple):
    """One difference: where, and what either side has there."""

    scenario: str
    path: str
    celery: str
    canvaslite: str

    def __str__(self) -> str:
        return f'{self.scenario}\n  {self.path}\n    celery:     {self.celery}\n    canvaslite: {self.canvaslite}'


class Comparison(NamedTuple):
    """What a comparison found."""

    #: Number of values compared, by aspect.
    compared: Mapping[str, int]
    #: Those that the table lists, by the entry that does.
    intended: Mapping[Intended, list[Found]]
    unintended: list[Found]
    #: Entries of the table that no difference is found for.
    gone: list[Intended]

    @property
    def agrees(self) -> bool:
        """Whether all differences, and only these, are those of the table."""
        return not self.unintended and not self.gone


def compare(celery: Mapping[str, Any], canvaslite: Mapping[str, Any], whole: bool = True) -> Comparison:
    """Compare the records of both sides; unless `whole`, an entry of the table may be without its difference."""
    compared: Counter[str] = Counter()
    found = []
    for scenario, record in celery.items():
        theirs, ours = (dict(flatten(normalise(side))) for side in (record, canvaslite[scenario]))
        compared.update(path.partition('/')[0] for path in {*theirs, *ours})
        found.extend(differing(scenario, theirs, ours))
    intended: dict[Intended, list[Found]] = {entry: [] for entry in DIFFERENCES}
    unintended = []
    for one in found:
        entry = entry_for(one, DIFFERENCES)
        unintended.append(one) if entry is None else intended[entry].append(one)
    gone = [entry for entry, differences in intended.items() if not differences] if whole else []
    return Comparison(compared, intended, unintended, gone)


def differing(scenario: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterable[Found]:
    """Where the two sides differ."""
    for path in dict.fromkeys([*theirs, *ours]):
        left, right = (repr(side[path]) if path in side else MISSING for side in (theirs, ours))
        if left != right:
            yield Found(scenario, path, left, right)


def entry_for(found: Found, table: Iterable[Intended]) -> Intended | None:
    """The first entry of the table that lists the difference."""
    return next((entry for entry in table if any(fnmatchcase(found.scenario, name) for name in entry.scenarios)
                 and any(fnmatchcase(found.path, path) for path in entry.paths)
                 and fnmatchcase(found.celery, entry.celery) and fnmatchcase(found.canvaslite, entry.canvaslite)), None)


def report(comparison: Comparison, seconds: Mapping[str, float], count: int) -> str:
    """The comparison as text."""
    lines = [f'{count} scenarios, in ' + ', '.join(f'{took:.0f} s by {side}' for side, took in seconds.items()), '',
             f'{"aspect":12} {"compared":>9} {"intended":>9} {"not intended":>13}']
    intended = Counter(one.path.partition('/')[0] for found in comparison.intended.values() for one in found)
    unintended = Counter(one.path.partition('/')[0] for one in comparison.unintended)
    for aspect, total in sorted(comparison.compared.items()):
        lines.append(f'{aspect:12} {total:9} {intended[aspect]:9} {unintended[aspect]:13}')
    lines += ['', 'Intended differences:']
    for entry, found in comparison.intended.items():
        scenarios = len({one.scenario for one in found})
        lines.append(f'  {len(found):5} in {scenarios:3} scenarios: {entry.what}')
    if comparison.unintended:
        lines += ['', 'Differences that nobody intended:', *map(str, comparison.unintended)]
    if comparison.gone:
        lines += ['', 'Listed, but found no more:', *(f'  {entry.what} ({entry.row})' for entry in comparison.gone)]
    return '\n'.join(lines)
