"""What users of Celery stumble over in canvases, and how it is here: on RabbitMQ, Redis and a worker.

One worker with one process serves all tests of the module, so that what was sent earlier has run earlier.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite import chain, chord, group, signature
from canvaslite.exceptions import ChordError, Ignore, NotRegistered, Reject
from tests.fixtures import APPS
from tests.workers import WorkerProcess

TIMEOUT = 60


@pytest.fixture(scope='module')
def servers(
    rabbitmq_proc: Any, vhosts: Any, redis_port: int, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    return {
        'BROKER': f'amqp://guest:guest@127.0.0.1:{rabbitmq_proc.port}/{vhosts.take()}',
        'BACKEND': f'redis://127.0.0.1:{redis_port}/7',
        'NOTES': str(tmp_path_factory.mktemp('notes') / 'notes'),
    }


def client(env: dict[str, str]) -> ModuleType:
    """The module of the tasks, whose app is this process's client."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        spec = importlib.util.spec_from_file_location('surprises', APPS / 'surprises.py')
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.app.conf.task_default_queue
    return module


def serve(env: dict[str, str], folder: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(
        [sys.executable, '-m', 'canvaslite', '-A', 'surprises', 'worker', '-c', '1', '-l', 'INFO'],
        env={'PYTHONPATH': str(APPS), **env}, cwd=folder)
    worker.await_line(r'\bready\.$')
    yield worker
    worker.kill()


@pytest.fixture(scope='module')
def tasks(servers: dict[str, str]) -> ModuleType:
    return client(servers)


@pytest.fixture(scope='module')
def worker(servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    yield from serve(servers, tmp_path_factory.mktemp('worker'))


@pytest.fixture(scope='module')
def strict(servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The tasks of an app whose canvases are strict, with a worker of its own."""
    env = {**servers, 'STRICT': '1', 'QUEUE': 'strict'}
    for _ in serve(env, tmp_path_factory.mktemp('strict')):
        yield client(env)


@pytest.fixture(autouse=True)
def running(worker: WorkerProcess) -> None:
    """The worker runs."""


class Notes:
    """What tasks have noted in a file."""

    def __init__(self, path: Path, tasks: ModuleType) -> None:
        self.path, self.tasks = str(path), tasks

    def settled(self, count: int = 1) -> list[str]:
        """The lines, once there are so many and what might add more has run."""
        until = time.monotonic() + TIMEOUT
        while len(self.lines()) < count and time.monotonic() < until:
            self.tasks.identity.delay(0).get(timeout=TIMEOUT)
        for _ in range(3):
            self.tasks.identity.delay(0).get(timeout=TIMEOUT)
        return self.lines()

    def lines(self) -> list[str]:
        return Path(self.path).read_text().splitlines() if os.path.exists(self.path) else []


@pytest.fixture
def notes(tmp_path: Path, tasks: ModuleType) -> Notes:
    return Notes(tmp_path / 'notes', tasks)


@pytest.fixture
def shared_notes(servers: dict[str, str], tasks: ModuleType) -> Notes:
    """Notes of errbacks that take no path."""
    Path(servers['NOTES']).write_text('')
    return Notes(Path(servers['NOTES']), tasks)


def value_of(sig: Any, *args: Any) -> Any:
    return sig.apply_async(args).get(timeout=TIMEOUT)


# -- values (rows 20, 21, 22, 35, 38) ----------------------------------------------------------------------------------

def test_members_of_a_group_in_a_header_come_in_the_declared_order(tasks: ModuleType) -> None:
    one = tasks.identity.si
    assert value_of(chord([one(1), group(one(2), one(3)), one(4)], tasks.collect.s())) == [1, 2, 3, 4]
    assert value_of(chord([group(one(1), one(2)), group(one(3), one(4))], tasks.collect.s())) == [1, 2, 3, 4]


def test_a_generator_of_lines_ending_in_groups_gives_what_a_list_gives(tasks: ModuleType) -> None:
    def lines() -> Iterator[Any]:
        return (chain(tasks.identity.si(i), group(tasks.identity.s(), tasks.identity.s())) for i in (0, 1))

    assert value_of(chord(lines(), tasks.collect.s())) == [[0, 0], [1, 1]]
    assert value_of(chord(list(lines()), tasks.collect.s())) == [[0, 0], [1, 1]]


def groups_of_one(tasks: ModuleType) -> list[Any]:
    one, same = tasks.identity.si, tasks.identity.s
    return [group([one(1)]) | same(), chord([one(1)], same()), group([one(1)]), chain(group([one(1)]), same()),
            one(1) | group([same()]) | same(), one(1) | group([same()]), chain(group([one(1)]))]


def test_a_group_of_one_is_unrolled_where_celery_unrolls_it(tasks: ModuleType) -> None:
    assert [value_of(canvas) for canvas in groups_of_one(tasks)] == [[1], [1], [1], 1, 1, 1, 1]


def test_in_strict_canvases_a_group_of_one_is_a_list_everywhere(strict: ModuleType) -> None:
    assert [value_of(canvas) for canvas in groups_of_one(strict)] == [[1]] * 7
    from_dicts = [signature(json.loads(json.dumps(canvas)), app=strict.app) for canvas in groups_of_one(strict)]
    assert [value_of(canvas) for canvas in from_dicts] == [[1]] * 7


def test_an_immutable_composite_gets_nothing_from_what_came_before(tasks: ModuleType) -> None:
    one, call = tasks.identity.si(1), tasks.name_it.s
    assert value_of(one | chain(call(name='a'), call(name='b')).set(immutable=True)) == ['b', ['a']]
    assert value_of(one | group(call(name='a'), call(name='b')).set(immutable=True)) == [['a'], ['b']]
    assert value_of(one | chord([call(name='a')], call(name='b')).set(immutable=True)) == ['b', [['a']]]


def test_chunks_compose_like_the_group_that_they_are(tasks: ModuleType) -> None:
    chunks = tasks.add.chunks([(1, 2), (3, 4), (5, 6)], 2)
    assert value_of(chunks | tasks.collect.s()) == [[3, 7], [11]]
    assert value_of(tasks.identity.si(1) | chunks | tasks.collect.s()) == [[3, 7], [11]]


# -- long and deep (rows 26, 27, 28) -----------------------------------------------------------------------------------

def test_a_task_that_starts_two_chains_of_600_has_its_own_result(tasks: ModuleType) -> None:
    result = tasks.start_two_long_chains.delay(600)
    assert result.get(timeout=TIMEOUT) == 'started'
    [lines] = result.children
    assert lines.get(timeout=120) == [599, 599]


# -- errors (rows 31, 32) ----------------------------------------------------------------------------------------------

def test_an_errback_with_a_default_gets_the_id_once(tasks: ModuleType, notes: Notes) -> None:
    result = tasks.fail.s().on_error(tasks.note_with_default.s(path=notes.path)).delay()
    assert notes.settled() == [f'default {result.id} None']


def test_an_errback_whose_parameters_all_have_defaults_gets_the_id_once(
    tasks: ModuleType, shared_notes: Notes
) -> None:
    result = tasks.fail.s().on_error(tasks.note_with_default.s()).delay()
    assert shared_notes.settled() == [f'default {result.id} None']


def test_a_bound_errback_gets_request_error_and_traceback(tasks: ModuleType, shared_notes: Notes) -> None:
    result = tasks.fail.s().on_error(tasks.note_bound.s()).delay()
    assert shared_notes.settled() == [f'bound {result.id} ValueError note_bound']


def test_an_errback_that_the_worker_does_not_know_is_sent_as_a_task(
    tasks: ModuleType, worker: WorkerProcess
) -> None:
    errback = signature('elsewhere.errback', app=tasks.app).set(task_id='the-errback')
    tasks.fail.s().on_error(errback).delay()
    with pytest.raises(NotRegistered, match=r'elsewhere\.errback'):
        tasks.app.AsyncResult('the-errback').get(timeout=60)
    worker.await_line('unregistered task of type .elsewhere.errback., id the-errback')


def test_an_errback_that_fails_is_seen_in_the_log_and_the_others_run(
    tasks: ModuleType, worker: WorkerProcess, notes: Notes
) -> None:
    failing = tasks.fail.s()
    for errback in (tasks.broken_errback.s(), tasks.identity.s().set(serializer='unknown'), tasks.note.s(notes.path)):
        failing.link_error(errback)
    result = failing.delay()
    assert notes.settled() == [f'note {result.id}']
    worker.await_line(r'Errback .surprises.broken_errback. raised an exception')
    worker.await_line(r'Errback .* could not be sent')


@pytest.mark.filterwarnings('ignore:with task_allow_error_cb_on_chord_header')
@pytest.mark.parametrize('style', ['note', 'note_failure'])
@pytest.mark.parametrize(('shape', 'calls'), [
    ('task', 1), ('chain', 1), ('chain that ends in a group', 1), ('chain with a chord', 1), ('body', 1),
    ('group', 3), ('header', 1), ('header of failures', 1), ('chord in a header', 1), ('group of chains', 2),
])
def test_an_errback_runs_once_for_each_failure_that_it_is_linked_to(
    tasks: ModuleType, notes: Notes, shape: str, calls: int, style: str
) -> None:
    fails, one, collect = tasks.fail.si(), tasks.identity.si(1), tasks.collect.s()
    canvas = {
        'task': fails, 'chain': chain(one, fails, one), 'chain that ends in a group': chain(fails, group(one, one)),
        'chain with a chord': chain(fails, chord([one, one], collect), one),
        'body': chord([one, one], tasks.fail.s()), 'group': group(fails, fails, fails),
        'header': chord([one, fails], collect), 'header of failures': chord([fails, fails], collect),
        'chord in a header': chord([chord([fails, one], collect), one], collect),
        'group of chains': group(chain(one, fails), chain(fails, one)),
    }[shape].clone()
    canvas.link_error(getattr(tasks, style).s(path=notes.path))
    with pytest.raises((ValueError, ChordError), match='wrong'):
        canvas.apply_async().get(timeout=TIMEOUT)
    assert len(notes.settled(calls)) == calls


def test_a_chord_fails_with_an_error_that_names_the_first_failed_member(tasks: ModuleType) -> None:
    body = chord([tasks.identity.si(1), tasks.fail.si(2), tasks.fail.si(3)], tasks.collect.s()).apply_async()
    with pytest.raises(ChordError, match=f'{body.parent[1].id} raised ValueError.*wrong: \\(2,\\)'):
        body.get(timeout=TIMEOUT, follow_parents=False)


@pytest.mark.parametrize('how', ['ignore', 'reject'])
def test_what_depends_on_an_ignored_or_rejected_task_does_not_hang(tasks: ModuleType, how: str) -> None:
    body = chord([tasks.identity.si(1), tasks.end_with.si(how)], tasks.collect.s()).apply_async()
    with pytest.raises(ChordError):
        body.get(timeout=TIMEOUT, follow_parents=False)
    with pytest.raises((Ignore, Reject)):
        value_of(chain(tasks.end_with.si(how), tasks.identity.si(1), tasks.identity.si(2)))


def test_an_expected_error_stops_the_chain_like_any_other(tasks: ModuleType) -> None:
    with pytest.raises(KeyError, match='expected'):
        value_of(chain(tasks.throw.si(), tasks.identity.si(1)))


def test_a_step_that_is_retried_goes_on_with_its_chain_and_chord(tasks: ModuleType) -> None:
    once = tasks.retry_once
    assert value_of(chain(once.si(1), tasks.identity.s(), once.s())) == 100
    assert value_of(chord([once.si(1), tasks.identity.si(2)], tasks.collect.s())) == [10, 2]


@pytest.mark.parametrize('shape', ['step', 'last step', 'link', 'body', 'header in a chain'])
def test_a_canvas_whose_next_step_cannot_be_sent_fails(tasks: ModuleType, shape: str) -> None:
    one, same = tasks.identity.si(1), tasks.identity.s()
    bad = tasks.identity.s().set(serializer='unknown')
    canvas = {
        'step': chain(one, bad, same), 'last step': chain(one, same, bad), 'link': one.clone(link=[bad]),
        'body': chord([one, one], bad), 'header in a chain': chain(one, chord([same, bad], tasks.collect.s())),
    }[shape]
    with pytest.raises(Exception, match='unknown') as error:
        value_of(canvas)
    assert not isinstance(error.value, TimeoutError)


@pytest.mark.parametrize(('spelling', 'expected'), [('map', [10, 20]), ('starmap', [10, 20]), ('chunks', [[10, 20]])])
def test_a_retry_of_an_item_is_a_retry_of_its_job(tasks: ModuleType, spelling: str, expected: Any) -> None:
    once, vain = tasks.retry_once, tasks.retry_in_vain
    jobs = {'map': lambda task: task.map([1, 2]), 'starmap': lambda task: task.starmap([(1,), (2,)]),
            'chunks': lambda task: task.chunks([(1,), (2,)], 2)}
    assert value_of(jobs[spelling](once)) == expected
    with pytest.raises(ValueError, match='no 1'):
        value_of(jobs[spelling](vain))


SHAPES_THAT_FAIL = ['chain', 'chain that ends in a failing group', 'group', 'header', 'body that is a group',
                    'chord in a header', 'group of chains', 'group given the errback']


@pytest.mark.parametrize('shape', SHAPES_THAT_FAIL)
def test_in_strict_canvases_an_errback_runs_once_with_all_failures(
    strict: ModuleType, tmp_path: Path, shape: str
) -> None:
    notes = Notes(tmp_path / 'notes', strict)
    fails, one, collect = strict.fail.si, strict.identity.si(1), strict.collect.s()
    errback = strict.note_failure.s(path=notes.path)
    canvas = {
        'chain': chain(one, fails(), one), 'chain that ends in a failing group': chain(one, group(fails(1), fails(2))),
        'group': group(fails(1), one, fails(2)), 'header': chord([fails(1), one, fails(2)], collect),
        'body that is a group': chord([one], group(fails(1), fails(2))),
        'chord in a header': chord([chord([fails(), one], collect), one], collect),
        'group of chains': group(chain(one, fails(1)), chain(fails(2), one)), 'group given the errback': group(fails()),
    }[shape].clone()
    if shape.endswith('given the errback'):
        canvas.apply_async(link_error=errback)
    else:
        canvas.link_error(errback)
        canvas.apply_async()
    [line] = notes.settled()
    if shape in ('group', 'header', 'group of chains', 'chain that ends in a failing group'):
        assert line.count('raised ValueError') == 2 and '(1,)' in line and '(2,)' in line


# -- links of groups (row 33) ------------------------------------------------------------------------------------------

def test_what_is_linked_to_a_group_follows_its_first_member(tasks: ModuleType, notes: Notes) -> None:
    members = group(tasks.identity.si(1), tasks.identity.si(2))
    members.link(tasks.note.si('linked', notes.path))
    assert value_of(members) == [1, 2]
    assert notes.settled() == ['note linked']
    for link in ('link', 'link_error'):
        with pytest.raises(TypeError):
            members.apply_async(**{link: tasks.note.s(notes.path)})


@pytest.mark.parametrize('position', ['alone', 'given', 'first', 'middle', 'last', 'header', 'body', 'from its dict'])
def test_in_strict_canvases_what_is_linked_to_a_group_gets_its_list_once(
    strict: ModuleType, tmp_path: Path, position: str
) -> None:
    notes = Notes(tmp_path / 'notes', strict)
    collect, one = strict.collect.s(), strict.identity.si(0)
    members = group(strict.identity.si(1), strict.identity.si(2))
    link = strict.note.s(notes.path)
    if position == 'given':
        result = members.apply_async(link=link)
    else:
        members.link(link)
        result = {
            'alone': members, 'first': members | collect, 'middle': one | members | collect, 'last': one | members,
            'header': chord(members, collect), 'body': chord([one], members),
            'from its dict': signature(json.loads(json.dumps(one | members | collect)), app=strict.app),
        }[position].apply_async()
    assert result.get(timeout=TIMEOUT) == [1, 2]
    assert notes.settled() == ['note [1, 2]']


# -- options (row 34) --------------------------------------------------------------------------------------------------

def test_options_of_a_chain_are_those_of_its_first_task(tasks: ModuleType) -> None:
    result = chain(tasks.priority.si(), tasks.priority.si()).apply_async(priority=7)
    assert [result.parent.get(timeout=TIMEOUT), result.get(timeout=TIMEOUT)] == [7, 0]


def test_in_strict_canvases_routing_options_hold_for_all_members_that_have_none(strict: ModuleType) -> None:
    task, collect = strict.priority, strict.collect.s()
    result = chain(task.si(), task.si().set(priority=3), task.si()).apply_async(priority=7)
    assert [node.get(timeout=TIMEOUT) for node in (result.parent.parent, result.parent, result)] == [7, 3, 7]
    assert value_of(group(task.si(), task.si(), group(task.si()).set(priority=2)).set(priority=5)) == [5, 5, 2]
    assert value_of((task.si() | group(task.si(), task.si()) | collect).set(priority=4)) == [4, 4]
    assert value_of((task.si() | task.si()).set(priority=6) | group(task.si(), task.si())) == [0, 0]
    result = ((task.si() | task.si()).set(priority=6) | task.si()).apply_async()
    assert [node.get(timeout=TIMEOUT) for node in (result.parent.parent, result.parent, result)] == [6, 6, 0]
    assert chord([task.si(), task.si()], collect).apply_async(priority=8).get(timeout=TIMEOUT) == [8, 8]


def test_in_strict_canvases_a_queue_of_its_own_is_not_mixed_with_one_from_above(strict: ModuleType) -> None:
    canvas = chain(strict.identity.si(1), strict.identity.s().set(queue='strict'), strict.identity.s())
    canvas = canvas.clone(exchange='strict', routing_key='strict')
    assert value_of(canvas) == 1


# -- replacing (row 41) ------------------------------------------------------------------------------------------------

def replacements(tasks: ModuleType) -> dict[str, Any]:
    one, same = tasks.identity.si, tasks.identity.s()
    return {
        'task': one(1), 'chain': chain(one(1), same), 'group': group(one(1), one(1)),
        'chord': chord([one(1), one(1)], tasks.collect.s()), 'chain to group': chain(one(1), group(same, same)),
        'chord to group': chord([one(1)], group(tasks.collect.s(), tasks.collect.s())),
    }


@pytest.mark.parametrize('position', ['alone', 'first', 'middle', 'last', 'member', 'header', 'body', 'link of a body'])
@pytest.mark.parametrize('shape', ['task', 'chain', 'group', 'chord', 'chain to group', 'chord to group'])
def test_a_task_is_replaced_by_any_canvas_in_any_position(
    tasks: ModuleType, notes: Notes, shape: str, position: str
) -> None:
    sig = replacements(tasks)[shape]
    expected = value_of(sig)
    outer, same = tasks.become.si(sig), tasks.identity.s()
    outer.link_error(tasks.note.s(notes.path))
    canvas, value = {
        'alone': (outer, expected), 'first': (outer | same, expected),
        'middle': (tasks.identity.si(0) | outer | same, expected), 'last': (tasks.identity.si(0) | outer, expected),
        'member': (group(outer, tasks.identity.si(2)), [expected, 2]),
        'header': (chord([outer, tasks.identity.si(2)], tasks.collect.s()), [expected, 2]),
        'body': (chord([tasks.identity.si(2)], outer), expected),
        'link of a body': (chord([chord([tasks.identity.si(2)], outer)], tasks.collect.s()), [expected]),
    }[position]
    assert value_of(canvas) == value
    assert notes.lines() == []


@pytest.mark.parametrize('header', [False, True])
def test_a_task_replaced_by_a_failing_chord_calls_its_errback(
    tasks: ModuleType, notes: Notes, header: bool
) -> None:
    outer = tasks.become.si(chord([tasks.identity.si(1), tasks.fail.si()], tasks.collect.s()))
    outer.link_error(tasks.note.si('called', notes.path))
    canvas = chord([outer, tasks.identity.si(2)], tasks.collect.s()) if header else outer
    with pytest.raises(Exception, match='wrong'):
        value_of(canvas)
    assert notes.settled() == ['note called']


# -- results (rows 44, 45, 46, 48) -------------------------------------------------------------------------------------

def test_waiting_inside_a_task_is_refused_with_what_to_do_instead(tasks: ModuleType) -> None:
    with pytest.raises(RuntimeError, match=r'Never call result.get\(\) within a task') as error:
        tasks.wait_inside.delay().get(timeout=TIMEOUT)
    assert 'self.replace(' in str(error.value) and 'chord(' in str(error.value)


@pytest.mark.parametrize('tail', ['task', 'group', 'chord'])
def test_the_id_alone_tells_that_an_earlier_step_has_failed(tasks: ModuleType, tail: str) -> None:
    same = tasks.identity.s()
    last = {'task': same, 'group': group(same, same), 'chord': chord([same, same], tasks.collect.s())}[tail]
    result = chain(tasks.identity.si(1), tasks.fail.s(), same, last).apply_async()
    for held in result.results or [result]:
        with pytest.raises(ValueError, match='wrong'):
            tasks.app.AsyncResult(held.id).get(timeout=TIMEOUT)


def test_the_whole_run_is_found_from_each_of_its_results(tasks: ModuleType) -> None:
    one = tasks.identity.si
    last = (one(0) | one(1) | group(one(2), one(3)) | tasks.collect.s() | tasks.identity.s()).apply_async()
    assert last.get(timeout=TIMEOUT) == [2, 3]
    expected = [0, 1, [2, 3], 2, 3, [2, 3], [2, 3]]
    assert [value for _, value in last.collect(timeout=TIMEOUT)] == expected
    before = [node.id for node, _ in last.collect()]
    for node in (last, last.parent, last.root, *(tasks.app.AsyncResult(id) for id in before if id != before[2])):
        assert [node.id for node, _ in node.collect()] == before
    assert len(last.graph) == len(expected)
    assert last.graph.topsort()[-1].id == last.root.id


def test_a_canvas_of_a_class_that_the_worker_does_not_know_fails_readably(
    tasks: ModuleType, worker: WorkerProcess
) -> None:
    unknown = {**tasks.identity.s(), 'subtask_type': f'custom{uuid.uuid4().hex[:6]}'}
    result = tasks.identity.si(1).clone(link=[unknown]).apply_async()
    with pytest.raises(Exception, match=f'unknown subtask_type .{unknown["subtask_type"]}'):
        result.get(timeout=TIMEOUT)


def test_a_parameter_annotated_as_a_signature_gets_one(tasks: ModuleType) -> None:
    sig = chain(tasks.add.si(1, 2), tasks.add.s(3))
    assert tasks.type_of.delay(sig, sig).get(timeout=TIMEOUT) == ['_chain', 'dict', 6]
    assert value_of(tasks.type_of.s(plain=sig), tasks.add.s(1, 1)) == ['Signature', 'dict', 2]
