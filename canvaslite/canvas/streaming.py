"""Sending a chord whose header a generator makes: its first tasks run while the generator makes the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from canvaslite.canvas.freezing import drive
from canvaslite.canvas.groups import group
from canvaslite.canvas.members import LazyMembers, is_signature
from canvaslite.canvas.records import keep_members
from canvaslite.canvas.signatures import Signature
from canvaslite.result import GroupResult

#: What is made within so many seconds is sent together.
MOMENT = 0.05


def may_stream(header: Any, app: Any) -> bool:
    """Whether `header` (members, or a group) is a generator's, and the store can begin a chord of unknown size."""
    if is_signature(header):
        return not header['options'].get('max_concurrency') and may_stream(header['kwargs'].get('tasks'), app)
    join = getattr(app.backend, 'join_of_new', None)
    return isinstance(header, LazyMembers) and header.is_open and join is not None and join.begins_unsized


def send_header(header: Any, body: Any, root_id: str | None, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
    """Send copies of the members as they are made, the last when the store knows how many there are; the results."""
    app, group_id = header.app, header.id
    add_to_parent, parent = options.pop('add_to_parent', True), app.current_worker_task
    body.pop('chord_size', None)
    app.backend.apply_chord((group_id, []), body)
    results: list[Any] = []
    slots: list[tuple[str, int | None]] = []
    for members, is_last in _batches(header['kwargs']['tasks']):
        part = group([member.clone() for member in members], app=app, **header['options'])
        part._disposable = True
        results += drive(part.freezing_all(group_id, body, root_id, start=len(results)))[1]
        slots += slots_of(part)
        keep_members(app, group_id, part['kwargs']['tasks'])
        if is_last:
            if any(isinstance(result, GroupResult) for result in results):
                app.backend.save_group(group_id, app.GroupResult(group_id, results))
            app.backend.set_chord_size(group_id, len(slots), slots)
        part.apply_async(args, kwargs, task_id=group_id, add_to_parent=False, **options)
    result = app.GroupResult(group_id, results)
    if add_to_parent and parent:
        parent.add_trail(result)
    return result


def _batches(source: LazyMembers) -> Iterator[tuple[list[Any], bool]]:
    """The members as they are made, and whether that was the last of them."""
    batch: list[Any] = []
    taken = 0
    until = 0.0  # some may be made already, and it is not known how long that took
    while len(made := source.take(taken + 1)) > taken:
        if batch and time.monotonic() > until:
            yield batch, False
            batch, until = [], time.monotonic() + MOMENT
        batch.append(made[taken])
        taken += 1
    yield batch, True


def count_parts(sig: Any) -> int:
    """Number of tasks that end `sig`: see `ends_of`. A list counts its elements."""
    return sum(1 if is_signature(end) else len(end) for end in ends_of(sig))


def slots_of(header: Any) -> list[tuple[str, int | None]]:
    """The ids and places of the tasks that end a frozen header."""
    return [(end['options']['task_id'], end['options'].get('group_index')) for end in ends_of(header)]


def ends_of(sig: Any) -> Iterator[Any]:
    """The tasks that end `sig`: itself if it is one, of a group those that end its members, of a chain those that end
    its last step that has any, of a chord those that end its body."""
    pending = [sig]
    while pending:
        sig = pending.pop()
        if isinstance(sig, dict) and not is_signature(sig):
            sig = Signature.from_dict(sig)
        if is_signature(sig) and sig.KIND == 'chunks':
            sig = sig.group()
        if not is_signature(sig):
            yield sig
        elif sig.KIND == 'group':
            pending.extend(reversed(sig['kwargs']['tasks']))
        elif sig.KIND == 'chain':
            pending.extend(reversed(next(filter(None, map(list, map(ends_of, reversed(sig['kwargs']['tasks'])))), ())))
        elif sig.KIND == 'chord':
            pending.append(sig.body)
        else:
            yield sig
