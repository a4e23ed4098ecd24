"""`CanvasTree`: all of a run, found by the id of anything in it, with the state of each task."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from canvaslite import states
from canvaslite.current import app_or_current
from canvaslite.result.nodes import Node, Run
from canvaslite.utils.redact import one_line
from canvaslite.utils.time import second_done

__all__ = ('CanvasTree', 'Counts')

#: States of tasks that keep no result, or were passed over; and of what would have followed a failure.
IGNORED, NOT_RUN = states.IGNORED, 'NOT RUN'
#: A canvas of which something has begun.
RUNNING = 'RUNNING'
#: States that say that all that came before has ended.
_BEGUN = frozenset({states.SUCCESS, states.STARTED, states.RETRY, states.RECEIVED})
_SETTLED = frozenset({*states.READY_STATES, IGNORED, NOT_RUN})


class Counts(NamedTuple):
    """Numbers of tasks."""

    #: Succeeded, or without a result that is kept; failed or revoked; never to run, because of those; others.
    done: int
    failed: int
    not_run: int
    waiting: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


class CanvasTree:
    """A run of `app`, with the states as they were when `refresh` was called last (`find` calls it)."""

    def __init__(self, app: Any, run: Run) -> None:
        self.app = app
        self.run = run
        self._results: dict[int, Any] = {}

    @classmethod
    def find(cls, id: str, app: Any = None) -> CanvasTree | None:
        """The run that the task, group or canvas `id` is part of, or the one that has sent it; None if no record of one
        is kept: a single task has none. Raises what the store raises when it is away."""
        app = app_or_current(app)
        run, asked = app.backend.find_canvas(id), set[str]()
        while run is None and app.backend.keeps_canvases and id not in asked:
            asked.add(id)
            id = app.backend.get_task_meta(id).get('parent_id') or id
            run = app.backend.find_canvas(id) if id not in asked else None
        return None if run is None else cls(app, run).refresh()

    # -- what is known -------------------------------------------------------------------------------------------

    def tasks(self) -> dict[str, Node]:
        """All tasks by their ids."""
        return {task_id: node for task_id, node in self.run.nodes.items() if node.kind == 'task'}

    def walk(self) -> Iterator[Node]:
        """All nodes, each before what hangs on it."""
        for top in self.run.tops:
            yield from top.walk()

    def refresh(self) -> CanvasTree:
        """Ask the store for the states that are not final; returns itself."""
        asked: set[str] = set()
        while new := [task_id for task_id, node in self.tasks().items()
                      if node.state not in states.READY_STATES and task_id not in asked]:
            asked.update(new)
            for task_id, meta in self.app.backend.get_task_metas(new).items():
                node = self.run.nodes[task_id]
                node.meta, node.state = meta, meta['status']
                node.name = node.name or meta.get('name')
                self._add_children(node, meta.get('children') or ())
        self._settle()
        return self

    def _add_children(self, node: Node, children: Iterable[Any]) -> None:
        """Take up what a task has sent without a record: tasks alone."""
        for child in children:
            (task_id, _), members = child if not hasattr(child, 'as_stored_tuple') else child.as_stored_tuple()
            sent = Node('task' if members is None else 'group', task_id)
            if task_id in self.run.nodes:
                continue
            if members is not None:
                sent.add(Node('task', member[0][0]) for member in members if member[0][0] not in self.run.nodes)
            if members is None or sent.below:
                node.add([sent], 'sent')
                self.run.nodes.update((str(part.id), part) for part in sent.walk())

    def _settle(self) -> None:
        """Conclude what no store says: of tasks without a result, and of canvases."""
        nodes = list(self.walk())
        for node in nodes:  # a task stands in two places if it was replaced by what ends in it
            known = self.run.nodes.get(node.id) if node.id is not None else None
            if known is not None and known is not node:
                node.state, node.meta = known.state, known.meta
        ended: dict[int, float | None] = {}
        for node in reversed(nodes):
            if node.kind in ('chain', 'chord'):
                _pass_over(node)
            if node.state in states.PROPAGATE_STATES:
                for link in node.links:
                    _mark(link, NOT_RUN)
            if node.kind == 'task':
                if node.ignored and node.state == states.PENDING:
                    node.state = IGNORED
                ended[id(node)] = second_done(node.meta) if node.state in states.READY_STATES else None
            else:
                parts = [part.state for part in node.below]
                node.state = _state_of(parts)
                times = [ended[id(part)] for part in node.below if part.state in states.READY_STATES]
                ended[id(node)] = max(filter(None, times), default=None)
        for node in nodes:
            self._set_times(node, ended)

    def _set_times(self, node: Node, ended: Mapping[int, float | None]) -> None:
        since, settled = node.since, True
        for part in node.below:
            part.since = since if settled else None
            if node.kind != 'group':
                settled, since = part.state in _SETTLED, ended[id(part)] or since
        for link in node.links:
            link.since = ended[id(node)]
        end = ended[id(node)] if node.state in _SETTLED else time.time()
        node.seconds = None if end is None or node.since is None else max(0.0, end - node.since)

    def counts(self) -> Counts:
        """How many tasks are in which state."""
        found = Counter(node.state for node in self.tasks().values())
        failed, done = found[states.FAILURE] + found[states.REVOKED], found[states.SUCCESS] + found[IGNORED]
        return Counts(done, failed, found[NOT_RUN], sum(found.values()) - done - failed - found[NOT_RUN])

    @property
    def state(self) -> str:
        """SUCCESS, FAILURE or REVOKED when all has ended, else RUNNING or PENDING."""
        return _state_of([node.state for node in self.tasks().values()])

    @property
    def is_done(self) -> bool:
        """Whether all has ended."""
        return self.state in _SETTLED

    # -- as results ----------------------------------------------------------------------------------------------

    def result(self, id: str | None = None) -> Any:
        """The result of a task or group, its parents with it as far as they are in the same chain or chord; by default
        what the call that began the run has returned."""
        node = self.run.tops[0].end if id is None else self.run.nodes[id]
        return None if node is None else self.result_of(node)

    def result_of(self, node: Node) -> Any:
        """The result of a node, as the call that sent it made it."""
        if not self._results:
            for made in reversed(list(self.walk())):
                self._results[id(made)] = self._make_result(made)
        return self._results[id(node)]

    def _make_result(self, node: Node) -> Any:
        if node.kind == 'task':
            return self.app.AsyncResult(node.id)
        parts = [self._results[id(part)] for part in node.below]
        if node.kind == 'group':
            return self.app.GroupResult(node.id, parts)
        before: Any = None
        for part in parts:
            first = [part, *part.ancestors()][-1]
            first.parent, before = before, part
        return before

    def arcs(self) -> dict[str | None, list[Any]]:
        """By the id of each result those that come after it in the same canvas, are in it as in a group, or were sent
        by it; by None the first."""
        inside: dict[str | None, list[Any]] = {}
        after: dict[str | None, list[Any]] = {}
        waiting: list[tuple[str | None, Any]] = [(None, self.result_of(top)) for top in reversed(self.run.tops)]
        waiting += [(node.id, self.result_of(sent)) for node in self.walk() for sent in (*node.links, *node.sent)]
        while waiting:
            under, result = waiting.pop()
            found = inside
            for node in reversed([result, *result.ancestors()] if result is not None else []):
                found.setdefault(under, []).append(node)
                under, found = node.id, after
                waiting.extend((node.id, member) for member in reversed(node.results or ()))
        return {id: [*inside.get(id, ()), *after.get(id, ())] for id in {**inside, **after}}

    # -- acting on it ------------------------------------------------------------------------------------------------

    def revoke(self, **options: Any) -> dict[str, Any]:
        """Stop all of it: tell the workers not to run any task of it, or what such a task sends, and end its chords.

        `options` are those of ``control.revoke``: ``terminate`` and ``signal`` for what runs, ``reply``, ``timeout``.
        Returns how many tasks were ``revoked``, how many ``chords`` were ended, and the ``replies``.
        """
        tasks = [task_id for task_id, node in self.tasks().items() if node.state not in states.READY_STATES]
        firsts = [task.id for top in self.run.tops for task in top.firsts()]
        # The chords first: that a task of the header is revoked would be a failure.
        chords = [node.below[0].id for node in self.walk() if node.kind == 'chord']
        ended = sum(self.app.backend.abort_chord(group_id, 'revoked') for group_id in chords)
        replies = self.app.control.revoke(tasks, root_ids=firsts, **options) if tasks else None
        return {'revoked': len(tasks), 'chords': ended, 'replies': replies or []}

    def forget(self) -> None:
        """Remove the results of all tasks of the run, what is kept of its chords, and its record."""
        for task_id in self.tasks():
            self.app.backend.forget(task_id)
        self.app.backend.forget_canvas(self.run)

    # -- as text -----------------------------------------------------------------------------------------------------

    def lines(self, most: int | None = None) -> list[str]:
        """The drawing, a line for each node; of the members of a group at most so many, if there is a limit."""
        drawn: list[str] = []
        waiting: list[tuple[str, str, str, Node | None]] = [('', '', _line(top), top) for top in self.run.tops[::-1]]
        while waiting:
            first, rest, text, node = waiting.pop()
            drawn.append(first + text)
            shown, left = ([], Counter[str]()) if node is None else _choose(node, most)
            parts: list[tuple[str, Node | None]] = [(_line(part, node), part) for part in shown]
            if left:
                states_left = ', '.join(f'{number} {state}' for state, number in sorted(left.items()))
                parts.append((f'… {sum(left.values())} more: {states_left}', None))
            for place in range(len(parts) - 1, -1, -1):
                last = place == len(parts) - 1
                waiting.append((rest + ('└─ ' if last else '├─ '), rest + ('   ' if last else '│  '), *parts[place]))
        return drawn

    def __str__(self) -> str:
        return '\n'.join(self.lines())

    def as_dict(self) -> dict[str, Any]:
        """The run as data, of which JSON can be made."""
        made: dict[int, dict[str, Any]] = {}
        for node in reversed(list(self.walk())):
            said = {'kind': node.kind, 'name': node.name, 'id': node.id, 'state': node.state,
                    'seconds': None if node.seconds is None else round(node.seconds, 3), 'error': error_of(node)}
            made[id(node)] = {name: value for name, value in said.items() if value is not None}
            for name in ('below', 'links', 'sent'):
                if parts := getattr(node, name):
                    made[id(node)][name] = [made[id(part)] for part in parts]
        return {**self.summary(), 'tree': [made[id(top)] for top in self.run.tops]}

    def summary(self) -> dict[str, Any]:
        """The state and the numbers of tasks, as data."""
        counts = self.counts()
        return {'run': self.run.id, 'state': self.state, **counts._asdict(), 'total': counts.total}


def describe(node: Node) -> str:
    """What a node is, how long it took or has taken, and its error."""
    what = [node.kind if node.kind != 'task' else node.name or '(a task)']
    what += [str(node.id)] if node.id is not None else []
    if node.seconds is not None and node.state not in (IGNORED, NOT_RUN):
        what.append(f'{node.seconds:.2f}s' + ('' if node.state in states.READY_STATES else '…'))
    error = error_of(node)
    return '  '.join([*what, *([error] if error is not None else [])])


def error_of(node: Node) -> str | None:
    """The error of a task that has failed, in one line."""
    result = node.meta.get('result')
    if node.kind != 'task' or node.state not in states.EXCEPTION_STATES or result is None:
        return None
    return f'{type(result).__name__}: {one_line(result)}' if isinstance(result, BaseException) else str(result)


def _line(node: Node, above: Node | None = None) -> str:
    relation = ''
    if above is not None and node in above.links:
        relation = 'link: '
    elif above is not None and node in above.sent:
        relation = 'replaced by: ' if any(task.id == above.id for task in node.tasks()) else 'sent: '
    return f'{node.state:<8} {relation}{describe(node)}'


def _choose(node: Node, most: int | None) -> tuple[list[Node], Counter[str]]:
    """The parts to be drawn, of a large group first those that say most; and the states of the others."""
    if most is None or len(node.below) <= most:
        return node.parts, Counter()
    rank = {states.FAILURE: 0, states.REVOKED: 1, states.RETRY: 2, states.STARTED: 3, RUNNING: 3}
    first = sorted(range(len(node.below)), key=lambda place: rank.get(node.below[place].state, 4))
    shown = [node.below[place] for place in sorted(first[:most])]
    left = Counter(node.below[place].state for place in first[most:])
    return [*shown, *node.links, *node.sent], left


def _pass_over(canvas: Node) -> None:
    """Tasks that must have ended, since what follows them has begun, but of which no result is kept."""
    begun = False
    for part in reversed(canvas.below):
        if begun:
            _mark(part, IGNORED)
        begun = begun or any(task.state in _BEGUN for task in part.tasks())


def _mark(canvas: Node, state: str) -> None:
    for task in canvas.tasks():
        if task.state == states.PENDING:
            task.state = state


def _state_of(parts: list[str]) -> str:
    found = set(parts)
    if not found <= _SETTLED:
        return states.PENDING if found == {states.PENDING} else RUNNING
    return next((state for state in (states.FAILURE, states.REVOKED) if state in found), states.SUCCESS)
