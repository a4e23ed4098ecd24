"""`Inspect`: asks workers what they do, and gathers their answers by node name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partialmethod
from typing import Any

from kombu.matcher import match

from canvaslite.exceptions import DuplicateNodenameWarning


def flatten_reply(reply: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """``[{node: answer}, ...]`` as one dict by node; warns of nodes that answered twice."""
    nodes: dict[str, Any] = {}
    twice: set[str] = set()
    for answer in reply:
        twice.update(name for name in answer if name in nodes)
        nodes.update(answer)
    if twice:
        warnings.warn(DuplicateNodenameWarning(
            f'Several workers answered as {", ".join(sorted(twice))}: give each its own name with worker -n.'),
            stacklevel=2)
    return nodes


class Inspect:
    """Questions to all workers, to those named in `destination`, or to those whose name fits `pattern`.

    `timeout` (seconds) is how long answers are waited for, `limit` how many at most; `callback` gets each.
    Every method returns ``{node: answer}``, or the answer itself when `destination` is one name; None without answers.
    """

    app: Any = None

    def __init__(self, destination: Any = None, timeout: float = 1.0, callback: Callable[[Any], Any] | None = None,
                 connection: Any = None, app: Any = None, limit: int | None = None, pattern: str | None = None,
                 matcher: str | None = None) -> None:
        self.app = app or self.app
        self.connection, self.callback = connection, callback
        self.destination, self.pattern, self.matcher = destination, pattern, matcher
        self.timeout, self.limit = timeout, limit

    def _request(self, command: str, **arguments: Any) -> Any:
        destination = [self.destination] if isinstance(self.destination, str) else self.destination
        return self._prepare(self.app.control.broadcast(
            command, arguments=arguments, destination=destination, callback=self.callback, connection=self.connection,
            limit=self.limit, timeout=self.timeout, reply=True, pattern=self.pattern, matcher=self.matcher))

    def _prepare(self, reply: Any) -> Any:
        if not reply:
            return None
        by_node = flatten_reply(reply)
        if isinstance(self.destination, str):
            return by_node.get(self.destination)
        if self.pattern:
            return {node: answer for node, answer in by_node.items() if match(node, self.pattern, self.matcher)}
        return by_node

    #: Information for bug reports, logical clocks, statistics, ids of revoked tasks, queues that are consumed from.
    report, clock = partialmethod(_request, 'report'), partialmethod(_request, 'clock')
    stats, revoked = partialmethod(_request, 'stats'), partialmethod(_request, 'revoked')
    active_queues = partialmethod(_request, 'active_queues')

    def active(self, safe: bool | None = None) -> Any:
        """Tasks that run; with `safe` their arguments as representations."""
        return self._request('active', safe=safe)

    def scheduled(self, safe: bool | None = None) -> Any:
        """Tasks that wait for their ETA."""
        return self._request('scheduled')

    def reserved(self, safe: bool | None = None) -> Any:
        """Tasks that wait for a process."""
        return self._request('reserved')

    def registered(self, *taskinfoitems: str) -> Any:
        """Tasks that the workers know, with these of their attributes."""
        return self._request('registered', taskinfoitems=taskinfoitems)

    registered_tasks = registered

    def ping(self, destination: Any = None) -> Any:
        """Who is there."""
        if destination:
            self.destination = destination
        return self._request('ping')

    def query_task(self, *ids: Any) -> Any:
        """Where the tasks with these ids are, as far as the workers have them."""
        if len(ids) == 1 and isinstance(ids[0], (list, tuple)):
            ids = tuple(ids[0])
        return self._request('query_task', ids=ids)

    def conf(self, with_defaults: bool = False) -> Any:
        """Configurations, without passwords."""
        return self._request('conf', with_defaults=with_defaults)

    def hello(self, from_node: str, revoked: Any = None) -> Any:
        """What a new worker should know."""
        return self._request('hello', from_node=from_node, revoked=revoked)
