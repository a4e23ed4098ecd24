"""What is recorded of a canvas, and the nodes that are read from it.

A record is JSON: ``canvas`` (what was sent), ``at`` (when, in seconds since 1970), ``end`` (the id of its result), and
if a task sent it ``by`` (that task's id) and ``root``. In it a task is ``[name, id]``, with a third item for
``{"ignored": true, "links": [...]}``; a chain ``{"chain": [steps]}``; a group ``{"group": id, "of": [members]}``, or of
many plain tasks ``{"group": id, "of": [ids], "task": name}``; a chord ``{"chord": header, "body": body}``. A record
``{"of": ...}`` with ``"more": id`` adds members to that group, whose header a generator makes.

A *run* is what comes of one call: its record, and those of what its tasks send.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from canvaslite import states, wire
from canvaslite.utils.undecoded import decode_json

__all__ = ('CanvasRecord', 'Node', 'read_run')


#: Names by which a canvas stands among the links of a task that has not ended.
_CANVASES = (wire.CHAIN, wire.GROUP, wire.CHORD)


class CanvasRecord(NamedTuple):
    """What a store keeps of a canvas that is sent."""

    #: The id of its run, unless it is `within` another.
    run: str
    #: All ids by which it is found.
    ids: Sequence[str]
    #: The record, as JSON.
    data: bytes
    #: Ids of tasks: the run of the first of them that is known is its run.
    within: Sequence[str] = ()
    #: Whether the store is told next, and at once, that a chord begins: it may take both together.
    opens: bool = False


class Node:
    """A task, or a canvas with what is `below` it: a chain's steps, a group's members, a chord's header and body."""

    __slots__ = ('above', 'below', 'id', 'ignored', 'kind', 'links', 'meta', 'name', 'seconds', 'sent', 'since',
                 'state')

    def __init__(self, kind: str, id: str | None = None, name: str | None = None) -> None:
        #: task, chain, group or chord.
        self.kind = kind
        #: A task's or group's.
        self.id = id
        #: A task's; None where nobody has said it.
        self.name = name
        self.above: Node | None = None
        self.below: list[Node] = []
        #: Callbacks of a task, and canvases that it has sent.
        self.links: list[Node] = []
        self.sent: list[Node] = []
        #: Whether the task keeps no result.
        self.ignored = False
        #: What is known of it; of a canvas, of all that is below.
        self.state: str = states.PENDING
        self.meta: Mapping[str, Any] = {}
        #: Since when it could run, in seconds since 1970, and how long after that it ended, or how long that is ago.
        self.since: float | None = None
        self.seconds: float | None = None

    def add(self, nodes: Iterable[Node], to: str = 'below') -> Node:
        """Put nodes below this one; returns itself."""
        for node in nodes:
            node.above = self
            getattr(self, to).append(node)
        return self

    @property
    def parts(self) -> list[Node]:
        """All that hangs on it."""
        return [*self.below, *self.links, *self.sent]

    def walk(self) -> Iterator[Node]:
        """Itself and all that hangs on it, in the order of a drawing."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.parts))

    def tasks(self) -> Iterator[Node]:
        """The tasks of the canvas itself, without links and what they sent."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if node.kind == 'task':
                yield node
            waiting.extend(reversed(node.below))

    @property
    def end(self) -> Node | None:
        """The task or group whose result is that of the canvas; None of an empty chain."""
        node: Node | None = self
        while node is not None and node.kind in ('chain', 'chord'):
            node = node.below[-1] if node.below else None
        return node

    def firsts(self) -> Iterator[Node]:
        """The tasks of it that run first."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if node.kind == 'task':
                yield node
            waiting.extend(node.below if node.kind == 'group' else node.below[:1])

    def before(self) -> list[Node]:
        """The tasks that must succeed before this one can run, the first of them first."""
        found: list[Node] = []
        node = self
        while (above := node.above) is not None:
            if above.kind in ('chain', 'chord') and node in above.below:
                place = above.below.index(node)
                found[:0] = [task for step in above.below[:place] for task in step.tasks()]
            elif above.kind == 'task' and node in above.links:
                found.insert(0, above)
            node = above
        return found


    def after(self) -> list[Node]:
        """The tasks that come after it in its chains, up to what a chord or group makes of them."""
        found: list[Node] = []
        node = self
        while (above := node.above) is not None and above.kind != 'group' and node in above.below:
            place = above.below.index(node)
            found += [task for step in above.below[place + 1:] for task in step.tasks()]
            node = above
        return found


class Run(NamedTuple):
    """All that is known of one run."""

    id: str
    #: What was sent by the call; a task, if that sent a canvas and was not part of one itself.
    tops: list[Node]
    #: All nodes with an id; of one that stands in two places the first.
    nodes: dict[str, Node]
    #: Ids of the results that calls have returned: the first is what the run's caller got.
    ends: list[str]
    #: When it was sent, in seconds since 1970.
    sent_at: float


def read_run(run_id: str, records: Iterable[bytes]) -> Run:
    """The run of which these are the records, in the order in which they were kept."""
    run = Run(run_id, [], {}, [], 0.0)
    seen: set[str] = set()
    for data in records:
        said = decode_json(data.decode())
        if 'more' in said:
            if said['more'] in run.nodes:
                members = _members(said)
                run.nodes[said['more']].add(members)
                _index(run, members, said['at'])
            continue
        if repr(said['canvas']) in seen:
            continue  # the task that sent it ran twice, and sent it under the same ids
        seen.add(repr(said['canvas']))
        top = _read(said['canvas'])
        run.ends.append(said['end'])
        link = run.nodes.get(said['end'])
        if said.get('by') is None:
            run.tops.append(top)
        elif link is not None and link.name in _CANVASES and link.above is not None:  # here is what it is made of
            link.above.links[link.above.links.index(link)] = top
            top.above = link.above
            del run.nodes[said['end']]
        else:
            _task_that_sent(run, said).add([top], 'sent')
        _index(run, [top], said['at'])
        run = run._replace(sent_at=run.sent_at or said['at'])
    return run


def _task_that_sent(run: Run, said: Mapping[str, Any]) -> Node:
    by, root = said['by'], said.get('root') or said['by']
    for task_id in (root, by):
        if task_id not in run.nodes:
            run.nodes[task_id] = node = Node('task', task_id)
            run.nodes[root].add([node], 'sent') if task_id != root else run.tops.append(node)
    return run.nodes[by]


def _index(run: Run, tops: Iterable[Node], sent_at: float) -> None:
    for top in tops:
        for node in top.walk():
            node.since = sent_at
            if node.id is not None:
                run.nodes.setdefault(node.id, node)


def _read(said: Any) -> Node:
    top = Node('')
    waiting: list[tuple[Any, Node, str]] = [(said, top, 'below')]
    while waiting:
        said, above, to = waiting.pop()
        node = _node(said)
        above.add([node], to)
        if isinstance(said, list):
            waiting.extend((link, node, 'links') for link in reversed(said[2].get('links', ()) if said[2:] else ()))
        elif 'chord' in said:
            waiting.extend((part, node, 'below') for part in (said['body'], said['chord']) if part is not None)
        elif 'task' in said:
            node.add(_members(said))
        else:
            waiting.extend((part, node, 'below') for part in reversed(said.get('chain') or said.get('of') or ()))
    node = top.below[0]
    node.above = None
    return node


def _node(said: Any) -> Node:
    if isinstance(said, list):
        node = Node('task', said[1], said[0])
        node.ignored = bool(said[2:] and said[2].get('ignored'))
        return node
    kind = next(kind for kind in ('chain', 'chord', 'group') if kind in said)
    return Node(kind, said['group'] if kind == 'group' else None)


def _members(said: Mapping[str, Any]) -> list[Node]:
    """Members of a group."""
    if 'task' in said:
        return [Node('task', task_id, said['task']) for task_id in said['of']]
    return [_read(member) for member in said['of']]
