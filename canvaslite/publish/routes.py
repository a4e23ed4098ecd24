"""Routing: from the name of a task, ``task_routes`` and the options of a call to where it is sent."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kombu import Queue
from kombu.utils.imports import symbol_by_name

from canvaslite.exceptions import QueueNotFound
from canvaslite.utils.functional import given

Options = dict[str, Any]


class MapRoute:
    """A router made of a mapping: task name, glob or compiled pattern, to a queue's name or a dict of options."""

    def __init__(self, routes: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        self.map: dict[str, Any] = {}
        self.patterns: dict[re.Pattern[str], Any] = {}
        for name, route in routes.items() if isinstance(routes, Mapping) else routes:
            if isinstance(name, re.Pattern):
                self.patterns[name] = route
            elif '*' in name:
                self.patterns[re.compile(fnmatch.translate(name))] = route
            else:
                self.map[name] = route

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Options | None:
        """The route of the task, or None. An exact name wins, then the first pattern that matches."""
        if name in self.map:
            return _as_options(self.map[name])
        for pattern, route in self.patterns.items():
            if pattern.match(name):
                return _as_options(route)
        return None


class Router:
    """Applies the routers of ``task_routes`` in their order; the first that knows the task decides."""

    def __init__(self, routes: Iterable[Any] | None = None, queues: Any = None, create_missing: bool = False,
                 app: Any = None) -> None:
        self.app = app
        self.queues = {} if queues is None else queues
        self.routes = list(routes or ())
        self.create_missing = create_missing

    @property
    def constant(self) -> bool:
        """Whether a task's route depends on its name and options alone, so that it need be found only once."""
        return all(isinstance(router, MapRoute) for router in self.routes)

    def route(self, options: Options, name: str, args: Any = (), kwargs: Any = None, task_type: Any = None) -> Options:
        """The options with the destination filled in, what the caller gave winning. Raises `QueueNotFound`."""
        options = self.expand_destination(options)
        if self.routes:
            route = self.lookup_route(name, args, kwargs or {}, options, task_type)
            if route:
                return {**self.expand_destination(route), **given(options)}
        if 'queue' not in options:
            return {**self.expand_destination(self.app.conf.task_default_queue), **given(options)}
        return options

    def expand_destination(self, route: Any) -> Options:
        """A route (a queue's name or options) as options whose ``queue`` is a `kombu.Queue`."""
        expanded = _as_options(route)
        queue = expanded.pop('queue', None)
        if queue:
            try:
                expanded['queue'] = queue if isinstance(queue, Queue) else self.queues[queue]
            except KeyError:
                raise QueueNotFound(f'Queue {queue!r} missing from task_queues') from None
        return expanded

    def lookup_route(self, name: str, args: Any = None, kwargs: Any = None, options: Any = None,
                     task_type: Any = None) -> Any:
        """What the first router that knows the task says, or None."""
        for place, router in enumerate(self.routes):
            if isinstance(router, str):  # imported when it is asked first
                router = self.routes[place] = expand_router_string(router)
            if hasattr(router, 'route_for_task'):  # the old style
                route = router.route_for_task(name, args, kwargs)
            else:
                route = router(name, args, kwargs, options, task=task_type)
            if route is not None:
                return route
        return None


def expand_router_string(router: Any) -> Any:
    """The router a dotted name stands for; a class with ``route_for_task`` is instantiated."""
    found = symbol_by_name(router)
    return found() if hasattr(found, 'route_for_task') else found


def prepare(routes: Any) -> list[Any]:
    """The value of ``task_routes`` as a list of routers; names of routers stay names until they are asked."""
    if routes is None:
        return []
    several = routes if isinstance(routes, (list, tuple)) else (routes,)
    return [MapRoute(route) if isinstance(route, (Mapping, list, tuple)) else route for route in several]


def _as_options(route: Any) -> Options:
    return {'queue': route} if isinstance(route, (str, Queue)) else dict(route)
