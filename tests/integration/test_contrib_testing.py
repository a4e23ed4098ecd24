"""A project tests its tasks with `canvaslite.contrib.pytest` and `canvaslite.contrib.testing`."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from canvaslite import current
from canvaslite.app.declare import shared_task
from canvaslite.contrib.testing.app import TestApp, setup_default_app
from canvaslite.contrib.testing.manager import Manager
from canvaslite.contrib.testing.worker import start_worker, test_worker_started, test_worker_stopped
from canvaslite.exceptions import TimeoutError

#: Not tests, whatever their names say.
test_worker_started.__test__ = test_worker_stopped.__test__ = False

TASKS = """
    from canvaslite import shared_task
    from canvaslite.utils.log import get_task_logger

    @shared_task
    def add(x, y):
        get_task_logger(__name__).warning('adding %s to %s', x, y)
        return x + y

    @shared_task
    def waits_for_another():
        return add.delay(1, 1).get(timeout=30)
"""


@pytest.fixture
def run_project(tmp_path: Path) -> Callable[..., str]:
    """Run pytest on a project that consists of these files; its output. All of its tests must pass."""

    def run(**files: str) -> str:
        for name, text in {'tasks': TASKS, **files}.items():
            (tmp_path / f'{name}.py').write_text(textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, '-m', 'pytest', '-ra', '-p', 'no:cacheprovider', '--strict-markers', '-W', 'error'],
            cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_project_needs_no_server_for_its_tests(run_project: Callable[..., str]) -> None:
    assert '6 passed' in run_project(
        conftest="""
            import pytest
            pytest_plugins = ('canvaslite.contrib.pytest',)

            @pytest.fixture(scope='session')
            def celery_includes():
                return ['tasks']

            @pytest.fixture(scope='session')
            def celery_config():
                return {'result_extended': True}
        """,
        test_tasks="""
            import pytest
            import canvaslite
            from canvaslite import current_app

            def test_tasks_declared_in_the_test_run(celery_app, celery_worker):
                @celery_app.task
                def mul(x, y):
                    return x * y
                assert celery_app.conf.result_extended
                assert mul.delay(4, 4).get(timeout=60) == 16

            def test_tasks_of_the_modules_run(celery_app, celery_worker):
                import tasks
                assert tasks.add.delay(4, 4).get(timeout=60) == 8
                assert canvaslite.chord([tasks.add.s(1, 1)] * 3, tasks.add.s([1]))().get(timeout=60) == [2, 2, 2, 1]

            def test_they_do_so_in_the_next_test_as_well(celery_session_app, celery_session_worker):
                import tasks
                assert tasks.add.delay(4, 4).get(timeout=60) == 8

            def test_a_task_is_told_not_to_wait_and_the_test_may(celery_app, celery_worker):
                import tasks
                with pytest.raises(RuntimeError, match='Never call result.get'):
                    tasks.waits_for_another.delay().get(timeout=60)

            @pytest.mark.celery(result_extended=False, task_default_queue='mine')
            def test_a_mark_changes_the_settings(celery_app, depends_on_current_app):
                assert not celery_app.conf.result_extended
                assert celery_app.amqp.default_queue.name == 'mine'
                assert current_app.main == celery_app.main

            def test_local_calls_need_no_worker():
                import tasks
                assert tasks.add(1, 2) == 3
        """)


def test_a_project_tests_with_its_servers_and_sees_what_the_processes_log(
    run_project: Callable[..., str], servers: dict[str, str]
) -> None:
    assert '2 passed' in run_project(
        conftest=f"""
            import pytest
            pytest_plugins = ('canvaslite.contrib.pytest',)

            @pytest.fixture(scope='session')
            def celery_config():
                return {{'broker_url': {servers['BROKER']!r}, 'result_backend': {servers['BACKEND']!r},
                         'task_queues': None}}

            @pytest.fixture(scope='session')
            def celery_worker_pool():
                return 'prefork'

            @pytest.fixture(scope='session')
            def celery_worker_parameters():
                return {{'queues': ('celery', 'other'), 'concurrency': 2}}
        """,
        test_tasks="""
            import os
            import tasks

            def test_log(celery_session_app, celery_session_worker, caplog):
                assert tasks.add.delay(40, 2).get(timeout=60) == 42
                tasks.add.apply_async(('a', 2), queue='other').get(timeout=10, propagate=False)
                for _ in range(100):
                    if [r for r in caplog.records if r.exc_text]:
                        break
                    __import__('time').sleep(0.05)
                assert [r.getMessage() for r in caplog.records if r.name == 'tasks'][0] == 'adding 40 to 2'
                assert all(r.process != os.getpid() for r in caplog.records if r.name == 'tasks')
                assert [r for r in caplog.records if 'TypeError' in (r.exc_text or '')]

            def test_inspect(celery_session_app, celery_session_worker):
                assert celery_session_worker.hostname in celery_session_app.control.inspect(timeout=5).ping()
        """)


def test_the_trap_catches_who_uses_the_current_app(run_project: Callable[..., str]) -> None:
    assert '2 passed' in run_project(
        conftest="""
            import pytest
            pytest_plugins = ('canvaslite.contrib.pytest',)

            @pytest.fixture(scope='session')
            def use_celery_app_trap():
                return True
        """,
        test_trap="""
            import pytest
            import tasks

            def test_trap(celery_app):
                with pytest.raises(RuntimeError, match='depends on current_app'):
                    tasks.add.delay(1, 1)

            def test_its_own_app_is_none_of_that(celery_app, celery_worker):
                assert celery_app.send_task('tasks.add', (1, 1)).get(timeout=60) == 2
        """)


def test_workers_start_one_after_the_other_and_all_is_as_it_was() -> None:
    before, seen = current.default_app(), []
    with setup_default_app(None):
        for number in range(3):
            app = TestApp(f'app-{number}')
            test_worker_started.connect(lambda worker, **_: seen.append(worker.hostname), sender=app, weak=False)
            test_worker_stopped.connect(lambda worker, **_: seen.append(worker.exitcode), sender=app, weak=False)
            with setup_default_app(app), start_worker(app, hostname=f'w{number}@here') as worker:
                assert current.get_current_app() is app
                assert app.tasks['celery.ping'].delay().get(timeout=60) == 'pong'
                assert worker.hostname == f'w{number}@here'
    assert seen == ['w0@here', 0, 'w1@here', 0, 'w2@here', 0]
    assert current.default_app() is before
    assert not [thread for thread in threading.enumerate() if thread.name in ('TestWorker', 'ChildLog')]


def test_a_worker_without_a_broker_is_an_error_at_once() -> None:
    app = TestApp(broker='amqp://guest:guest@127.0.0.1:1//')
    with setup_default_app(app), pytest.raises(OSError), start_worker(app):
        pass


def test_a_worker_that_ends_at_its_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / 'pid').write_text('1\n')
    app = TestApp()
    pidfile = str(tmp_path / 'pid')
    with setup_default_app(app), pytest.raises(RuntimeError, match='did not start'), start_worker(app, pidfile=pidfile):
        pass


def test_a_worker_that_takes_too_long_to_stop_is_an_error() -> None:
    app, begun, go_on = TestApp(), threading.Event(), threading.Event()

    @app.task
    def slow() -> None:
        begun.set()
        go_on.wait(20)

    with setup_default_app(app):
        with pytest.raises(RuntimeError, match='shutdown_timeout'), start_worker(app, shutdown_timeout=0.1):
            slow.delay()
            begun.wait(10)
        go_on.set()


def test_the_manager_waits_for_tasks() -> None:
    app, go_on, out = TestApp(), threading.Event(), io.StringIO()

    @app.task
    def wait(x: int) -> int:
        go_on.wait(20)
        return x

    with setup_default_app(app), start_worker(app, pool='threads', concurrency=2):
        manager = Manager(app, stdout=out, stderr=out)
        result = wait.delay(3)
        manager.assert_accepted([result.id])
        manager.assert_received([result.id])
        manager.ensure_not_for_a_while(lambda: result.get(timeout=0.01), TimeoutError, max_retries=2)
        with pytest.raises(AssertionError, match='Missing task results'):
            manager.join(result, timeout=0.05, max_retries=2)
        assert out.getvalue().count(f'!Still waiting for 1/1: [{result.id}]') == 2
        go_on.set()
        assert manager.join(result, timeout=10) == [3]
        manager.assert_result_tasks_in_progress_or_completed([result])
        wait.apply_async((4,), queue='nobody')
        manager.wait_until_idle()
        assert not any(app.control.inspect(timeout=1).active().values())


def test_shared_tasks_of_a_test_are_those_of_the_next_one_too() -> None:
    app = TestApp()
    with setup_default_app(app):
        @shared_task(name='tests.declared_in_a_test')
        def double(x: int) -> int:
            return 2 * x
    app = TestApp()
    with setup_default_app(app), start_worker(app):
        assert double.delay(4).get(timeout=60) == 8


def test_a_closed_app_lets_go_of_its_result_store() -> None:
    app: Any = TestApp()
    with setup_default_app(app):
        store = app.backend
        assert app.backend is store
    assert app.backend is not store
