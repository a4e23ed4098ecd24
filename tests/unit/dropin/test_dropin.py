"""The drop-in as a program sees it: each test runs one in a process of its own, where ``celery`` is canvaslite.

Real Celery is installed beside it, and must not be seen.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest

from canvaslite.dropin.homes import HOMES, RENAMED


def run(*arguments: str, folder: Path | None = None) -> str:
    """What the drop-in prints; fails where the program does."""
    done = subprocess.run([sys.executable, '-m', 'canvaslite.dropin', *arguments], capture_output=True, text=True,
                          cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def program(tmp_path: Path):
    """Runs source text as a script under the drop-in."""

    def run_text(text: str, *arguments: str) -> str:
        script = tmp_path / 'program.py'
        script.write_text(dedent(text))
        return run(str(script), *arguments)

    return run_text


def test_a_module_of_celery_is_our_module_of_that_role_under_both_names(program) -> None:
    assert program('''
        import celery, celery.canvas, celery.app.task, celery.app.routes, celery.exceptions
        import canvaslite, canvaslite.canvas, canvaslite.app.task, canvaslite.publish.routes, canvaslite.exceptions
        assert celery is canvaslite and celery.canvas is canvaslite.canvas
        assert celery.app.task is canvaslite.app.task and celery.app.routes is canvaslite.publish.routes
        assert celery.exceptions is canvaslite.exceptions
        assert canvaslite.canvas.__name__ == canvaslite.canvas.__spec__.name == 'canvaslite.canvas'
    ''') == ''


def test_an_unmodified_program_runs_a_canvas(program) -> None:
    assert program('''
        from celery import Celery, chain, chord, group, shared_task
        from celery.utils.log import get_task_logger
        app = Celery('proj', broker='memory://', backend='cache+memory://', task_always_eager=True)

        @shared_task
        def add(x, y):
            return x + y

        print(type(add).__module__, (group(add.s(1, 1), add.s(2, 2)) | add.s([0])).apply_async().get())
    ''').endswith('[2, 4, 0]')


def test_what_became_several_modules_is_seen_and_patched_as_one(program) -> None:
    assert program('''
        from unittest import mock
        import celery.app.base, celery.canvas, canvaslite.canvas.chains, canvaslite.canvas.signatures
        assert celery.app.base.Celery and celery.app.base.Services
        original = canvaslite.canvas.signatures.uuid
        with mock.patch('celery.canvas.maybe_signature') as patched, mock.patch('celery.canvas.uuid') as uuid:
            assert canvaslite.canvas.chains.maybe_signature is patched
            assert celery.canvas.maybe_signature is patched and canvaslite.canvas.signatures.uuid is uuid
        assert celery.canvas.maybe_signature is canvaslite.canvas.chains.maybe_signature is not patched
        assert canvaslite.canvas.signatures.uuid is celery.canvas.uuid is original
    ''') == ''


def test_names_that_celery_gives_to_others_are_found(program) -> None:
    assert program('''
        from celery import _state
        from celery.app import base
        from celery.utils import uuid
        from celery.utils.log import LoggingProxy
        from celery.worker import WorkController, state
        import celery
        app = celery.Celery('proj')
        assert _state.default_app is app and _state._get_current_app() is app and callable(uuid)
    ''') == ''


def test_a_module_that_is_not_here_is_never_taken_from_celery(program) -> None:
    assert program('''
        import importlib.util, sys
        try:
            import celery.backends.cassandra
        except ModuleNotFoundError as exc:
            print(exc)
    ''') == "No module named 'celery.backends.cassandra': there is no 'canvaslite.backends.cassandra'"


def test_the_hook_is_refused_after_celery_was_imported() -> None:
    source = 'import celery, canvaslite.dropin\ncanvaslite.dropin.install()'
    done = subprocess.run([sys.executable, '-c', source], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr.splitlines()[-1].startswith('RuntimeError: celery was imported before')


def test_a_program_sees_its_arguments_and_finds_modules_beside_it(program, tmp_path: Path) -> None:
    (tmp_path / 'beside.py').write_text('VALUE = 7\n')
    assert program('''
        import sys, beside
        print(__name__, sys.argv[1:], beside.VALUE)
    ''', '--flag', 'x') == "__main__ ['--flag', 'x'] 7"


def test_a_module_is_run_by_its_name(tmp_path: Path) -> None:
    (tmp_path / 'named.py').write_text('import celery, sys\nprint(celery.__name__, sys.argv[1:])\n')
    assert run('-m', 'named', 'x', folder=tmp_path) == "canvaslite ['x']"


def test_celerys_command_is_ours() -> None:
    assert run('-m', 'celery', '--version').startswith('canvaslite ')


def test_log_formats_and_what_a_worker_remembers_are_where_celery_has_them(program) -> None:
    assert program('''
        import logging
        import celery
        from celery import Celery
        from celery.contrib.testing.worker import start_worker
        from celery.utils.serialization import UnpickleableExceptionWrapper
        from celery.worker import state

        app = Celery('proj', broker='memory://', backend='cache+memory://', worker_hijack_root_logger=False)
        celery.app.trace.LOG_RECEIVED = 'got %(name)s with %(args)s %(kwargs)s'
        celery.app.trace.LOG_SUCCESS = 'did %(name)s with %(args)s: %(return_value)s'
        lines = []

        class Lines(logging.Handler):
            def emit(self, record):
                lines.append((record.name, record.getMessage()))
        logging.getLogger('celery').addHandler(Lines())

        @app.task(name='add')
        def add(x, y=0):
            return x + y

        with start_worker(app, loglevel='INFO'):
            result = add.delay(1, y=2)
            result.get(timeout=10)
        assert result.id in state.successful_requests
        for line in lines:
            if 'add' in line[1]:
                print(*line)
    ''') == "celery.worker.strategy got add with (1,) {'y': 2}\ncelery.app.trace did add with (1,): 3"


def test_the_command_runs_a_project_that_says_celery(tmp_path: Path) -> None:
    (tmp_path / 'project.py').write_text('import celery\nraise SystemExit(f"loaded by {celery.__name__}")\n')
    done = subprocess.run([sys.executable, '-m', 'canvaslite', '-A', 'project', 'worker'], capture_output=True,
                          text=True, cwd=tmp_path, timeout=120, check=False)
    assert 'loaded by canvaslite' in done.stderr


@pytest.mark.parametrize('name', sorted({module for homes in HOMES.values() for module in homes}))
def test_each_home_is_a_module(name: str) -> None:
    assert find_spec(f'canvaslite.{name}') is not None


@pytest.mark.parametrize('place', sorted({place for renamed in RENAMED.values() for place in renamed.values()}))
def test_each_renamed_name_is_there(place: str) -> None:
    module, _, name = place.rpartition(':')
    assert hasattr(import_module(f'canvaslite.{module}'), name)
