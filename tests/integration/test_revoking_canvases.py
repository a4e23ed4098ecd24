"""Revoking the result of a canvas: what runs of it ends, what waits does not run, and nobody waits for it in vain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite import Celery, chain, chord, group, states
from canvaslite.exceptions import TaskRevokedError

Start = Callable[..., Any]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """The file that tasks write into."""
    path = tmp_path / 'notes'
    path.touch()
    return path


def test_the_rest_of_a_chain_does_not_run(project: ModuleType, start_project_worker: Start, notes: Path) -> None:
    worker = start_project_worker('-c', '1')
    note = project.record.si(str(notes), 'ran')
    result = chain(project.sleep.si(2), note, note, project.sleep.si(0)).apply_async()
    worker.await_line('sleep.*received')

    result.revoke()

    with pytest.raises(TaskRevokedError):
        result.get(timeout=20, follow_parents=False)
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert notes.read_text() == ''
    assert [node.state for node in (result.parent, result.parent.parent)] == [states.REVOKED] * 2


def test_what_runs_of_a_chain_is_terminated(project: ModuleType, start_project_worker: Start, notes: Path) -> None:
    worker = start_project_worker('-c', '1')
    result = chain(project.sleep.si(60), project.record.si(str(notes), 'ran')).apply_async()
    worker.await_line('sleep.*received')

    result.revoke(terminate=True)

    with pytest.raises(TaskRevokedError):
        result.get(timeout=20, follow_parents=False)
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert notes.read_text() == ''


def test_a_chord_ends_at_once_and_its_header_and_body_do_not_run(
    project: ModuleType, start_project_worker: Start, notes: Path
) -> None:
    worker = start_project_worker('-c', '1')
    note = project.record.si(str(notes), 'ran')
    result = chord([project.sleep.si(60), note, note], note).apply_async()
    worker.await_line('received', count=3)

    result.revoke(terminate=True)

    with pytest.raises(TaskRevokedError):
        result.get(timeout=20, follow_parents=False)
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert notes.read_text() == ''
    assert {member.state for member in result.parent.results} == {states.REVOKED}
    assert not project.app.backend.join.due(10 ** 10, 10)


def test_nested_chords_and_groups_of_chains_end(project: ModuleType, start_project_worker: Start, notes: Path) -> None:
    worker = start_project_worker('-c', '1')
    note = project.record.si(str(notes), 'ran')
    inner = chord([project.sleep.si(60), note], note)
    result = chord([inner, chain(note, note)], chain(note, note)).apply_async()
    chains = group(chain(note, note), chain(note, note)).apply_async()
    worker.await_line('received', count=4)

    result.revoke(terminate=True)
    chains.revoke(terminate=True)

    with pytest.raises(TaskRevokedError):
        result.get(timeout=20, follow_parents=False)
    for member in chains.results:
        with pytest.raises(TaskRevokedError):
            member.get(timeout=20, follow_parents=False)
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert notes.read_text() == ''
    assert not project.app.backend.join.due(10 ** 10, 10)


def test_what_a_task_of_the_canvas_has_sent_does_not_run_either(
    project: ModuleType, start_project_worker: Start, notes: Path
) -> None:
    worker = start_project_worker('-c', '1')
    first = project.constant.si()
    result = chain(first, project.sleep.si(2)).apply_async()
    worker.await_line('sleep.*received')
    spawned = project.record.apply_async((str(notes), 'ran'), root_id=result.parent.id, parent_id=result.parent.id)

    result.revoke(terminate=True)

    with pytest.raises(TaskRevokedError):
        spawned.get(timeout=60)
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert notes.read_text() == ''


@pytest.mark.parametrize('backend', ['rpc://', 'disabled://'])
def test_a_store_in_which_nothing_can_be_marked_is_not_complained_of(
    start_project_worker: Start, broker_url: str, backend: str
) -> None:
    worker = start_project_worker('-c', '1', BACKEND=backend)
    app = Celery('proj', broker=broker_url, backend=backend, set_as_current=False)
    app.conf.task_default_queue = 'proj'
    running, waiting = (app.signature('proj.sleep', args=(0.5,)).apply_async() for _ in range(2))
    worker.await_line('received', count=2)

    waiting.revoke()

    worker.await_line(f'Discarding revoked task: .*{waiting.id}')
    worker.await_line(f'{running.id}.* succeeded')
    last = app.signature('proj.sleep', args=(0,)).apply_async()
    worker.await_line(f'{last.id}.* succeeded')
    assert 'result store' not in worker.output
    app.close()
