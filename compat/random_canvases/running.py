"""Running canvases on real workers, and comparing what comes of them with what they mean."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compat.random_canvases.meaning import Failed, Meaning, as_value
from compat.random_canvases.plans import Plan, code_of, prefixed
from compat.random_canvases.project import VARIABLE, Project
from tests.workers import WorkerProcess

#: Seconds without any news after which what is not there is not waited for.
PATIENCE = 8.0
ROOT = Path(__file__).parents[2]

RIGHT, WRONG, DISORDERED, HUNG, MISCOUNTED = 'right', 'wrong', 'disordered', 'hung', 'miscounted'
FAULTS = (WRONG, DISORDERED, HUNG, MISCOUNTED)


@dataclass
class Case:
    """One canvas that is run: what was expected and what came."""

    plan: Plan
    prefix: str
    code: str
    expected: Any
    runs: Counter[tuple[str, str]]
    result: Any = None
    verdict: str = RIGHT
    said: list[str] = field(default_factory=list)

    def blame(self, verdict: str, what: str) -> None:
        """Something is wrong with it; the first verdict stays."""
        self.verdict = verdict if self.verdict == RIGHT else self.verdict
        self.said.append(what)


def case_of(plan: Plan, prefix: str) -> Case:
    """A case of the plan, with names that no other has."""
    plan, meaning = prefixed(plan, prefix), Meaning()
    expected = meaning.send(plan)
    return Case(plan, prefix, code_of(plan), expected, meaning.runs)


# -- workers ----------------------------------------------------------------------------------------------------------

@contextmanager
def worker_of(project: Project, pool: str, concurrency: int = 2) -> Iterator[None]:
    """A worker of the project: a process, or for a store that is one process's own, a thread of this one."""
    if project.app.conf.result_backend.startswith('cache+memory'):
        with worker_in_thread(project, pool, concurrency):
            yield
        return
    command = [sys.executable, '-m', project.given['package'], '-A', 'compat.random_canvases.worker_app', 'worker',
               '-P', pool, '-c', str(concurrency), '-l', 'CRITICAL', '-n', f'random{os.getpid()}@%h']
    env = {'PYTHONPATH': str(ROOT), VARIABLE: json.dumps(project.given)}
    worker = WorkerProcess(command, env, ROOT)
    try:
        project.names['mark'].delay('ready').get(timeout=60)
        yield
    except BaseException:
        print(worker.output[-5000:], file=sys.stderr)
        raise
    finally:
        worker.process.terminate()
        try:
            worker.wait(20)
        finally:
            worker.kill()


@contextmanager
def worker_in_thread(project: Project, pool: str, concurrency: int) -> Iterator[None]:
    """A worker inside this process."""
    testing = importlib.import_module(f'{project.given["package"]}.contrib.testing.worker')
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # of the failures that are drawn
    try:
        with testing.start_worker(project.app, concurrency, pool, perform_ping_check=False):
            project.names['mark'].delay('ready').get(timeout=60)
            yield
    finally:
        logging.disable(disabled)


# -- one batch --------------------------------------------------------------------------------------------------------

class Recorded:
    """What the tasks have written to the file of the project."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.runs: Counter[tuple[str, str]] = Counter()
        self.read_to = 0
        self.changed = time.monotonic()
        self.patience = PATIENCE

    def read(self) -> Counter[tuple[str, str]]:
        """All runs until now."""
        with open(self.path, 'a+b') as file:
            file.seek(self.read_to)
            news = file.read()
        whole = news[:news.rfind(b'\n') + 1]
        if whole:
            self.changed = time.monotonic()
        self.read_to += len(whole)
        for line in whole.splitlines():
            name, inputs = json.loads(line)
            self.runs[name, inputs] += 1
        return self.runs

    def is_quiet(self) -> bool:
        """Whether nothing has run for a while."""
        self.read()
        return time.monotonic() - self.changed > self.patience


def run_batch(project: Project, recorded: Recorded, cases: Sequence[Case]) -> None:
    """Send the canvases all at once, await them, and compare."""
    for case in cases:
        try:
            case.result = project.build(case.code).apply_async()
        except Exception as exc:
            case.blame(WRONG, f'cannot be sent: {exc!r}')
    recorded.changed = time.monotonic()
    for case in cases:
        if case.result is not None:
            compare_outcome(case, lambda case=case: await_value(case, recorded))  # type: ignore[misc]
    await_runs(recorded, cases)


def await_value(case: Case, recorded: Recorded) -> Any:
    """The value of the result, errors in their place. Raises `TimeoutError` when it does not come."""
    while True:
        try:
            value = case.result.get(timeout=0.5, propagate=False)
        except Exception as exc:
            if type(exc).__name__ != 'TimeoutError' or recorded.is_quiet():
                raise
        else:
            # Others that the caller holds end too, though not everyone looks at them.
            until = time.monotonic() + recorded.patience
            while not is_expected_to_stay_open(case) and (open_ids := unfinished(case.result)):
                if time.monotonic() > until:
                    raise TimeoutError(f'{len(open_ids)} results of its parts do not end')
                time.sleep(0.02)
            return value


def is_expected_to_stay_open(case: Case) -> bool:
    """A task that raises ``Ignore`` leaves its own state as it is."""
    return any(node.kind == 'ignore' for node in case.plan.nodes())


def unfinished(result: Any) -> list[str]:
    """Ids of the results that are not ready, among `result`, those before it and the members of groups."""
    found, waiting, seen = [], [result], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        waiting.append(node.parent)
        members = getattr(node, 'results', None)
        if members is not None:
            waiting.extend(members)
        elif not node.ready():
            found.append(node.id)
    return found


def compare_outcome(case: Case, fetch: Callable[[], Any]) -> None:
    """Fetch the value and compare it."""
    try:
        value = fetch()
    except Exception as exc:
        if type(exc).__name__ == 'TimeoutError':
            case.blame(HUNG, f'does not end: {exc}')
        else:
            case.blame(WRONG, f'asking for its value raised {exc!r}')
        return
    if is_same(value, case.expected):
        return
    disordered = is_same(in_order(value), in_order(as_value(case.expected)))
    case.blame(DISORDERED if disordered else WRONG, f'got {value!r}\n  expected {case.expected!r}')


def is_same(value: Any, expected: Any) -> bool:
    """Whether a value is the expected outcome."""
    if isinstance(expected, Failed):
        return isinstance(value, BaseException) and type(value).__name__ == expected.error and (
            expected.name in f'{value} {getattr(value, "reason", "")}')
    if isinstance(expected, list):
        return (isinstance(value, (list, tuple)) and len(value) == len(expected)
                and all(map(is_same, value, expected)))
    return bool(value == expected)


def in_order(value: Any) -> Any:
    """A value with its lists in a fixed order."""
    return sorted(map(in_order, value), key=repr) if isinstance(value, (list, tuple)) else value


def await_runs(recorded: Recorded, cases: Sequence[Case]) -> None:
    """Wait until each task has run as often as it should, or nothing more comes."""
    missing: Counter[tuple[str, str]] = Counter()
    for case in cases:
        if case.verdict not in (HUNG, WRONG):
            missing.update(case.runs)
    while not all(recorded.runs[run] >= count for run, count in missing.items()) and not recorded.is_quiet():
        time.sleep(0.02)


def compare_runs(recorded: Recorded, cases: Sequence[Case]) -> None:
    """Compare which tasks have run, how often and with what."""
    by_case: dict[str, Counter[tuple[str, str]]] = {}
    for (name, inputs), count in recorded.read().items():
        by_case.setdefault(name.partition('t')[0], Counter())[name, inputs] += count
    for case in cases:
        happened = by_case.get(case.prefix, Counter())
        if happened != case.runs:
            case.blame(MISCOUNTED, f'ran too often: {dict(happened - case.runs)}\n'
                       f'  not often enough: {dict(case.runs - happened)}')


def check(project: Project, plans: Sequence[Plan], recorded: Recorded, batch: int = 100,
          prefix: str = 'c') -> list[Case]:
    """Run all plans, so many at a time; the cases, with verdicts."""
    cases = [case_of(plan, f'{prefix}{number}.') for number, plan in enumerate(plans)]
    for begin in range(0, len(cases), batch):
        run_batch(project, recorded, cases[begin:begin + batch])
    time.sleep(0.3)  # for what runs too often
    compare_runs(recorded, cases)
    return cases


# -- eager ----------------------------------------------------------------------------------------------------------

def check_eagerly(project: Project, plans: Sequence[Plan]) -> list[Case]:
    """Call ``apply_async`` of each canvas with an app that always runs everything in the caller's process."""
    cases = []
    for number, plan in enumerate(plans):
        case = case_of(plan, f'e{number}.')
        compare_outcome(case, lambda case=case: project.build(case.code).apply_async().get())  # type: ignore[misc]
        cases.append(case)
    return cases
