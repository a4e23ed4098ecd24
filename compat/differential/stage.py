"""`Stage`: what a scenario is given to act with, and what is written down of how it went."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from compat.differential import project
from compat.differential.spy import HEARING, TASK_SIGNALS, plain
from compat.differential.wiretap import Wiretap

#: Seconds that the tasks of one scenario may take.
PATIENCE = 30.0
#: The queue that the workers read.
QUEUE = 'spied'
#: Seconds for the value of a result that is said to be ready, and for one in a tree that may hold some that are not.
READY_TIMEOUT, TREE_TIMEOUT = 10.0, 1.0

Record = dict[str, Any]


class Stage:
    """Acts for one package: sends, waits until all that was sent has ended, and looks at what there is then."""

    def __init__(self, broker: str) -> None:
        self.app = project.app
        self.package = project.package
        self.canvas = project.canvas
        self.tasks = project
        self.redis = project.spy.redis
        self.store = self.app.backend.client
        self.wiretap = Wiretap(broker)
        #: Ids of tasks of earlier scenarios, of which something may be told late.
        self.known: set[Any] = set()
        self.messages: list[Record] = []
        self._start()

    def _start(self) -> None:
        self.known.update(message['headers'].get('id') for message in self.messages)
        self.results: dict[str, Any] = {}
        self.notes: dict[str, Any] = {}
        self.messages: list[Record] = []
        self.seen: list[Record] = []
        self.unfinished: list[str] = []

    # -- for scenarios --------------------------------------------------------------------------------------------

    def send(self, canvas: Any, *args: Any, name: str = '', **options: Any) -> Any:
        """`apply_async` of a canvas with partial arguments and options; the result is looked at in the end."""
        return self.keep(canvas.apply_async(args or None, **options), name)

    def keep(self, result: Any, name: str = '') -> Any:
        """Look at this result in the end."""
        self.results[name or f'result {len(self.results) + 1}'] = result
        return result

    def note(self, name: str, value: Any) -> None:
        """Write down a value."""
        self.notes[name] = show(value)

    def attempt(self, name: str, function: Callable[[], Any]) -> Any:
        """Write down what `function` returns, or raises."""
        try:
            value = function()
            self.notes[name] = show(value)
        except Exception as exc:
            self.notes[name] = show(exc)
            return None
        return value

    @contextmanager
    def settings(self, **settings: Any) -> Iterator[None]:
        """Other settings for a while."""
        before = {name: self.app.conf[name] for name in settings}
        self.app.conf.update(settings)
        try:
            yield
        finally:
            self.app.conf.update(before)

    def open(self, gate: str) -> None:
        """Let a task that waits for the gate go on."""
        self.redis.rpush(f'gate:{gate}', 1)

    def revoke(self, result: Any) -> None:
        """Revoke, and return when the worker knows."""
        result.revoke()
        self.app.control.ping(limit=1, timeout=5)  # it answers in the order in which it is asked

    def await_signal(self, name: str, count: int = 1) -> None:
        """Wait until workers have told `count` times of a signal."""
        self._await(lambda: sum(record.get('name') == name for record in self.seen) >= count)

    def settle(self) -> None:
        """Wait until each message that was sent has come to an end."""
        if not self._await(lambda: not self._outstanding()):
            self.unfinished = sorted(self._outstanding())

    def _await(self, condition: Callable[[], bool]) -> bool:
        publisher = getattr(self.app, 'publisher', None)
        if publisher is not None:  # calls of ours go on before the broker has their messages
            publisher.settle_streams()
        until = time.monotonic() + PATIENCE
        while True:
            self._take_seen(0.0)
            self.messages.extend(self.wiretap.read())
            if condition():
                return True
            if time.monotonic() > until:
                return False
            self._take_seen(1.0)

    def _outstanding(self) -> Counter[str]:
        """Ids of messages of which no end was told."""
        sent = Counter(message['headers'].get('id') for message in self.messages if message['routing_keys'] == [QUEUE])
        return sent - Counter(record['id'] for record in self.seen if self._ends(record))

    def _ends(self, record: Record) -> bool:
        """Whether no more will be told of the message."""
        if record['where'] != 'worker' or not TASK_SIGNALS.get(record.get('name', '')):
            return False
        # A worker of Celery tells again of a task that is rejected, or that it could not record, from its main process.
        more = {'REJECTED': 'task_failure', None: 'task_internal_error'}.get(record['values'].get('state', ''))
        return more is None or any(other.get('name') == more and other['id'] == record['id'] for other in self.seen)

    def _take_seen(self, wait: float) -> None:
        if wait:
            taken = self.redis.blpop(['seen'], wait)
            if taken is None:
                return
            self._hear(taken[1])
        for text in self.redis.lpop('seen', 100000) or ():
            self._hear(text)

    def _hear(self, text: bytes) -> None:
        record = json.loads(text)
        if record.get('id') not in self.known:
            self.seen.append(record)

    def hear(self, on: bool) -> None:
        """Let all processes listen to the signals of publishing, or not."""
        project.spy.hear(on)
        self.redis.set(HEARING, 1) if on else self.redis.delete(HEARING)

    # -- for those who run scenarios --------------------------------------------------------------------------------

    def perform(self, scenario: Callable[[Stage, Any, Any], None]) -> Record:
        """What there is to say of a scenario."""
        self._start()
        started = time.monotonic()
        try:
            scenario(self, self.canvas, self.tasks)
        except Exception as exc:
            self.notes['raised'] = show(exc)
        self.settle()
        record = {
            'notes': self.notes, 'unfinished': self.unfinished, 'messages': self.messages, 'seen': self.seen,
            'results': {name: describe(result) for name, result in self.results.items()}, 'stored': self._stored(),
            'seconds': time.monotonic() - started, 'sender': self.app.thread_oid,
        }
        self.store.flushdb()
        return record

    def _stored(self) -> Record:
        readers: dict[str, Callable[[str], Any]] = {
            'string': self.store.get, 'zset': lambda key: self.store.zrange(key, 0, -1, withscores=True),
            'set': self.store.smembers, 'hash': self.store.hgetall, 'list': lambda key: self.store.lrange(key, 0, -1)}
        found = {}
        for raw in sorted(self.store.keys('*')):
            key = raw.decode()
            kind = self.store.type(raw).decode()
            if key.removeprefix('celery-task-meta-') in self.known:
                continue
            value = readers[kind](raw)
            found[key] = {'kind': kind, 'expires': self.store.ttl(raw) > 0,
                          'value': read_stored(value) if kind == 'string' else '…'}
        return found


def read_stored(value: bytes) -> Any:
    """A stored value as data, if it is JSON."""
    try:
        return json.loads(value)
    except ValueError:
        return value.decode('utf-8', 'replace')


def show(value: Any) -> Any:
    """`value` in a form that can be compared."""
    if isinstance(value, dict) and 'subtask_type' in value:
        return {'signature': type(value).__name__, **{key: show(member) for key, member in value.items()}}
    if isinstance(value, dict):
        return {str(key): show(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [show(member) for member in value]
    if hasattr(value, 'as_tuple') and hasattr(value, 'id'):
        return {'class': type(value).__name__, 'tree': show(value.as_tuple())}
    return plain(value)


# -- results -------------------------------------------------------------------------------------------------------

def describe(result: Any) -> Any:
    """All that a result says when everything has ended."""
    if result is None or isinstance(result, (str, list)):
        return plain(result)
    said: Record = {'class': type(result).__name__, 'tree': show(result.as_tuple())}
    for name in ('ready', 'successful', 'failed'):
        said[name] = attempt(getattr(result, name))
    nodes = ancestors(result)
    for place, node in enumerate(nodes):
        said[f'parent {place}' if place else 'itself'] = describe_node(node)
    said['value'] = attempt(lambda: result.get(timeout=READY_TIMEOUT)) if said['ready'] else 'not ready'
    first = nodes[-1]
    for name, node in (('collect', result), ('collect of the first', first)):
        if hasattr(node, 'collect'):
            said[name] = attempt(lambda node=node: [[member.id, value] for member, value in node.collect(
                timeout=TREE_TIMEOUT, propagate=False)])
    if hasattr(first, 'build_graph'):
        said['graph'] = attempt(lambda: edges(first.graph))
        said['graph while it runs'] = attempt(lambda: edges(first.build_graph(intermediate=True)))
    return said


def ancestors(result: Any) -> list[Any]:
    """A result and all that came before it."""
    nodes = [result]
    while getattr(nodes[-1], 'parent', None) is not None:
        nodes.append(nodes[-1].parent)
    return nodes


def describe_node(node: Any) -> Record:
    """State, value and children of one result, or of each member of a group."""
    said: Record = {'class': type(node).__name__, 'id': node.id, 'text': str(node), 'repr': repr(node)}
    if getattr(node, 'results', None) is not None:
        said['members'] = [describe_node(member) for member in node.results]
        said['completed'] = attempt(node.completed_count)
        return said
    said['state'] = node.state
    said['result'] = show(node.result)
    said['children'] = show(node.children)
    said['traceback'] = node.traceback
    for name in ('name', 'args', 'kwargs', 'worker', 'retries', 'queue'):
        said[name] = attempt(lambda name=name: getattr(node, name))
    said['done'] = node.date_done is not None
    return said


def edges(graph: Any) -> list[Any]:
    """The edges of a graph of results."""
    return [[node.id, [getattr(target, 'id', str(target)) for target in targets]] for node, targets in graph.items()]


def attempt(function: Callable[[], Any]) -> Any:
    """What `function` returns or raises, to be compared."""
    try:
        return show(function())
    except Exception as exc:
        return show(exc)
