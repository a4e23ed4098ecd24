"""An app whose workers die at a given step on the wire.

``MORTAL`` is a folder. Its file ``armed`` says ``n before|after child|worker``: at the n-th step since it was written
the process that takes the step, or the whole worker, kills itself, before or after it. Steps are counted in ``steps``,
across processes: what is sent to the result store (a command, a transaction) and written to the broker.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from billiard import current_process

from canvaslite import Celery
from canvaslite.transport.amqp import Connection

FOLDER = Path(os.environ['MORTAL'])

app = Celery('mortal', broker=os.environ['BROKER'], backend=os.environ['BACKEND'])
app.conf.update(
    task_default_queue=os.environ.get('QUEUE') or 'celery',
    task_acks_late=os.environ.get('ACKS_LATE') == '1', task_reject_on_worker_lost=os.environ.get('ACKS_LATE') == '1',
    worker_prefetch_multiplier=4, result_chord_deadline=float(os.environ.get('DEADLINE') or 7 * 86400))


def take_step(when: str) -> None:
    """Count a step (``before`` it), and die at the one that was asked for."""
    try:
        armed = (FOLDER / 'armed').read_text().split()
    except FileNotFoundError:
        return
    if armed[2:] == ['child'] and 'PoolWorker' not in current_process().name:
        return
    with open(FOLDER / 'steps', 'a+') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        steps = len(file.read())
        if when == 'before':
            file.write('.')
            file.flush()
            steps += 1
        if not armed or armed[:2] != [str(steps), when]:
            return
        (FOLDER / 'armed').unlink()
        (FOLDER / 'killed').write_text(str(time.time()))
    if armed[2] == 'child':
        os.kill(os.getpid(), signal.SIGKILL)
    os.killpg(0, signal.SIGKILL)
    time.sleep(60)


def in_steps(function: Callable[..., Any]) -> Callable[..., Any]:
    def taken(*args: Any, **kwargs: Any) -> Any:
        take_step('before')
        done = function(*args, **kwargs)
        take_step('after')
        return done

    return taken


def make_mortal() -> None:
    """In the worker: wrap the lowest points at which something leaves the process."""
    Connection.send_frames = in_steps(Connection.send_frames)  # type: ignore[method-assign]
    backend = app.backend
    if hasattr(backend, 'link'):
        backend.link.call = in_steps(backend.link.call)
    if hasattr(backend, 'database'):
        backend.database._transact_once = in_steps(backend.database._transact_once)


if os.environ.get('MORTAL_WORKER'):
    make_mortal()


def note(line: str) -> None:
    with open(FOLDER / 'runs', 'a') as file:
        file.write(f'{line} {time.time()}\n')


@app.task
def part(x: Any) -> Any:
    return x


@app.task
def refuse(x: Any) -> None:
    raise ValueError(x)


@app.task(bind=True)
def body(self: Any, values: Any) -> Any:
    note(f'begin {self.request.id}')
    note(f'end {self.request.id}')
    return values


@app.task
def total(values: Any) -> Any:
    return sum(values)


@app.task
def errback(request: Any, exc: Any, traceback: Any) -> None:
    note(f'errback {request.id}')
