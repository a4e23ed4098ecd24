"""A user's mistake is one line that names the setting and the next step, and exit status 1 or 2."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

APP = 'from canvaslite import Celery\napp = Celery("mine", broker={broker!r}, backend={backend!r})\n'


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, app: str | None = None) -> subprocess.CompletedProcess[str]:
        if app is not None:
            (tmp_path / 'mine.py').write_text(app)
        return subprocess.run(
            [sys.executable, '-m', 'canvaslite', *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    return run


def check_one_line(done: subprocess.CompletedProcess[str], *wanted: str) -> None:
    assert done.returncode in (1, 2), done.stderr
    assert 'Traceback' not in done.stderr + done.stdout
    told = [line for line in done.stderr.splitlines() if 'Error: ' in line or 'CRITICAL' in line]
    assert len(told) == 1, done.stderr
    for text in wanted:
        assert text in told[0], done.stderr


def test_an_app_that_cannot_be_found(run: Callable[..., Any]) -> None:
    check_one_line(run('-A', 'no_such_module', 'worker'), 'no_such_module')


def test_a_module_without_an_app(run: Callable[..., Any], tmp_path: Path) -> None:
    check_one_line(run('-A', 'mine', 'worker', app='x = 1\n'), 'mine')


def test_an_app_module_that_raises_on_import(run: Callable[..., Any]) -> None:
    check_one_line(run('-A', 'mine', 'worker', app='import not_installed_here\n'), 'not_installed_here')


@pytest.mark.parametrize('names', ['include=["no_such_tasks"]', 'imports=("no_such_tasks",)', ''])
def test_a_module_of_tasks_that_is_not_there(run: Callable[..., Any], names: str) -> None:
    app = APP.format(broker='memory://', backend='cache+memory://') + f'app.conf.update({names})\n'
    options = () if names else ('--include', 'no_such_tasks')
    check_one_line(run('-A', 'mine', 'worker', *options, app=app), 'include', "'no_such_tasks'", '--workdir')


def test_a_module_of_tasks_that_imports_what_is_not_there(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / 'its_tasks.py').write_text('import not_installed_here\n')
    done = run('-A', 'mine', 'worker', '--include', 'its_tasks', app=APP.format(
        broker='memory://', backend='cache+memory://'))
    check_one_line(done, 'its_tasks.py, line 1', "'not_installed_here'")


@pytest.mark.parametrize(('option', 'wanted'), [
    ("rate_limit='5/d'", "'5/d'"), ("rate_limit='-1'", "'-1'"), ("time_limit='soon'", "'soon'")])
def test_a_limit_of_a_task_that_is_none(run: Callable[..., Any], option: str, wanted: str) -> None:
    app = APP.format(broker='memory://', backend='cache+memory://') + f'@app.task({option})\ndef limited(): pass\n'
    check_one_line(run('-A', 'mine', 'worker', app=app), 'mine.limited', wanted)


def test_a_log_in_a_folder_that_is_not_there(run: Callable[..., Any]) -> None:
    app = APP.format(broker='memory://', backend='cache+memory://')
    check_one_line(run('-A', 'mine', 'worker', '-f', 'nowhere/log', app=app), '--logfile', 'nowhere/log')


def test_an_unknown_option(run: Callable[..., Any]) -> None:
    check_one_line(
        run('-A', 'mine', 'worker', '--no-such-option', app=APP.format(broker='memory://', backend=None)),
        '--no-such-option',
    )


def test_an_unknown_pool(run: Callable[..., Any]) -> None:
    check_one_line(
        run('-A', 'mine', 'worker', '-P', 'swimming', app=APP.format(broker='memory://', backend=None)),
        'swimming',
        'prefork',
    )


@pytest.mark.parametrize(
    ('broker', 'backend', 'wanted'),
    [
        ('nothing://localhost', None, ('broker_url', 'nothing')),
        ('amqp://guest:guest@127.0.0.1:1//', 'nothing://x', ('result_backend', 'nothing')),
        ('amqp://guest:guest@127.0.0.1:port//', None, ('broker_url',)),
    ],
)
def test_a_url_that_nothing_understands(
    broker: str, backend: str | None, wanted: tuple[str, ...], run: Callable[..., Any]
) -> None:
    check_one_line(run('-A', 'mine', 'worker', app=APP.format(broker=broker, backend=backend)), *wanted)


def test_a_broker_that_refuses_the_password_is_named_without_it(run: Callable[..., Any], rabbitmq_proc: Any) -> None:
    app = APP.format(broker=f'amqp://guest:the-secret@127.0.0.1:{rabbitmq_proc.port}//', backend=None)
    done = run('-A', 'mine', 'worker', app=app + 'app.conf.broker_connection_retry_on_startup = False\n')
    check_one_line(done, 'broker_url')
    assert 'the-secret' not in done.stderr + done.stdout


def test_a_broker_that_is_away_is_named_when_the_worker_may_not_retry(run: Callable[..., Any]) -> None:
    app = APP.format(broker='amqp://guest:the-secret@127.0.0.1:1//', backend=None)
    done = run('-A', 'mine', 'worker', app=app + 'app.conf.broker_connection_retry_on_startup = False\n')
    check_one_line(done, 'broker_url', '127.0.0.1:1')
    assert 'the-secret' not in done.stderr + done.stdout


def test_a_missing_extra_says_what_to_install(run: Callable[..., Any]) -> None:
    app = 'import sys\nsys.modules["redis"] = None\n' + APP.format(broker='memory://', backend='redis://localhost/0')
    check_one_line(run('-A', 'mine', 'worker', app=app), 'result_backend', "pip install 'canvaslite[redis]'")


def test_memcached_without_its_extra_says_what_to_install(run: Callable[..., Any]) -> None:
    backend = 'cache+memcached://localhost'
    app = 'import sys\nsys.modules["pymemcache"] = None\n' + APP.format(broker='memory://', backend=backend)
    check_one_line(run('-A', 'mine', 'worker', app=app), 'result_backend', "pip install 'canvaslite[memcache]'")


def test_a_configuration_that_cannot_be_imported(run: Callable[..., Any]) -> None:
    app = APP.format(broker='memory://', backend=None)
    check_one_line(run('-A', 'mine', '--config', 'no_such_settings', 'worker', app=app), 'no_such_settings', '--config')
    app += 'app.config_from_object("no_such_settings")\n'
    check_one_line(run('-A', 'mine', 'worker', app=app), 'no_such_settings', 'config_from_object')


def test_version_and_help(run: Callable[..., Any]) -> None:
    assert run('--version').stdout.startswith('canvaslite 0.')
    assert '--concurrency' in run('worker', '--help').stdout


def test_the_banner_masks_passwords(broker_url: str, start_worker: Callable[..., Any], redis_url: str) -> None:
    worker = start_worker('proj', '-c', '1', '-l', 'INFO', BROKER=broker_url, BACKEND=redis_url)
    assert 'guest:guest' not in worker.output
    assert 'transport:   amqp://guest:**@' in worker.output
    assert 'proj.add' in worker.output


def test_an_option_is_stronger_than_the_environment(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('CELERY_BROKER_URL', 'memory://')
    app = APP.format(broker='memory://', backend=None)
    check_one_line(run('-A', 'mine', '-b', 'nothing://localhost', 'worker', app=app), 'broker_url', 'nothing')
