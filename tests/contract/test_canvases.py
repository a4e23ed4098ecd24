"""The records of canvases, on every store that keeps results: found by any id, and gone when the run is forgotten."""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

import pytest

from canvaslite import chain, chord, group, signature, states
from canvaslite.backends import doctoring
from canvaslite.backends.cache import memory
from canvaslite.exceptions import ChordError
from canvaslite.result import AsyncResult, GroupResult
from canvaslite.result.nodes import CanvasRecord

from .conftest import KEEPING, SHARED, on
from .test_joins import Chord, messages


@pytest.fixture
def tasks(app: Any) -> Any:
    """Tasks of the app: `tasks.add`, and `tasks.quiet`, which keeps no result."""

    @app.task(name='add')
    def add(*numbers: Any) -> int:
        return len(numbers)

    @app.task(name='quiet', ignore_result=True)
    def quiet(*numbers: Any) -> None:
        pass

    class Tasks:
        pass

    Tasks.add, Tasks.quiet = add, quiet  # type: ignore[attr-defined]
    yield Tasks
    messages(app)


def everything(result: Any) -> set[str]:
    """The ids of a result, its parents, and their members."""
    found, waiting = set(), [result]
    while waiting:
        node = waiting.pop()
        found.add(node.id)
        waiting.extend([*(node.results or ()), *([node.parent] if node.parent is not None else ())])
    return found


def shape(node: Any) -> Any:
    """A node as text: its kind or name, and what is below."""
    name = node.name if node.kind == 'task' else node.kind
    return f'{name}({" ".join(map(shape, node.below))})' if node.below else name


CANVASES = {
    'chain': (lambda t: chain(t.add.s(1), t.add.s(2), t.add.s(3)), 'chain(add add add)'),
    'group': (lambda t: group(t.add.s(1), t.add.s(2)), 'group(add add)'),
    'group of chains': (lambda t: group(chain(t.add.s(1), t.add.s(2)), t.add.s(3)), 'group(chain(add add) add)'),
    'chord': (lambda t: chord([t.add.s(1), t.add.s(2)], t.quiet.s()), 'chord(group(add add) quiet)'),
    'chord of a generator': (
        lambda t: chord((t.add.s(n) for n in range(3)), t.add.s()), 'chord(group(add add add) add)'),
    'everything': (
        lambda t: chain(t.add.s(1), group(t.add.s(2), chord([t.add.s(3), t.add.s(4)], chain(t.add.s(), t.add.s()))),
                        t.add.s(5), t.add.s(6)),
        'chain(add chord(group(add chord(group(add add) chain(add add))) add) add)'),
}


@on(KEEPING)
@pytest.mark.parametrize('name', CANVASES)
def test_a_canvas_is_found_by_the_id_of_anything_in_it(name: str, app: Any, make_app: Any, tasks: Any) -> None:
    make, expected = CANVASES[name]

    result = make(tasks).apply_async()

    elsewhere = make_app()
    ids = everything(result)
    for id in ids:
        run = elsewhere.backend.find_canvas(id)
        assert run is not None, id
        assert [shape(top) for top in run.tops] == [expected]
        assert ids <= set(run.nodes)
        assert run.ends == [result.id]


@on(KEEPING)
def test_what_the_call_has_returned_is_made_anew_of_any_id(app: Any, make_app: Any, tasks: Any) -> None:
    result = CANVASES['everything'][0](tasks).apply_async()
    tree = make_app().AsyncResult(result.parent.id).canvas()

    made = tree.result()

    def outline(node: Any) -> Any:
        return node.id, type(node).__name__, [outline(member) for member in node.results or ()], (
            node.parent and outline(node.parent))

    assert outline(made) == outline(result)
    assert isinstance(made, AsyncResult)
    assert isinstance(made.parent.parent, GroupResult)


@on(KEEPING)
def test_nothing_is_kept_of_a_task_alone_nor_of_what_keeps_no_results(app: Any, tasks: Any) -> None:
    alone = tasks.add.delay(1)
    silent = chain(tasks.quiet.si(1), group(tasks.quiet.si(2), tasks.quiet.si(3))).apply_async()

    for result in (alone, silent, silent.parent):
        assert app.backend.find_canvas(result.id) is None
        assert result.canvas() is None


@on(KEEPING, result_canvas_index=False)
def test_nothing_is_kept_where_the_setting_says_so(app: Any, make_app: Any, tasks: Any) -> None:
    result = chain(tasks.add.s(1), tasks.add.s(2)).apply_async()

    assert make_app(result_canvas_index=True).backend.find_canvas(result.id) is None


@on(KEEPING)
def test_links_are_found_too(app: Any, make_app: Any, tasks: Any) -> None:
    result = tasks.add.apply_async((1,), link=[tasks.add.s(2).set(link=tasks.add.s(3)), tasks.add.s(4)])

    run = make_app().backend.find_canvas(result.id)
    links = run.nodes[result.id].links
    assert [shape(link) for link in links] == ['add', 'add']
    assert [shape(link) for link in links[0].links] == ['add']
    assert make_app().backend.find_canvas(links[0].links[0].id).id == run.id


def record(run: str, ids: list[str], within: tuple[str, ...] = ()) -> CanvasRecord:
    data = f'{{"at": 1.0, "end": "{ids[-1]}", "canvas": {{"chain": {[["add", id] for id in ids]}}}'.replace("'", '"')
    by = f', "by": "{within[0]}", "root": "{within[-1]}"' if within else ''
    return CanvasRecord(run, ids, f'{data}{by}}}'.encode(), within)


@on(KEEPING)
def test_what_a_task_sends_is_kept_with_the_run_of_the_task(app: Any, make_app: Any) -> None:
    first, second, third, lone = ([str(uuid.uuid4()) for _ in range(2)] for _ in range(4))
    keep = app.backend.keep_canvas
    keep(record(first[-1], first))
    keep(record(first[0], second, (first[1], first[0])))
    keep(record(first[0], third, (second[0], first[0])))
    keep(record(lone[0], lone))

    run = make_app().backend.find_canvas(third[1])

    assert run.id == first[-1]
    assert set(run.nodes) == {*first, *second, *third}
    assert [shape(top) for top in run.tops] == ['chain(add add)']
    assert [shape(sent) for sent in run.nodes[first[1]].sent] == ['chain(add add)']
    assert [shape(sent) for sent in run.nodes[second[0]].sent] == ['chain(add add)']


@on(KEEPING)
def test_what_a_task_alone_sends_is_found_by_that_task(app: Any, make_app: Any) -> None:
    root, sender, ids, more = str(uuid.uuid4()), str(uuid.uuid4()), [str(uuid.uuid4())], [str(uuid.uuid4())]
    app.backend.keep_canvas(record(root, ids, (sender, root)))
    app.backend.keep_canvas(record(root, more, (root,)))

    for id in (root, sender, *ids, *more):
        run = make_app().backend.find_canvas(id)
        assert run.id == root
        assert [top.id for top in run.tops] == [root]
        assert {sent.id or shape(sent) for sent in run.nodes[root].sent} == {sender, 'chain(add)'}
        assert set(run.nodes) == {root, sender, *ids, *more}


@on(KEEPING)
def test_a_result_made_of_an_id_alone_learns_that_what_came_before_has_failed(
    app: Any, make_app: Any, tasks: Any
) -> None:
    result = chain(tasks.add.s(1), group(tasks.add.s(2), tasks.add.s(3)), tasks.add.s(4)).apply_async()
    app.backend.store_result(result.parent.parent.id, ValueError('the first'), states.FAILURE)

    for id in (result.id, result.parent[0].id):
        with pytest.raises(ValueError, match='the first'):
            make_app().AsyncResult(id).get(timeout=60)


@on(KEEPING)
def test_all_of_a_run_is_reached_from_anywhere(app: Any, make_app: Any, tasks: Any) -> None:
    result = CANVASES['everything'][0](tasks).apply_async()
    elsewhere = make_app()

    seen = [[node.id for _, node in elsewhere.AsyncResult(id).iterdeps(intermediate=True)]
            for id in everything(result) if app.backend.find_canvas(id).nodes[id].kind == 'task']

    assert set(seen[0]) == everything(result) | {node.id for node in app.backend.find_canvas(result.id).nodes.values()}
    assert all(ids == seen[0] for ids in seen)
    assert len(seen[0]) == len(set(seen[0]))


def left_in(app: Any) -> list[str]:
    """What is in the store, besides what belongs to no run."""
    if app.store == 'redis':
        return [key.decode() for key in app.backend.client.keys('*')]
    if app.store in ('sqlite', 'postgresql', 'mysql'):
        tables = app.backend.tables
        return [f'{table.name}: {row}' for table in (tables.task, tables.group, tables.join, tables.part, tables.canvas,
                                                     tables.canvas_task)
                for row in app.backend.database.fetch(table.select())]
    if app.store == 'file':
        names = [name for name in os.listdir(app.backend.path) if not name.startswith('.lock')]
        return [name for name in names if os.path.isdir(f'{app.backend.path}/{name}')
                or os.path.getsize(f'{app.backend.path}/{name}')]
    if app.store == 'memory':
        return [*map(str, memory.values), *memory.chords, *memory.canvases]
    return []


@on(KEEPING)
@pytest.mark.parametrize('fails', [False, True], ids=['done', 'failed'])
@pytest.mark.parametrize('bare', [False, True], ids=['with its parents', 'by its id'])
def test_a_run_that_is_forgotten_leaves_nothing(
    fails: bool, bare: bool, app: Any, make_app: Any, tasks: Any, request_of: Any
) -> None:
    memory.values.clear()
    memory.canvases.clear()
    header = [tasks.add.s(1), group(tasks.add.s(2), tasks.add.s(3))]
    result = chord(header, tasks.add.s()).apply_async()
    sent = messages(app)
    for place, (_, task_id, _) in enumerate(sent):
        call = request_of(task_id, group=result.parent.id, group_index=place, chord=signature(
            'add', app=app, task_id=result.id))
        if fails and place == 1:
            app.backend.mark_as_failure(task_id, ValueError('no'), request=call)
        else:
            app.backend.mark_as_done(task_id, place, call)
    if not fails:
        assert [task_id for _, task_id, _ in messages(app)] == [result.id]
        app.backend.store_result(result.id, 6, states.SUCCESS)
    else:
        with pytest.raises(ChordError):
            app.AsyncResult(result.id).get(timeout=10, follow_parents=False)

    (make_app().AsyncResult(result.id) if bare else result).forget()

    assert left_in(app) == []
    assert app.backend.find_canvas(result.parent[0].id) is None
    assert app.AsyncResult(result.id).state == states.PENDING


@on(KEEPING)
def test_a_result_in_the_middle_is_forgotten_alone(app: Any, make_app: Any, tasks: Any) -> None:
    result = chain(tasks.add.s(1), tasks.add.s(2)).apply_async()
    for node in (result.parent, result):
        app.backend.store_result(node.id, 1, states.SUCCESS)

    make_app().AsyncResult(result.parent.id).forget()

    assert app.AsyncResult(result.parent.id).state == states.PENDING
    assert app.AsyncResult(result.id).state == states.SUCCESS
    assert app.backend.find_canvas(result.parent.id) is not None


@on(KEEPING, result_expires=100)
def test_records_expire_as_results_do(app: Any, tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = group(tasks.add.s(1), tasks.add.s(2)).apply_async()
    if app.store == 'redis':
        keys = app.backend.client.keys('canvaslite-canvas-*')
        assert len(keys) == 2
        assert all(100 <= app.backend.client.ttl(key) <= 115 for key in keys)
        return
    if app.store == 'memcached':
        return  # it expires what it was told to
    clock, steady = time.time, time.monotonic
    if app.store in ('sqlite', 'postgresql', 'mysql'):
        app.backend.cleanup()
        assert app.backend.find_canvas(result.id) is not None
        app.backend.expires = -100
    monkeypatch.setattr(time, 'time', lambda: clock() + 130)
    monkeypatch.setattr(time, 'monotonic', lambda: steady() + 130)
    app.backend.cleanup()

    assert app.backend.find_canvas(result.id) is None
    if app.store in ('file', 'memory'):
        assert [name for name in left_in(app) if 'canvas' in name or name == result.id] == []


@on(SHARED)
def test_a_store_that_is_away_does_not_keep_a_canvas_from_being_sent(
    app: Any, tasks: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(record: Any) -> None:
        raise ConnectionError('the store is away')

    monkeypatch.setattr(app.backend.canvases, 'keep', refuse)

    chain(tasks.add.s(1), tasks.add.s(2)).apply_async()

    assert len(messages(app)) == 1
    assert 'No record is kept' in caplog.text
    assert 'the store is away' in caplog.text


@on(KEEPING)
def test_the_doctor_finds_what_was_stored_but_not_counted_and_ends_it(app: Any) -> None:
    stuck, fine = Chord(app, 2).open(), Chord(app, 2).open()
    for place in range(2):
        app.backend.store_result(stuck.ids[place], place, states.SUCCESS)

    found = {finding.group_id: finding for finding in doctoring.examine(app.backend)}

    assert set(found) == {stuck.gid, fine.gid}
    assert found[fine.gid].trouble is None
    assert 'all of its header has ended' in found[stuck.gid].trouble
    assert doctoring.repair(app.backend, found[stuck.gid]).repaired
    assert messages(app) == [('body', stuck.body_id, [[0, 1]])]
    assert [finding.group_id for finding in doctoring.examine(app.backend)] == [fine.gid]


@on(KEEPING)
def test_the_doctor_finds_a_header_that_can_no_longer_come(app: Any, make_app: Any, tasks: Any) -> None:
    result = chord([chain(tasks.add.s(1), tasks.add.s(2)), tasks.add.s(3)], tasks.add.s()).apply_async()
    messages(app)
    app.backend.store_result(result.parent[0].parent.id, ValueError('gone'), states.FAILURE)

    [finding] = doctoring.examine(app.backend, app.AsyncResult(result.id).canvas())

    assert 'can no longer come' in finding.trouble
    assert doctoring.repair(app.backend, finding).repaired is False, 'the other task of the header may come'
    app.backend.store_result(result.parent[1].id, 1, states.SUCCESS)
    [finding] = doctoring.examine(app.backend)
    assert doctoring.repair(app.backend, finding).repaired
    with pytest.raises(ChordError):
        make_app().AsyncResult(result.id).get(timeout=10, follow_parents=False)


@on(('redis', 'file', 'memcached', 'memory'))
def test_a_task_that_a_task_sent_alone_is_found_with_the_run_of_that_one(
    app: Any, make_app: Any, tasks: Any, request_of: Any
) -> None:
    result = chain(tasks.add.s(1), tasks.add.s(2)).apply_async()
    alone = tasks.add.delay(1)
    app.backend.mark_as_done(alone.id, 1, request_of(alone.id, parent_id=result.parent.id))

    assert make_app().AsyncResult(alone.id).canvas().run.id == result.id


@on(('sqlite', 'postgresql', 'mysql'))
def test_a_chord_is_sent_where_the_tables_of_records_are_missing(
    app: Any, tasks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app.backend.prepare()
    for table in (app.backend.tables.canvas, app.backend.tables.canvas_task):
        table.drop(app.backend.database.engine)

    result = chord([tasks.add.s(1), tasks.add.s(2)], tasks.add.s()).apply_async()

    assert len(messages(app)) == 2
    assert app.backend.join.head(result.parent.id).size == 2
    assert 'No record is kept' in caplog.text


@on(('sqlite',), result_chord_join='compat')
def test_the_record_of_a_chord_that_a_task_polls_for_is_kept(app: Any, tasks: Any) -> None:
    result = chord([tasks.add.s(1), tasks.add.s(2)], tasks.add.s()).apply_async()

    assert set(app.backend.find_canvas(result.id).nodes) == everything(result)
