"""Chords in a Redis that forgets its scripts, restarts, fails over, expires keys or is a cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from canvaslite import chain, chord, group, states
from canvaslite.exceptions import ChordError, TaskRevokedError
from tests.redis_servers import (
    ALL_KEPT,
    RedisServer,
    master_and_replica,
    redis_cluster,
    redis_server,
    wait_for,
)

TIMEOUT = 40
Start = Callable[..., Any]


def on(store: str) -> Any:
    """Run a test on the store that the fixture of that name gives."""
    return pytest.mark.parametrize('servers', [store], indirect=True)


@pytest.fixture
def servers(request: pytest.FixtureRequest, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """RabbitMQ, and the store that the test names."""
    env = {'BROKER': broker_url, 'BACKEND': request.getfixturevalue(request.param).url}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def forgetting(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that is empty after a restart."""
    with redis_server(tmp_path / 'redis') as server:
        yield server


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that has after a restart what it had before."""
    with redis_server(tmp_path / 'redis', *ALL_KEPT) as server:
        yield server


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Any]:
    """A master, a replica, and a sentinel."""
    with master_and_replica(tmp_path) as (master, replica, sentinel):
        yield SimpleNamespace(master=master, replica=replica, url=f'sentinel://127.0.0.1:{sentinel.port}/0')


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    """A cluster of three nodes that keep what they have."""
    with redis_cluster(tmp_path) as nodes:
        url = ';'.join(f'rediscluster://127.0.0.1:{node.port}' for node in nodes)
        yield SimpleNamespace(nodes=nodes, url=url)


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    """The file for which `await_file` waits."""
    return tmp_path / 'opened'


def numbers(tasks: ModuleType, count: int, *more: Any) -> Any:
    return chord([*(tasks.identity.s(number) for number in range(count)), *more], tasks.collect.s())


@on('forgetting')
def test_chords_join_although_all_scripts_are_flushed_again_and_again(
    tasks: ModuleType, start: Start, forgetting: RedisServer
) -> None:
    start()
    ended = threading.Event()

    def flush() -> None:
        client = forgetting.client
        while not ended.wait(0.003):
            client.script_flush()

    flushing = threading.Thread(target=flush)
    flushing.start()
    try:
        results = [numbers(tasks, 5).apply_async() for _ in range(30)]
        assert [result.get(timeout=TIMEOUT) for result in results] == [[0, 1, 2, 3, 4]] * 30
    finally:
        ended.set()
        flushing.join()
    assert forgetting.client.info('commandstats')['cmdstat_evalsha']['failed_calls'] > 10


@on('keeping')
def test_chords_go_on_after_a_restart_of_redis(
    tasks: ModuleType, start: Start, keeping: RedisServer, opened: Path
) -> None:
    worker = start()
    results = [numbers(tasks, 3).apply_async() for _ in range(2)]
    results += [numbers(tasks, 3, tasks.await_file.s(str(opened), 3)).apply_async() for _ in range(2)]
    worker.await_line('identity.* succeeded', count=12)
    keeping.kill()
    opened.touch()  # they end while it is away
    worker.await_line('Connection to Redis lost')
    keeping.start()

    assert [result.get(timeout=TIMEOUT) for result in results] == [[0, 1, 2]] * 2 + [[0, 1, 2, 3]] * 2


@on('keeping')
def test_an_outage_of_redis_is_told_once_by_each_process_and_so_is_its_end(
    tasks: ModuleType, start: Start, keeping: RedisServer, opened: Path
) -> None:
    worker = start('-l', 'DEBUG')
    results = [tasks.await_file.delay(str(opened), number) for number in range(2)]
    worker.await_line('Task accepted: .*await_file', count=2)
    keeping.kill()
    opened.touch()
    worker.await_line(r'Connection to Redis lost: Retry \(4/', count=2)
    keeping.start()
    assert [result.get(timeout=TIMEOUT) for result in results] == [0, 1]
    worker.await_line('Redis works again, after', count=2)
    told = [line for line in worker.lines if 'Redis' in line and ': DEBUG' not in line]
    assert len(told) == 4, told


@on('forgetting')
def test_a_chord_that_redis_has_lost_fails_at_its_deadline_and_other_chords_go_on(
    tasks: ModuleType, start: Start, forgetting: RedisServer, opened: Path
) -> None:
    worker = start(DEADLINE='3')
    lost = numbers(tasks, 3, tasks.await_file.s(str(opened), 3)).apply_async()
    worker.await_line('identity.* succeeded', count=3)
    forgetting.kill()
    forgetting.start()
    opened.touch()

    others = [numbers(tasks, 3).apply_async() for _ in range(10)]
    assert [other.get(timeout=TIMEOUT) for other in others] == [[0, 1, 2]] * 10
    with pytest.raises(ChordError, match=r'was not complete before its deadline \(result_chord_deadline\)'):
        lost.get(timeout=TIMEOUT, follow_parents=False)


@on('forgetting')
def test_a_chord_that_redis_has_lost_can_be_revoked(
    tasks: ModuleType, start: Start, forgetting: RedisServer, opened: Path
) -> None:
    worker = start()
    lost = numbers(tasks, 3, tasks.await_file.s(str(opened), 3)).apply_async()
    worker.await_line('identity.* succeeded', count=3)
    forgetting.kill()
    forgetting.start()

    lost.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        lost.get(timeout=TIMEOUT, follow_parents=False)
    assert numbers(tasks, 3).apply_async().get(timeout=TIMEOUT) == [0, 1, 2]


@on('watched')
def test_fifty_chords_end_although_the_master_is_replaced_meanwhile(
    tasks: ModuleType, start: Start, watched: Any
) -> None:
    worker = start()
    results = [numbers(tasks, 3, tasks.sleep.s(0.05)).apply_async() for _ in range(50)]
    worker.await_line('sleep.* succeeded', count=15)
    watched.master.stop()

    assert [result.get(timeout=TIMEOUT) for result in results] == [[0, 1, 2, 0.05]] * 50
    assert watched.replica.client.info('replication')['role'] == 'master'


# -- keys that expire --------------------------------------------------------------------------------------------------

@on('forgetting')
def test_keys_expire_as_celerys_do_but_those_of_a_chord_outlive_it_in_a_mixed_fleet(
    servers: dict[str, str], project: ModuleType, start_worker: Start, forgetting: RedisServer, opened: Path
) -> None:
    env = {**servers, 'EXPIRES': '60'}
    start_worker('proj', '-c', '2', '-l', 'INFO', **env)
    start_worker('proj', '-c', '1', '-l', 'INFO', '-Q', 'theirs', '-n', 'theirs@%h', package='celery',
                 CANVAS_PACKAGE='celery', **env)
    redis = forgetting.client
    after_ours = opened.with_name('after ours')
    wait = project.await_file.s
    result = chord([project.identity.s(1), wait(str(opened), 2), wait(str(after_ours), 3).set(queue='theirs')],
                   project.collect.s()).apply_async()
    ours, _, theirs = result.parent.results
    assert ours.get(timeout=TIMEOUT) == 1
    after_ours.touch()
    assert theirs.get(timeout=TIMEOUT) == 3

    key = f'celery-taskset-meta-{result.parent.id}'
    wait_for('the count of Celery', lambda: 0 < redis.ttl(f'{key}.j') <= 60)
    redis.zadd('canvaslite-join-due:proj', {result.parent.id: 0})  # now, not in eight seconds
    wait_for('a longer life', lambda: min(redis.ttl(f'{key}.{suffix}') for suffix in 'jsd') > 7 * 86400)
    opened.touch()
    assert result.get(timeout=TIMEOUT) == [1, 2, 3]
    wait_for('the end', lambda: redis.get(f'{key}.c') == b'done')
    assert redis.zcard('canvaslite-join-due:proj') == 0
    for task in (ours, theirs, result):
        assert 0 < redis.ttl(f'celery-task-meta-{task.id}') <= 60
    assert min(map(redis.ttl, redis.keys())) > 0, 'nothing stays for ever'


# -- a cluster ---------------------------------------------------------------------------------------------------------

@on('cluster')
def test_every_canvas_has_its_value_on_a_cluster(tasks: ModuleType, start: Start, cluster: Any) -> None:
    start()
    one, same, collect = tasks.identity.si, tasks.identity.s(), tasks.collect.s()
    sent = [
        (numbers(tasks, 5), [0, 1, 2, 3, 4]), (group(one(1), one(2)) | collect, [1, 2]),
        (chord([numbers(tasks, 2), one(2), chain(one(1), same)], collect), [[0, 1], 2, 1]),
        (chord([chain(one(1), group(same, same)), tasks.quiet.s(9)], collect), [[1, 1], 9]),
        (group(one(number) for number in range(40)), [*range(40)]),
    ]
    results = [(canvas.apply_async(), value) for canvas, value in sent * 3]
    assert [result.get(timeout=TIMEOUT) for result, _ in results] == [value for _, value in results]

    more = chord([tasks.bring_along.s(1, 2), one(3)], collect).apply_async()
    assert sorted(more.get(timeout=TIMEOUT)) == [1, 2, 3]
    found = {node.id for node, _ in tasks.app.AsyncResult(more.id).collect()}
    assert {member.id for member in more.parent} < found, 'the run is known by the id alone'
    failing = chord([one(1), tasks.crash.s()], collect).apply_async()
    with pytest.raises(ChordError, match='WorkerLostError'):
        failing.get(timeout=TIMEOUT, follow_parents=False)


@on('cluster')
def test_chords_are_spread_over_the_nodes_of_a_cluster(
    tasks: ModuleType, cluster: Any, opened: Path
) -> None:
    results = [numbers(tasks, 2).apply_async() for _ in range(60)]
    nodes = [{key.decode() for key in node.client.keys('*')} for node in cluster.nodes]
    for result in results:
        [keys] = [[key for key in node if result.parent.id in key] for node in nodes
                  if any(result.parent.id in key for key in node)]
        assert len(keys) == 2, 'the size and the body'
    assert all(any(key.startswith('canvaslite-join-due:') for key in node) for node in nodes)


@on('cluster')
def test_a_chord_on_a_cluster_ends_although_a_child_died_before_counting(
    tasks: ModuleType, start: Start, cluster: Any, tmp_path: Path
) -> None:
    start(DIE_COUNTING=str(tmp_path / 'died'))
    result = chord([tasks.identity.s('first'), tasks.identity.s('last')], tasks.collect.s()).apply_async()
    assert result.get(timeout=TIMEOUT) == ['first', 'last']
    assert (tmp_path / 'died').exists()


@on('cluster')
def test_chords_go_on_after_a_restart_of_a_node_of_the_cluster(
    tasks: ModuleType, start: Start, cluster: Any, opened: Path
) -> None:
    worker = start()
    results = [numbers(tasks, 2, tasks.await_file.s(str(opened), 2)).apply_async() for _ in range(10)]
    worker.await_line('await_file.*received', count=2)
    cluster.nodes[0].kill()
    opened.touch()
    worker.await_line('Connection to Redis lost')
    cluster.nodes[0].start()

    assert [result.get(timeout=TIMEOUT) for result in results] == [[0, 1, 2]] * 10
    assert {result.state for result in results} == {states.SUCCESS}
