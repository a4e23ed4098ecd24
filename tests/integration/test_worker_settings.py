"""Settings of a worker: what it remembers over a restart, how much it takes ahead, what it accepts without effect."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite.exceptions import TaskRevokedError, WorkerLostError
from tests.integration.wires import Wire


def await_true(condition: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
    """What `condition` returns, once that is true."""
    until = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < until, what
        time.sleep(0.05)
    return found


def revoke_and_restart(project: ModuleType, start: Callable[[], Any], tmp_path: Path,
                       stop: Callable[[Any], Any], **options: Any) -> Any:
    """Revoke a task that a worker, stopped in this way, has not seen; its result with the next worker."""
    worker = start()
    result = project.record.signature((str(tmp_path / 'ran'), 1), options).freeze()
    (told,) = project.app.control.revoke(result.id, reply=True, timeout=20)
    assert 'ok' in next(iter(told.values()))
    stop(worker)
    # The store may not tell: without it only the worker's memory does.
    project.app.backend.forget(result.id)
    project.record.apply_async((str(tmp_path / 'ran'), 1), task_id=result.id)
    start()
    return result


def test_what_was_revoked_is_revoked_after_a_restart(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    result = revoke_and_restart(
        project, lambda: start_project_worker('-n', 'one@host', '--statedb', '%n.state'), tmp_path,
        lambda worker: worker.stop())
    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert not (tmp_path / 'ran').exists()
    assert (tmp_path / 'one.state.json').exists()


def test_what_was_revoked_is_revoked_when_the_worker_was_killed(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    state = tmp_path / 'state.json'

    def kill(worker: Any) -> None:
        await_true(lambda: json.loads(state.read_text())['revoked'], 'the file was not written')
        worker.kill()

    result = revoke_and_restart(
        project, lambda: start_project_worker('-S', 'state'), tmp_path, kill)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)


def test_revoked_stamps_and_canvases_survive_a_restart_too(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    worker = start_project_worker('--statedb', 'state')
    project.app.control.revoke_by_stamped_headers({'batch': ['7']}, reply=True, timeout=20)
    assert worker.stop() == 0
    start_project_worker('--statedb', 'state')
    stamped = project.add.si(1, 1)
    stamped.stamp(batch='7')
    with pytest.raises(TaskRevokedError):
        stamped.delay().get(timeout=60)
    assert project.add.delay(1, 1).get(timeout=60) == 2


@pytest.mark.parametrize(('path', 'content', 'says'), [
    ('state', 'not json', 'is not what a worker has written'),
    ('state', '[]', 'is not what a worker has written'),
    ('nowhere/state', None, 'No such file or directory. Name one in a folder in which this user may write'),
])
def test_a_state_file_that_is_no_use_is_one_line_at_the_start(
    start_project_worker: Callable[..., Any], tmp_path: Path, path: str, content: str | None, says: str
) -> None:
    if content:
        (tmp_path / f'{path}.json').write_text(content)
    worker = start_project_worker('--statedb', path, await_ready=False)
    assert worker.wait(60) == 1
    line = worker.await_line(says)
    assert 'worker_state_db' in line and f'{path}.json' in line
    assert 'Traceback' not in worker.output
    if content:
        assert (tmp_path / f'{path}.json').read_text() == content


def test_the_state_file_of_celery_is_left_alone(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / 'state').write_bytes(b'of Celery')
    worker = start_project_worker('--statedb', 'state')
    assert worker.stop() == 0
    assert (tmp_path / 'state').read_bytes() == b'of Celery'


# -- how much is taken ahead

def prefetch_count(project: ModuleType) -> int:
    answers = project.app.control.inspect(timeout=20, limit=1).stats()
    return int(next(iter(answers.values()))['prefetch_count'])


def start_holding(project: ModuleType, worker: Any, tmp_path: Path, count: int) -> list[tuple[Path, Any]]:
    """Tasks that run until their file is there."""
    held = [(tmp_path / f'go{n}', project.await_file.delay(str(tmp_path / f'go{n}'), n)) for n in range(count)]
    inspect = project.app.control.inspect(timeout=20, limit=1)
    await_true(lambda: sum(map(len, (inspect.active() or {}).values())) == count, 'the tasks did not start')
    return held


@pytest.mark.parametrize('late', ['0', '1'], ids=['early', 'late'])
def test_after_a_lost_connection_less_is_fetched_until_what_ran_has_ended(
    late: str, project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str],
    tmp_path: Path
) -> None:
    worker = start_project_worker('-c', '3', ACKS_LATE=late, **wired)
    assert prefetch_count(project) == 12
    held = start_holding(project, worker, tmp_path, 3)
    wire.cut()
    worker.await_line('Connection to broker lost')
    others = [project.add.delay(n, 1) for n in range(30)]
    wire.mend()
    worker.await_line('Consuming again', timeout=60)
    assert prefetch_count(project) == 4
    for count, (path, result) in zip((4, 8, 12), held, strict=True):
        path.touch()
        result.get(timeout=60)
        await_true(lambda count=count: prefetch_count(project) == count, f'the count did not become {count}')
    worker.await_line('the prefetch count is 12 again')
    assert [result.get(timeout=60) for result in others] == list(range(1, 31))


def test_with_the_reduction_switched_off_as_much_is_fetched_as_before(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str], tmp_path: Path
) -> None:
    worker = start_project_worker('-c', '3', REDUCE='0', **wired)
    held = start_holding(project, worker, tmp_path, 3)
    wire.cut()
    worker.await_line('Connection to broker lost')
    wire.mend()
    worker.await_line('Consuming again', timeout=60)
    assert prefetch_count(project) == 12
    for path, result in held:
        path.touch()
        result.get(timeout=60)


def test_late_tasks_get_their_messages_back_although_less_is_fetched(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str], tmp_path: Path
) -> None:
    """Otherwise another worker would run them once more."""
    worker = start_project_worker('-c', '4', ACKS_LATE='1', PREFETCH='1', **wired)
    held = start_holding(project, worker, tmp_path, 4)
    wire.cut()
    worker.await_line('Connection to broker lost')
    wire.mend()
    worker.await_line('The message of the running task .* came back', timeout=60, count=4)
    for path, result in held:
        path.touch()
        result.get(timeout=60)
    assert {result.state for _, result in held} == {'SUCCESS'}


def test_tasks_with_an_eta_make_room_for_others_on_redis(
    project: ModuleType, start_project_worker: Callable[..., Any], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project.app.conf, 'broker_url', redis_url)
    start_project_worker(BROKER=redis_url, PREFETCH='1')
    for _ in range(5):
        project.add.apply_async((1, 1), countdown=3600)
    assert project.add.delay(1, 1).get(timeout=60) == 2


def count_messages(rabbitmqctl: Callable[..., str], broker_url: str, kind: str = 'messages_ready') -> int:
    """Messages of the project's queue that no worker has; or those of another `kind`."""
    listed = rabbitmqctl('list_queues', '-p', broker_url.rpartition('/')[2], '--silent', 'name', kind)
    return {name: int(count) for name, count in map(str.split, listed.strip().splitlines())}['proj']


@pytest.mark.parametrize('late', ['0', '1'], ids=['early', 'late'])
@pytest.mark.parametrize('options', [('-c', '2'), ('-c', '2', '-P', 'threads'), ('-P', 'solo')],
                         ids=['prefork', 'threads', 'solo'])
def test_without_prefetching_a_worker_of_rabbitmq_takes_what_its_processes_run_and_no_more(
    options: tuple[str, ...], late: str, project: ModuleType, start_project_worker: Callable[..., Any],
    rabbitmqctl: Callable[..., str], broker_url: str, tmp_path: Path
) -> None:
    slots = 1 if 'solo' in options else 2
    held = [(tmp_path / f'go{n}', project.await_file.delay(str(tmp_path / f'go{n}'), n)) for n in range(6)]
    worker = start_project_worker('--disable-prefetch', *options, ACKS_LATE=late)
    for done, (path, result) in enumerate(held):
        running = min(slots, 6 - done)
        worker.await_line('received', count=done + running, timeout=60)
        time.sleep(0.3)  # for what must not come
        assert worker.output.count(' received') == done + running
        assert count_messages(rabbitmqctl, broker_url) == 6 - done - running
        path.touch()
        assert result.get(timeout=60) == done
    results = [project.add.delay(n, 1) for n in range(200)]
    assert [result.get(timeout=60) for result in results] == list(range(1, 201))
    assert worker.stop() == 0


@pytest.mark.parametrize('late', ['0', '1'], ids=['early', 'late'])
@pytest.mark.parametrize('broker', ['redis', 'filesystem'])
def test_without_prefetching_a_worker_of_another_broker_takes_what_its_processes_run_and_no_more(
    broker: str, late: str, project: ModuleType, start_project_worker: Callable[..., Any], redis_url: str,
    tmp_path: Path
) -> None:
    folder = tmp_path / 'broker'
    folder.mkdir()
    options = {} if broker == 'redis' else {
        'data_folder_in': str(folder), 'data_folder_out': str(folder), 'control_folder': str(folder / 'control')}
    url = redis_url if broker == 'redis' else 'filesystem://'
    project.app.conf.update(broker_url=url, broker_transport_options=options)
    paths = [tmp_path / f'go{n}' for n in range(6)]
    held = {result.id: (path, result) for path in paths for result in [project.await_file.delay(str(path), 1)]}
    worker = start_project_worker('--disable-prefetch', BROKER=url, ACKS_LATE=late,
                                  TRANSPORT_OPTIONS=json.dumps(options))
    for done in range(6):
        running = min(2, 6 - done)
        worker.await_line('received', count=done + running, timeout=60)
        time.sleep(0.3)  # for what must not come
        assert worker.output.count(' received') == done + running
        # Files are taken in any order if they are written in the same millisecond.
        path, result = held[re.findall(r'await_file\[(\S+)\] received', worker.output)[done]]
        path.touch()
        assert result.get(timeout=60) == 1
    results = [project.add.delay(n, 1) for n in range(100)]
    assert [result.get(timeout=60) for result in results] == list(range(1, 101))


def test_without_prefetching_tasks_with_an_eta_take_no_process(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    worker = start_project_worker(DISABLE_PREFETCH='1', HOLD='3600')
    later = [project.add.apply_async((n, 1), countdown=5) for n in range(6)]
    worker.await_line('received', count=6)
    assert project.add.delay(1, 1).get(timeout=60) == 2
    assert [result.get(timeout=60) for result in later] == list(range(1, 7))


def test_without_prefetching_a_worker_that_is_busy_stops_when_it_is_told_and_takes_nothing_more(
    project: ModuleType, start_project_worker: Callable[..., Any], rabbitmqctl: Callable[..., str], broker_url: str,
    tmp_path: Path
) -> None:
    worker = start_project_worker(DISABLE_PREFETCH='1')
    held = start_holding(project, worker, tmp_path, 2)
    waiting = [project.add.delay(n, 1) for n in range(4)]
    worker.signal(signal.SIGTERM)
    worker.await_line('Warm shutdown')
    for path, result in held:
        path.touch()
        result.get(timeout=60)
    assert worker.wait(60) == 0
    assert count_messages(rabbitmqctl, broker_url) == 4
    start_project_worker()
    assert [result.get(timeout=60) for result in waiting] == [1, 2, 3, 4]


def test_without_prefetching_a_busy_worker_takes_nothing_after_a_lost_connection(
    project: ModuleType, start_project_worker: Callable[..., Any], wire: Wire, wired: dict[str, str],
    rabbitmqctl: Callable[..., str], broker_url: str, tmp_path: Path
) -> None:
    worker = start_project_worker(DISABLE_PREFETCH='1', **wired)
    held = start_holding(project, worker, tmp_path, 2)
    # What was on its way would be lost with the wire, and the tasks come again.
    await_true(lambda: count_messages(rabbitmqctl, broker_url, 'messages_unacknowledged') == 0, 'not acknowledged')
    wire.cut()
    worker.await_line('Connection to broker lost')
    waiting = [project.add.delay(n, 1) for n in range(4)]
    wire.mend()
    worker.await_line('Consuming again', timeout=60)
    prefetch_count(project)
    assert count_messages(rabbitmqctl, broker_url) == 4
    for path, result in held:
        path.touch()
        result.get(timeout=60)
    assert [result.get(timeout=60) for result in waiting] == [1, 2, 3, 4]


# -- files and their lines

def test_the_names_of_files_and_the_dates_in_the_log_are_as_the_settings_say(
    servers: dict[str, str], start_worker: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / 'dated.py').write_text(
        'from proj import app\n'
        'app.conf.update(worker_logfile="%n%I.log", worker_pidfile="%n.pid", worker_log_datefmt="day %j")\n')
    worker = start_worker('dated', '-n', 'one@host', '-l', 'INFO', await_ready=False, **servers)
    log = tmp_path / 'one.log'
    await_true(lambda: log.exists() and ' ready.' in log.read_text(), 'there is no log')
    assert time.strftime('[day %j: INFO/MainProcess]') in log.read_text()
    assert (tmp_path / 'one.pid').read_text() == f'{worker.pid}\n'
    assert worker.stop() == 0


# -- what has no effect

@pytest.mark.parametrize('setting', [{'PUTLOCKS': '0'}, {'PUTLOCKS': '1'}, {'LOST_WAIT': '0'}, {'LOST_WAIT': '3600'}],
                         ids=lambda setting: '='.join(*setting.items()))
def test_tasks_run_and_a_lost_child_is_told_of_at_once_whatever_putlocks_and_lost_wait_say(
    setting: dict[str, str], project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker(**setting)
    results = [project.add.delay(n, 1) for n in range(100)]
    lost = project.crash.delay()
    with pytest.raises(WorkerLostError, match='exitcode 70'):
        lost.get(timeout=60)
    assert [result.get(timeout=60) for result in results] == list(range(1, 101))


def test_a_module_of_tasks_hears_of_the_workers_configuration_before_it_is_used(
    servers: dict[str, str], start_worker: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / 'main.py').write_text("from proj import app\napp.conf.include = ['listener']\n")
    (tmp_path / 'listener.py').write_text(
        'from canvaslite.signals import celeryd_init\n'
        '@celeryd_init.connect\n'
        'def configure(conf=None, **rest):\n'
        '    conf.worker_concurrency = 3\n')
    worker = start_worker('main', '-l', 'INFO', **servers)
    assert 'concurrency: 3' in worker.output
