"""Runs test files, each in a pytest process of its own: a crash, a hang or a failed import costs one file at most."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: Plugins that Celery's tests use where they are there.
PLUGINS = ('pytest_timeout', 'pytest_click', 'pytest_order', 'pytest_rerunfailures')
#: Seconds without a sign of life after which a file is taken for hung.
SILENCE = 120
SILENCE_INTEGRATION = 400
#: How often a file is taken up again after the test that crashed or hung.
RESUMED = 5


@dataclass
class Outcome:
    """What became of a test file."""

    #: By test: passed, failed, skipped or xfailed, and why.
    tests: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: What kept the whole file from running as it should.
    trouble: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def names(self, *outcomes: str) -> list[str]:
        return [name for name, (outcome, _) in self.tests.items() if outcome in outcomes]


@dataclass
class Setting:
    """How tests are run: on what, where they lie, against which servers."""

    tree: Path
    on: str = 'canvaslite'
    broker: str | None = None
    backend: str | None = None
    #: Which of a file's tests are run, as pytest's ``-k`` has it.
    chosen: str = ''

    def environment(self) -> dict[str, str]:
        """The environment of a pytest process."""
        env = {name: value for name, value in os.environ.items()
               if not name.startswith(('PYTEST', 'CELERY_', 'DJANGO_', 'UPSTREAM_'))}
        site = [str(HERE / 'site')] if self.on == 'canvaslite' else []
        env.update(PYTHONPATH=os.pathsep.join([*site, str(ROOT)]), PYTHONHASHSEED='0', C_FORCE_ROOT='1',
                   WORKER_LOGLEVEL='INFO', PYTEST_DISABLE_PLUGIN_AUTOLOAD='1')
        if self.broker:
            env['TEST_BROKER'] = self.broker
        if self.backend:
            env['TEST_BACKEND'] = self.backend
            server = urlsplit(self.backend)
            if server.scheme == 'redis':  # where the tests count what ran
                env.update(REDIS_HOST=server.hostname or 'localhost', REDIS_PORT=str(server.port or 6379))
        return env


def run_file(setting: Setting, path: str) -> Outcome:
    """Run the tests of one file, on and on until each has ended."""
    outcome, started = Outcome(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(RESUMED + 1):
            if _run_on(setting, path, Path(scratch), outcome):
                break
        else:
            outcome.trouble.append(f'given up after {RESUMED} crashes')
    outcome.seconds = time.monotonic() - started
    return outcome


def _run_on(setting: Setting, path: str, scratch: Path, outcome: Outcome) -> bool:
    """Run those tests of a file that have not ended yet; whether there is nothing left to run."""
    events, log = scratch / 'events', scratch / 'log'
    events.write_text('')
    env = {**setting.environment(), 'UPSTREAM_EVENTS': str(events), 'UPSTREAM_DONE': json.dumps([*outcome.tests]),
           'HOME': str(scratch), 'TMPDIR': str(scratch)}
    ended_itself = _await_pytest(_command(setting, path), setting.tree, env, events, log,
                                 SILENCE_INTEGRATION if 'integration' in path else SILENCE)
    running, finished, collected = None, False, []
    for event, *values in map(json.loads, events.read_text().splitlines()):
        if event == 'collected':
            collected = values[0]
        elif event == 'uncollected':
            outcome.trouble.append(values[0])
        elif event == 'begun':
            running = values[0]
        elif event == 'ended':
            running, outcome.tests[values[0]] = None, (values[1], values[2])
        elif event == 'finished':
            finished = True
            if setting.on == 'canvaslite' and (values[0] != 'canvaslite' or values[1]):
                outcome.trouble.append(f'the real Celery was loaded: {values[1][:3] or values[0]}')
    if finished:
        return True
    if running is None:
        tail = log.read_text(errors='replace').strip().splitlines()[-1:]
        outcome.trouble.append(f'pytest ended early: {"".join(tail)[:200]}')
        return True
    outcome.tests[running] = ('failed', 'the process died' if ended_itself else 'hung')
    return not set(collected) - outcome.tests.keys()


def _command(setting: Setting, path: str) -> list[str]:
    plugins = [name for name in PLUGINS if find_spec(name)]
    if path.startswith('t/integration'):
        plugins.append(f'{setting.on}.contrib.pytest')
    return [sys.executable, '-m', 'pytest', path, '-q', '-k', setting.chosen, '--tb=short', '-c', 'pyproject.toml',
            '--rootdir', '.',
            *(part for plugin in ('no:cacheprovider', *plugins, 'compat.upstream.recorder') for part in ('-p', plugin))]


def _await_pytest(command: list[str], folder: Path, env: Mapping[str, str], events: Path, log: Path,
                  silence: float) -> bool:
    """Run pytest; whether it ended by itself. Its whole process group is gone afterwards."""
    with log.open('wb') as output:
        process = subprocess.Popen(command, cwd=folder, env=dict(env), stdout=output, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, start_new_session=True)
        begun = time.time()
        try:
            while True:
                try:
                    process.wait(1)
                    return True
                except subprocess.TimeoutExpired:
                    if time.time() - max(begun, events.stat().st_mtime) > silence:
                        return False
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
