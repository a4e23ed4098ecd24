"""`Site`: where a worker of either package runs the tasks of `tests/apps/hardy.py`, and what it made of them."""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
import tempfile
import uuid
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.workers import WorkerProcess


class Site:
    """A queue of its own, its caller and its worker, whose tasks' lines are in `notes`."""

    def __init__(self, broker: str, backend: str | None, package: str = 'canvaslite', **conf: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix='site-'))
        self.queue = f'site-{uuid.uuid4().hex[:8]}'
        self.node = f'{self.queue}@host'
        self.package = package
        self.notes = self.folder / 'notes'
        self.notes.touch()
        self.env = {'BROKER': broker, 'QUEUE': self.queue, 'NOTES': str(self.notes), 'CANVAS_PACKAGE': package}
        if backend is not None:
            self.env['BACKEND'] = backend
        self.app: Any = importlib.import_module(package).Celery(
            self.queue, broker=broker, backend=backend, set_as_current=False)
        self.configure(task_default_queue=self.queue, **conf)
        self.workers: list[WorkerProcess] = []
        self.connection = self.app.connection_for_write()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        for worker in self.workers:
            worker.kill()
        self.connection.collect()  # the broker may have been away meanwhile
        with self.app.connection_for_write() as connection:
            connection.default_channel.queue_delete(self.queue)
        self.app.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def configure(self, **conf: Any) -> None:
        """Settings of the caller and of workers that start from now on."""
        self.app.conf.update(conf)
        self.env['CONF'] = json.dumps({**json.loads(self.env.get('CONF', '{}')), **conf})

    def start(self, *options: str, ready: bool = True) -> WorkerProcess:
        """Another worker, with two processes unless the options say otherwise."""
        worker = WorkerProcess(
            [sys.executable, '-m', self.package, '-A', 'tests.apps.hardy', 'worker', '-c', '2', '-l', 'INFO',
             '-n', self.node, *options], self.env, self.folder)
        self.workers.append(worker)
        if ready:
            worker.await_line(r'\bready\.$')
        return worker

    def signature(self, name: str, *args: Any) -> Any:
        """A signature of the task of that name."""
        return self.app.signature(f'tests.apps.hardy.{name}', args=args)

    def task(self, name: str, *args: Any, **options: Any) -> Any:
        """The result of a call of it."""
        return self.signature(name, *args).apply_async(**options)

    def runs(self) -> Counter[int]:
        """How often each number was noted."""
        return Counter(map(int, self.notes.read_text().split()))

    def waiting(self) -> int:
        """How many messages wait in the queue, which is made if it is not there."""
        return int(self.app.amqp.queues[self.queue](self.connection.default_channel).queue_declare().message_count)


def arguments(doc: str, backend: bool = True) -> argparse.ArgumentParser:
    """The options that all faults have; `doc` is the module's."""
    parser = argparse.ArgumentParser(description=doc.split('\n\n')[0])
    parser.add_argument('--broker', required=True)
    if backend:
        parser.add_argument('--backend', required=True)
    parser.add_argument('--package', default='canvaslite', help='or celery')
    return parser
