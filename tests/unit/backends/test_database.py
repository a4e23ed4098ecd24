"""The SQL store: what a user gets wrong, what several processes do at once, and what a fork leaves behind."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from canvaslite import Celery, states
from canvaslite.exceptions import ImproperlyConfigured

fork = multiprocessing.get_context('fork')


def make(backend: str, **settings: Any) -> Any:
    return Celery('unit', broker='memory://', backend=backend, set_as_current=False, changes=settings)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f'db+sqlite:///{tmp_path}/results.sqlite'


# -- what a user gets wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize('backend, message', [
    ('database', 'database_url: .*needs a URL'),
    ('db+nosuch://host/name', "result_backend: no database is called 'nosuch'; use db\\+sqlite"),
    ('db+://x', 'result_backend: the database URL cannot be read'),
    ('db+sqlite:////no/such/folder/results.sqlite', 'result_backend: .*/no/such/folder.*unable to open database file'),
    ('db+postgresql://postgres:secret@127.0.0.1:1/x',
     r'result_backend: .*postgres:\*\*\*@127.0.0.1:1.*start the database'),
    ('db+mysql://root:secret@127.0.0.1:1/x', r'result_backend: .*root:\*\*\*@127.0.0.1:1.*start the database'),
    ('db+mysql+nosuch://u:secret@host/x', "result_backend: SQLAlchemy knows no driver 'mysql\\+nosuch'"),
])
def test_a_wrong_url_is_one_line_that_names_the_setting_and_shows_no_password(backend: str, message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message) as caught:
        make(backend).backend
    assert 'secret' not in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_wrong_engine_option_is_named(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r'database_engine_options: .*nonsense'):
        make(url, database_engine_options={'nonsense': 1}).backend


def test_an_engine_callback_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r'database_engine_callback.* must be callable'):
        make(url, database_engine_callback=42).backend
    with pytest.raises(ImproperlyConfigured, match='database_engine_callback: cannot import'):
        make(url, database_engine_callback='no.such.module:name').backend


def test_a_missing_sqlalchemy_is_one_line_that_says_what_to_install(url: str) -> None:
    code = ('import sys; sys.modules["sqlalchemy"] = None\n'
            'from canvaslite import Celery\n'
            f'Celery(backend={url!r}).backend')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("pip install 'canvaslite[sql]'")


def test_the_uri_shows_no_password(url: str) -> None:
    backend = make('db+postgresql://user:secret@127.0.0.1/x?password=secret2',
                   database_create_tables_at_setup=False).backend
    assert 'secret' not in backend.as_uri()
    assert 'secret' in backend.as_uri(include_password=True)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_tables_have_the_names_that_the_settings_give(url: str) -> None:
    backend = make(url, database_table_names={'task': 'my_tasks', 'group': 'my_groups'}).backend

    backend.mark_as_done('id', 1)

    names = set(sa.inspect(backend.database.engine).get_table_names())
    assert names >= {'my_tasks', 'my_groups', 'my_groups_cl_join', 'my_groups_cl_join_part'}
    assert backend.get_state('id') == states.SUCCESS


def test_tables_are_made_at_setup_or_when_they_are_needed(url: str, tmp_path: Path) -> None:
    lazy = make(url, database_create_tables_at_setup=False).backend
    assert not (tmp_path / 'results.sqlite').exists()
    assert lazy.get_state('id') == states.PENDING
    assert (tmp_path / 'results.sqlite').exists()
    (tmp_path / 'results.sqlite').unlink()

    make(url).backend
    assert (tmp_path / 'results.sqlite').exists()


def test_the_engine_callback_gets_the_engine(url: str) -> None:
    engines: list[Any] = []
    make(url, database_engine_callback=engines.append).backend
    assert [engine.dialect.name for engine in engines] == ['sqlite']


def test_short_lived_sessions_keep_no_connection(url: str) -> None:
    backend = make(url, database_short_lived_sessions=True).backend
    backend.mark_as_done('id', 1)
    assert isinstance(backend.database.engine.pool, sa.pool.NullPool)
    assert backend.get_result('id') == 1


def test_a_database_in_memory_is_one_for_all_threads() -> None:
    backend = make('db+sqlite://').backend
    threads = [threading.Thread(target=backend.mark_as_done, args=(f'id{number}', number)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [backend.get_result(f'id{number}') for number in range(8)] == list(range(8))


def test_the_cleanup_removes_chords_that_ended_long_ago(url: str) -> None:
    backend = make(url).backend
    for name, state, due in (('ended', 'done', 1.0), ('just-ended', 'done', time.time() + 60), ('open', 'open', 1.0)):
        backend.apply_chord((name, []), {'task': 'body', 'chord_size': 2})
        backend.join.step(name, lambda record, state, due: record.write(
            record.read()._replace(state=state, due=due)), state, due)

    backend.cleanup()

    kept = backend.database.fetch(sa.select(backend.tables.join.c.gid))
    assert sorted(row.gid for row in kept) == ['just-ended', 'open']


# -- several processes --------------------------------------------------------------------------------------------


def test_sqlite_serves_four_writing_children_and_a_reading_client(url: str) -> None:
    backend = make(url).backend
    backend.get_state('warm')  # the parent has a connection when it forks
    ids = [[str(uuid.uuid4()) for _ in range(150)] for _ in range(4)]

    def write(mine: list[str]) -> None:
        for number, task_id in enumerate(mine):
            backend.store_result(task_id, None, states.STARTED)
            backend.mark_as_done(task_id, number)

    children = [fork.Process(target=write, args=(mine,)) for mine in ids]
    for child in children:
        child.start()
    while any(child.is_alive() for child in children):
        backend.get_task_metas([mine[-1] for mine in ids])
    for child in children:
        child.join()

    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    for mine in ids:
        metas = backend.get_task_metas(mine)
        assert [metas[task_id]['result'] for task_id in mine] == list(range(150))


def test_processes_that_begin_at_once_make_the_tables_together(url: str) -> None:
    barrier = fork.Barrier(6)

    def begin() -> None:
        barrier.wait()
        make(url).backend.mark_as_done(str(os.getpid()), 1)

    children = [fork.Process(target=begin) for _ in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join()

    assert [child.exitcode for child in children] == [0] * 6
    backend = make(url).backend
    assert all(backend.get_result(str(child.pid)) == 1 for child in children)


def test_a_fork_while_another_thread_uses_the_store_harms_neither(url: str) -> None:
    backend = make(url).backend
    stop = threading.Event()
    failures: list[BaseException] = []

    def use() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                backend.mark_as_done(f'parent-{number}', number)
            except BaseException as exc:
                failures.append(exc)
                return

    thread = threading.Thread(target=use)
    thread.start()
    codes = []
    for number in range(10):
        child = fork.Process(target=backend.mark_as_done, args=(f'child-{number}', number))
        child.start()
        child.join(30)
        codes.append(child.exitcode)
    stop.set()
    thread.join()

    assert failures == []
    assert codes == [0] * 10
    assert [backend.get_result(f'child-{number}') for number in range(10)] == list(range(10))
    assert backend.database.fetch(sa.text('PRAGMA integrity_check')) == [('ok',)]


def test_a_connection_that_the_server_has_closed_is_replaced(postgresql: Callable[[], tuple[Any, Any]]) -> None:
    backend, kill_connections = postgresql()
    backend.mark_as_done('before', 1)

    kill_connections()
    backend.mark_as_done('after', 2)
    kill_connections()

    assert backend.get_result('before') == 1
    assert backend.get_result('after') == 2


@pytest.fixture
def postgresql(postgresql_schema: tuple[str, Any]) -> Any:
    schema, cursor = postgresql_schema

    def start() -> tuple[Any, Any]:
        url = f'db+postgresql://postgres@127.0.0.1/postgres?application_name={schema}'
        backend = make(url, database_table_schemas={'task': schema, 'group': schema}).backend

        def kill_connections() -> None:
            cursor.execute('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s',
                           (schema,))

        return backend, kill_connections

    return start
