"""The list of tests that are not passed, each with its reason, held against what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from compat.upstream.running import Outcome

NOT_PASSED = Path(__file__).parent / 'not_passed.txt'


def read_list(path: Path = NOT_PASSED) -> dict[str, str]:
    """The reason for each entry of the list.

    A reason is a paragraph of lines that begin with ``#``; it is that of the entries that follow it, one a line. An
    entry is a test's id; without parameters it stands for all of them; it may be the name of a whole class or file.
    """
    reasons: dict[str, str] = {}
    reason: list[str] = []
    in_reason = False
    for line in path.read_text().splitlines():
        if line.startswith('#'):
            reason = [*(reason if in_reason else ()), line.lstrip('# ')]
        elif line.strip():
            reasons[line.strip()] = ' '.join(reason)
        in_reason = line.startswith('#')
    return reasons


def entry_of(test: str, entries: Mapping[str, str]) -> str | None:
    """The entry that covers `test`, or None."""
    plain = test.partition('[')[0]
    parts = plain.split('::')
    names = (test, plain, *('::'.join(parts[:count]) for count in range(len(parts) - 1, 0, -1)))
    return next((name for name in names if name in entries), None)


def compare(path: str, ours: Outcome, celerys: Iterable[str] | None, entries: Mapping[str, str]
            ) -> tuple[list[str], list[str], list[str], list[str]]:
    """What became of the tests of a file: passed, known not to pass, failed unexpectedly; and entries that are wrong.

    The tests that count are those that Celery passes; where that is not known, all that are neither skipped nor
    expected to fail. An entry is wrong when nothing that it covers fails.
    """
    counted = list(celerys) if celerys is not None else ours.names('passed', 'failed')
    passed, known, unexpected = [], [], []
    for test in counted:
        outcome, reason = ours.tests.get(test, ('missing', ''))
        if outcome == 'passed':
            passed.append(test)
        elif entry_of(test, entries):
            known.append(test)
        else:
            unexpected.append(f'{test}  {outcome}  {reason}')
    unexpected.extend(f'{path}  {trouble}' for trouble in ours.trouble if path not in entries)
    needed = {entry_of(test, entries) for test in known} | ({path} if ours.trouble else set())
    wrong = [entry for entry in entries if entry.partition('::')[0] == path and entry not in needed]
    return passed, known, unexpected, wrong
