"""Making a failing canvas small, with hypothesis."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.database import ExampleDatabase, choices_to_bytes

from compat.random_canvases.drawing import Wanted, fits, plans
from compat.random_canvases.plans import Plan
from compat.random_canvases.project import Project
from compat.random_canvases.running import Case, Recorded, check

#: Seconds for making one canvas small.
LONGEST = 60.0

_numbers = itertools.count()


class Known(ExampleDatabase):
    """A database with one example, for every test: the choices that lead to what fails.

    It is among the secondary examples: the primary ones are taken to be small already.
    """

    def __init__(self, choices: Sequence[int]) -> None:
        super().__init__()
        self.examples = {choices_to_bytes(choices)}

    def fetch(self, key: bytes) -> Iterable[bytes]:
        return list(self.examples) if key.endswith(b'.secondary') else []

    def save(self, key: bytes, value: bytes) -> None:
        self.examples.add(value)

    def delete(self, key: bytes, value: bytes) -> None:
        self.examples.discard(value)


def shrink(project: Project, recorded: Recorded, wanted: Wanted, choices: Sequence[int], verdict: str) -> Case | None:
    """The smallest case found that fails in the same way; None if the canvas does not fail again."""
    smallest: list[Case] = []
    until = time.monotonic() + LONGEST

    @settings(database=Known(choices), phases=[Phase.reuse, Phase.shrink], deadline=None, report_multiple_bugs=False,
              suppress_health_check=list(HealthCheck), print_blob=False)
    @given(plans(wanted))
    def is_right(plan: Plan) -> None:
        assume(fits(plan) and time.monotonic() < until)
        case = check(project, [plan], recorded, prefix=f's{next(_numbers)}x')[0]
        if case.verdict == verdict:
            smallest.append(case)
            raise AssertionError(verdict)

    recorded.patience = 2.0
    with suppress(Exception):  # hypothesis has its own ways to say that it found something
        is_right()
    return smallest[-1] if smallest else None


def report_of(case: Case) -> str:
    """The case for people: code and what was wrong."""
    named: Any = f'{case.verdict}:\n  {case.code}\n  ' + '\n  '.join(case.said)
    return named.replace(case.prefix, '')
