"""The record of a canvas: what it is made of, by ids, kept with the results when it is sent (``result_canvas_index``).

One record for each call: what is sent on the way, by the call itself or by workers, is in it already. What a task of it
sends by a call of its own, or replaces itself by, has a record of its own, kept with those of its run.
`canvaslite.result.nodes` says what a record looks like, and reads it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from canvaslite.canvas.freezing import Freezing, drive
from canvaslite.canvas.members import is_signature
from canvaslite.result.nodes import CanvasRecord
from canvaslite.utils.functional import maybe_list
from canvaslite.utils.undecoded import encode_json
from canvaslite.utils.uuid import successor_id


class _Here(threading.local):
    inside = False


_here = _Here()


@contextmanager
def recorded(app: Any, end_id: str | None, describe: Callable[[Description], Any], root_id: str | None = None,
             opens: bool = False) -> Iterator[None]:
    """What is sent within ``with`` is the canvas that `describe` describes, whose result has `end_id`: it is recorded,
    unless it is part of one that is. Does not raise where the store is away. `opens`: a chord is opened next."""
    if _here.inside:
        yield
        return
    _here.inside = True
    try:
        keep_record(app, end_id, describe, root_id, opens)
        yield
    finally:
        _here.inside = False


@contextmanager
def part_of_a_canvas() -> Iterator[None]:
    """What is sent within ``with`` is recorded already, with the canvas that it is part of."""
    before, _here.inside = _here.inside, True
    try:
        yield
    finally:
        _here.inside = before


def keep_record(app: Any, end_id: str | None, describe: Callable[[Description], Any], root_id: str | None = None,
                opens: bool = False) -> None:
    """Keep the record of a canvas; nothing if no task in it keeps its result."""
    if not app.conf.result_canvas_index:
        return
    description, parent = Description(app), app.current_worker_task
    said: dict[str, Any] = {'at': round(time.time(), 3), 'end': end_id and str(end_id), 'canvas': describe(description)}
    if not (description.keeps_results and app.backend.keeps_canvases):
        return
    ids = description.ids
    if end_id is not None and str(end_id) not in ids[-1:]:
        ids.append(str(end_id))
    if parent is not None:
        said['by'] = str(parent.request.id)
        root_id = parent.request.root_id or root_id or parent.request.id
    if root_id:
        said['root'] = str(root_id)
    within = [str(task_id) for task_id in (said.get('by'), root_id) if task_id]
    app.backend.keep_canvas(CanvasRecord(str(root_id or end_id or ids[0]), ids, _pack(said), within, opens))


def record_links(app: Any, name: str, options: Mapping[str, Any]) -> None:
    """Record a task that is sent alone with `options`, which have links."""
    if not (_here.inside or options.get('retries')):
        keep_record(app, options['task_id'], lambda record: record.task(name, options), options.get('root_id'))


def keep_members(app: Any, group_id: str, members: list[Any]) -> None:
    """Keep a record of more members of a group, which has been recorded already."""
    if app.backend.keeps_canvases:
        description = Description(app)
        said = {**description.group(None, members), 'more': group_id, 'at': round(time.time(), 3)}
        app.backend.keep_canvas(CanvasRecord(group_id, description.ids, _pack(said), [group_id]))


def _pack(said: Mapping[str, Any]) -> bytes:
    return encode_json(said).encode()


class Description:
    """What is said of a frozen canvas in its record; `ids` are those by which it is found."""

    def __init__(self, app: Any) -> None:
        self.ids: list[str] = []
        #: Whether some task keeps its result.
        self.keeps_results = False
        self._tasks = app.tasks
        self._ignoring: dict[str, bool] = {}

    def canvas(self, sig: Any) -> Any:
        """A signature."""
        return drive(self._canvas(sig))

    def chain(self, steps: list[Any]) -> Any:
        """Steps, in order."""
        return drive(self._chain(steps))

    def group(self, group_id: str | None, members: list[Any]) -> Any:
        """Members of a group."""
        return drive(self._group(group_id, members))

    def chord(self, group_id: str, members: list[Any], body: Any) -> Any:
        """A header, of which a generator may make the members later, and the body."""
        self.keeps_results = self.keeps_results or not members
        return {'chord': self.group(group_id, members), 'body': self.canvas(body)}

    def task(self, name: str, options: Mapping[str, Any]) -> Any:
        """A task that is sent with `options`."""
        task_id = str(options['task_id'])
        self.ids.append(task_id)
        ignored = options.get('ignore_result')
        if ignored is None:
            ignored = self._ignores(name)
        more: dict[str, Any] = {'ignored': True} if ignored else {}
        self.keeps_results = self.keeps_results or not ignored
        if options.get('link'):
            more['links'] = [self._link(link, successor_id(task_id, f'link {place}'))
                             for place, link in enumerate(maybe_list(options['link']) or ())
                             if isinstance(link, Mapping)]  # the worker says what is wrong with another one
        return [name, task_id, more] if more else [name, task_id]

    def _ignores(self, name: str) -> bool:
        if name not in self._ignoring:
            self._ignoring[name] = bool(getattr(self._tasks.get(name), 'ignore_result', False))
        return self._ignoring[name]

    def _link(self, link: Any, made_id: str) -> Any:
        options = link.get('options') or {}
        if link.get('subtask_type') in (None, ''):
            return self.task(link['task'], {**options, 'task_id': options.get('task_id') or made_id})
        # A canvas: what it is made of is recorded when it is sent.
        return self.task(link['task'], {'task_id': made_id, 'ignore_result': False})

    def _canvas(self, sig: Any) -> Freezing:
        kind = sig.KIND if is_signature(sig) else 'task'
        if kind == 'chain':
            frozen = sig._frozen
            return (yield self._chain(frozen[0][::-1] if frozen is not None else sig.tasks))
        if kind == 'group':
            return (yield self._group(sig.id, sig['kwargs']['tasks']))
        if kind == 'chord':
            header = yield self._group(sig.id, sig.tasks.tasks if is_signature(sig.tasks) else sig.tasks)
            return {'chord': header, 'body': (yield self._canvas(sig.body)) if sig.body is not None else None}
        return self.task(sig['task'], sig['options'])

    def _chain(self, steps: list[Any]) -> Freezing:
        described = []
        for step in steps:
            described.append((yield self._canvas(step)))
        return described[0] if len(described) == 1 else {'chain': described}

    def _group(self, group_id: str | None, members: list[Any]) -> Freezing:
        if group_id is not None:
            self.ids.append(group_id := str(group_id))
        name = members[0]['task'] if members else ''
        if all(member['task'] == name and member.KIND == 'task' and not member['options'].get('link')
               and member['options'].get('ignore_result') is None for member in members) and not self._ignores(name):
            ids = [str(member['options']['task_id']) for member in members]
            self.ids += ids
            self.keeps_results = self.keeps_results or bool(ids)
            return {'group': group_id, 'of': ids, 'task': name}
        described = []
        for member in members:
            described.append((yield self._canvas(member)) if member.KIND != 'task'
                             else self.task(member['task'], member['options']))
        return {'group': group_id, 'of': described}
