"""``canvaslite canvas``: what a user sees of a run who has nothing but an id, from another process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite import Celery, chain, chord, group, states
from canvaslite.exceptions import ChordError, TaskRevokedError
from tests.fixtures import APPS
from tests.workers import ROOT, WorkerProcess

Start = Callable[..., Any]
Run = Callable[..., subprocess.CompletedProcess[str]]

TIMEOUT = 30


@pytest.fixture
def run(servers: dict[str, str], tmp_path: Path) -> Run:
    """``canvaslite -A proj canvas …``, and how it ended."""

    def run(*arguments: str, app: str = 'proj', **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, '-m', 'canvaslite', '-A', app, 'canvas', *arguments]
        environment = {**servers, 'PATH': '/usr/bin:/bin', 'PYTHONPATH': f'{APPS}{os.pathsep}{ROOT}', **env}
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run


def drawn(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of a drawing, without ids and durations."""
    assert done.returncode in (0, 1), done.stderr
    return [re.sub(r'  (?:[0-9a-f-]{36}|\d+\.\d\ds…?)(?=  |$)', '', line) for line in done.stdout.splitlines()]


def ended(result: Any) -> Any:
    """The value of a result, or its error."""
    try:
        return result.get(timeout=TIMEOUT)
    except Exception as exc:
        return exc


def everything(project: ModuleType) -> Any:
    return chain(
        project.add.s(1, 1),
        group(project.add.s(1), project.replace_by.si(project.add.s(4, 4) | project.add.s(1))),
        project.total.s().set(link=project.identity.s()),
        project.identity.s(),
    )


DRAWN = """\
SUCCESS  chain
├─ SUCCESS  proj.add
├─ SUCCESS  chord
│  ├─ SUCCESS  group
│  │  ├─ SUCCESS  proj.add
│  │  └─ SUCCESS  proj.replace_by
│  │     └─ SUCCESS  replaced by: chain
│  │        ├─ SUCCESS  proj.add
│  │        └─ SUCCESS  proj.add
│  └─ SUCCESS  proj.total
│     └─ SUCCESS  link: proj.identity
└─ SUCCESS  proj.identity""".splitlines()


def test_the_tree_is_drawn_from_the_id_of_any_result(
    project: ModuleType, start_project_worker: Start, run: Run
) -> None:
    start_project_worker()
    result = everything(project).apply_async()
    assert result.get(timeout=TIMEOUT) == 12
    run('show', result.id, '--watch')

    header = result.parent.parent
    for id in (result.id, result.parent.id, header.id, header[1].id, header.parent.id):
        assert drawn(run('show', id)) == DRAWN

    done = run('status', header.id)
    assert (done.stdout, done.returncode) == ('SUCCESS: 7 done, 0 failed, 0 waiting or running, of 7\n', 0)


def test_what_failed_says_why_and_what_followed_did_not_run(
    project: ModuleType, start_project_worker: Start, run: Run
) -> None:
    start_project_worker()
    result = chord([project.add.s(1, 1), project.fail.s('no good')], project.collect.s()).apply_async()
    project.total.apply_async(([1, 'x'],), link=project.identity.s())
    assert isinstance(ended(result), ValueError)

    shown = drawn(run('show', result.parent[0].id))

    assert shown[:4] == ['FAILURE  chord', '├─ FAILURE  group', '│  ├─ SUCCESS  proj.add',
                         '│  └─ FAILURE  proj.fail  ValueError: no good']
    assert shown[4].startswith("└─ FAILURE  proj.collect  ChordError: Dependency ")
    done = run('status', result.id, '--json')
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert {name: said[name] for name in ('state', 'done', 'failed', 'waiting', 'not_run', 'total')} == {
        'state': 'FAILURE', 'done': 1, 'failed': 2, 'waiting': 0, 'not_run': 0, 'total': 3}


def test_what_waits_and_runs_is_said_and_watched_until_the_end(
    project: ModuleType, start_project_worker: Start, run: Run, servers: dict[str, str], tmp_path: Path
) -> None:
    start_project_worker()
    flag = tmp_path / 'flag'
    result = chain(project.add.s(1, 1), project.await_file.si(str(flag), 'there'), project.identity.s()).apply_async()
    result.parent.parent.get(timeout=TIMEOUT)

    done = run('status', result.parent.parent.id)
    assert (done.stdout, done.returncode) == ('RUNNING: 1 done, 0 failed, 2 waiting or running, of 3\n', 2)
    watching = WorkerProcess(
        [sys.executable, '-m', 'canvaslite', '-A', 'proj', 'canvas', 'show', '--watch', '--interval=0.05', result.id],
        {**servers, 'PYTHONPATH': str(APPS)}, tmp_path)
    try:
        watching.await_line('^└─ PENDING  proj.identity')
        flag.touch()
        watching.await_line('^└─ SUCCESS  proj.identity')
        assert watching.wait(TIMEOUT) == 0
    finally:
        watching.kill()
    assert watching.lines[0].startswith('RUNNING  chain')


def test_json_has_all_of_the_tree(project: ModuleType, start_project_worker: Start, run: Run) -> None:
    start_project_worker()
    result = group(chain(project.add.s(1, 1), project.add.s(1)), project.add.s(2, 2)).apply_async()
    result.get(timeout=TIMEOUT)

    [top] = json.loads(run('show', '--json', result[1].id).stdout)['tree']

    assert (top['kind'], top['id'], top['state']) == ('group', result.id, 'SUCCESS')
    nodes = (*top['below'], *top['below'][0]['below'])
    assert [(node['kind'], node.get('id'), node.get('name')) for node in nodes] == [
        ('chain', None, None), ('task', result[1].id, 'proj.add'),
        ('task', result[0].parent.id, 'proj.add'), ('task', result[0].id, 'proj.add')]
    assert all(0 <= node['seconds'] < TIMEOUT for node in (top, *top['below']))


def test_of_a_large_group_what_failed_is_drawn_and_the_rest_is_counted(
    project: ModuleType, start_project_worker: Start, run: Run
) -> None:
    start_project_worker()
    result = group([*(project.add.s(n, n) for n in range(60)), project.fail.s()]).apply_async()
    for member in result:
        ended(member)

    shown = drawn(run('show', result.id))

    assert len(shown) == 22
    assert shown[-2:] == ['├─ FAILURE  proj.fail  ValueError: wrong', '└─ … 41 more: 41 SUCCESS']
    assert len(drawn(run('show', result.id, '--all'))) == 62


def test_a_canvas_is_cancelled_by_any_id(
    project: ModuleType, start_project_worker: Start, run: Run, tmp_path: Path
) -> None:
    worker = start_project_worker('-c', '1')
    notes = tmp_path / 'notes'
    note = project.record.si(str(notes), 'ran')
    result = chain(chord([project.sleep.si(60), note], note), note).apply_async()
    worker.await_line('received', count=2)

    done = run('cancel', result.parent.parent[0].id, '--terminate')

    assert (done.returncode, done.stdout) == (0, 'Revoked 4 tasks, ended 1 chords; told 1 workers\n'), done.stderr
    with pytest.raises(TaskRevokedError):
        project.app.AsyncResult(result.id).get(timeout=TIMEOUT)
    assert project.add.delay(1, 1).get(timeout=TIMEOUT) == 2
    assert not notes.exists()
    assert run('status', result.id).returncode == 1
    assert run('cancel', result.id).stdout == 'Nothing to cancel: all of it has ended\n'


def test_a_canvas_is_stopped_in_python_by_any_id_where_that_is_asked_for(
    project: ModuleType, start_project_worker: Start, tmp_path: Path
) -> None:
    worker = start_project_worker('-c', '1')
    notes = tmp_path / 'notes'
    note = project.record.si(str(notes), 'ran')
    result = chain(project.sleep.si(60), group(note, note), note).apply_async()
    worker.await_line('received')

    project.app.AsyncResult(result.parent[0].id).revoke(terminate=True, canvas=True)

    with pytest.raises(TaskRevokedError):
        project.app.AsyncResult(result.id).get(timeout=TIMEOUT)
    assert project.add.delay(1, 1).get(timeout=TIMEOUT) == 2
    assert not notes.exists()


def test_an_id_alone_revokes_that_task_alone(project: ModuleType, start_project_worker: Start, tmp_path: Path) -> None:
    worker = start_project_worker('-c', '1')
    flag = tmp_path / 'flag'
    identity = project.identity
    result = group(project.await_file.si(str(flag), 'first'), identity.s(2), identity.s(3)).apply_async()
    worker.await_line('received', count=3)

    project.app.AsyncResult(result[1].id).revoke(wait=True, timeout=1)
    flag.touch()

    assert result[0].get(timeout=TIMEOUT) == 'first'
    assert result[2].get(timeout=TIMEOUT) == 3
    with pytest.raises(TaskRevokedError):
        result[1].get(timeout=TIMEOUT)


def test_what_a_task_sends_is_reached_from_its_run_and_cancelled_with_it(
    project: ModuleType, start_project_worker: Start, run: Run
) -> None:
    worker = start_project_worker('-c', '2')
    inner = chord([project.sleep.si(60), project.sleep.si(60)], project.collect.s())
    result = chain(project.constant.si(), project.replace_by.si(inner), project.identity.s()).apply_async()
    worker.await_line(r'sleep\[.*received', count=2)

    shown = drawn(run('show', result.parent.parent.id))
    assert '   └─ PENDING  replaced by: chord' in [line.replace('│', ' ') for line in shown]
    done = run('cancel', result.parent.parent.id, '--terminate', '--json')

    assert json.loads(done.stdout) == {'revoked': 4, 'chords': 1, 'workers': 1}, done.stderr
    for id in (result.id, result.parent.id):
        with pytest.raises(TaskRevokedError):
            project.app.AsyncResult(id).get(timeout=TIMEOUT)
    assert project.add.delay(1, 1).get(timeout=TIMEOUT) == 2


def test_the_whole_run_is_collected_from_any_id(project: ModuleType, start_project_worker: Start) -> None:
    start_project_worker()
    result = everything(project).apply_async()
    assert result.get(timeout=TIMEOUT) == 12
    ids = [result.id, result.parent.id, *(member.id for member in result.parent.parent.results),
           result.parent.parent.parent.id]

    runs = [[node.id for node, _ in project.app.AsyncResult(id).collect(timeout=TIMEOUT)] for id in ids]

    assert all(found == runs[0] for found in runs)
    assert len(set(runs[0])) == 8, 'seven tasks and a group'
    assert {*ids, result.parent.parent.id} < set(runs[0])
    assert len(project.app.AsyncResult(ids[2]).graph) == 8


def test_the_doctor_finds_a_chord_whose_part_was_never_counted_and_repairs_it(
    project: ModuleType, start_project_worker: Start, run: Run
) -> None:
    result = chord([project.add.s(1, 1), project.add.s(2, 2)], project.total.s()).apply_async()
    fine = chord([project.add.s(1, 1)], project.total.s()).apply_async()
    for member, value in zip(result.parent, (2, 4), strict=True):
        project.app.backend.store_result(member.id, value, states.SUCCESS)

    done = run('doctor')
    assert done.returncode == 1
    told, counted = done.stdout.splitlines()
    assert told.startswith(f'chord {result.parent.id}  2 of 2 missing, since 20')
    assert told.endswith('all of its header has ended, but its body was not sent')
    assert counted == '2 open chords, 1 with trouble; --repair ends them'
    assert run('doctor', fine.id).stdout == '1 open chords, 0 with trouble\n'

    done = run('doctor', result.id, '--repair', '--json')

    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)['found']
    assert (found['chord'], found['missing'], found['repaired']) == (result.parent.id, 2, True)
    start_project_worker()
    assert result.get(timeout=TIMEOUT) == 6
    assert fine.get(timeout=TIMEOUT) == 2
    assert run('doctor').stdout == '0 open chords, 0 with trouble\n'


def check_one_line(done: subprocess.CompletedProcess[str], *wanted: str) -> None:
    assert done.returncode == 3, done.stdout + done.stderr
    assert 'Traceback' not in done.stderr
    assert done.stdout == ''
    [line] = done.stderr.splitlines()
    for text in wanted:
        assert text in line, line
    assert 'the-secret' not in line


@pytest.mark.parametrize('command', ['show', 'status', 'cancel', 'doctor'])
def test_an_id_that_nobody_knows_is_one_line(command: str, run: Run) -> None:
    check_one_line(run(command, 'no-such-id'), 'no-such-id', 'check the id', 'result_expires')


def test_a_task_alone_is_no_canvas(project: ModuleType, start_project_worker: Start, run: Run) -> None:
    start_project_worker()
    result = project.add.delay(1, 1)
    result.get(timeout=TIMEOUT)
    check_one_line(run('show', result.id), 'no part of a canvas', 'SUCCESS')


def test_with_rpc_one_line_says_why_not(run: Run) -> None:
    check_one_line(run('show', 'some-id', BACKEND='rpc://'), 'some-id', 'rpc', 'keeps results')
    check_one_line(run('doctor', BACKEND='rpc://'), 'rpc', 'keeps results')


def test_a_store_that_is_away_is_one_line_without_its_password(run: Run) -> None:
    check_one_line(run('show', 'some-id', BACKEND='redis://:the-secret@127.0.0.1:1/0'), '127.0.0.1:1', 'start it')


def test_without_a_store_or_an_app_one_line_says_what_to_do(run: Run, tmp_path: Path) -> None:
    (tmp_path / 'bare.py').write_text('from canvaslite import Celery\napp = Celery("bare", broker="memory://")\n')
    check_one_line(run('status', 'some-id', app='bare'), 'no result_backend is set', '--result-backend')
    command = [sys.executable, '-m', 'canvaslite', 'canvas', 'status', 'some-id']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    check_one_line(done, '-A')


def test_with_nothing_to_hear_it_a_cancellation_says_so(project: ModuleType, run: Run) -> None:
    result = chain(project.add.s(1, 1), project.add.s(1)).apply_async()
    done = run('cancel', result.id)
    assert done.returncode == 3
    assert 'No worker answered' in done.stderr


@pytest.mark.parametrize('where', ['guest:guest@127.0.0.1:1', 'guest:the-secret@{}'])
def test_a_cancellation_says_that_the_broker_is_not_to_be_had(
    where: str, project: ModuleType, servers: dict[str, str], run: Run
) -> None:
    result = chain(project.add.s(1, 1), project.add.s(1)).apply_async()
    at = servers['BROKER'].partition('@')[2]
    check_one_line(run('cancel', result.id, BROKER=f'amqp://{where.format(at)}'),
                   'Cannot connect to the broker', 'broker_url', 'No worker was told')


@pytest.mark.parametrize('wrong', [
    ('show', ''), ('status', os.fsdecode(b'\xff')), ('doctor', 'x' * 300), ('cancel', 'some-id', '--signal=SIGNONE')])
def test_what_is_no_id_or_signal_is_wrong_usage(wrong: tuple[str, ...], run: Run) -> None:
    done = run(*wrong)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: Invalid value for '")


def test_a_failed_chord_that_is_forgotten_leaves_no_keys(project: ModuleType, start_project_worker: Start) -> None:
    start_project_worker()
    client = project.app.backend.client
    result = chord([project.add.s(1, 1), project.fail.s()], project.total.s()).apply_async()
    with pytest.raises(ChordError):
        project.app.AsyncResult(result.id).get(timeout=TIMEOUT, follow_parents=False)
    assert client.keys()
    while project.app.backend.join.head(result.parent.id).state != 'done':
        time.sleep(0.02)

    project.app.AsyncResult(result.id).forget()

    assert client.keys('*') == []


def test_a_client_of_another_app_learns_of_a_failure_upstream(
    project: ModuleType, start_project_worker: Start, servers: dict[str, str]
) -> None:
    start_project_worker()
    result = chain(project.fail.s('upstream'), project.add.s(1), project.add.s(1)).apply_async()
    client = Celery('other', broker=servers['BROKER'], backend=servers['BACKEND'], set_as_current=False)
    with client, pytest.raises(ValueError, match='upstream'):
        client.AsyncResult(result.id).get(timeout=TIMEOUT)
