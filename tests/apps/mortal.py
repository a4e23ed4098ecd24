"""An app whose workers die at a given step on the wire.

``MORTAL`` is a folder. Its file ``armed`` says ``n before|after child|worker``: at the n-th step since it was written
the process that takes the step, or the whole worker, kills itself, before or after it. Steps are counted in ``steps``,
across processes: what is sent to the result store (a command, a transaction) and written to the broker. A text behind
it has only those be steps that are sent with it.
``celery-child`` and ``celery-worker`` are those of the worker whose ``CANVAS_PACKAGE`` is celery. With ``nobody`` it is
the step that waits, having made the file ``killed``, until there is one called ``answered``.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from billiard import current_process

from canvaslite.transport.amqp import Connection

PACKAGE = os.environ.get('CANVAS_PACKAGE', 'canvaslite')
FOLDER = Path(os.environ['MORTAL'])
#: Seconds in which the processes of a worker that is killed may still begin something.
LAST_BREATH = 0.2

app = importlib.import_module(PACKAGE).Celery('mortal', broker=os.environ['BROKER'], backend=os.environ['BACKEND'])
app.conf.update(
    task_default_queue=os.environ.get('QUEUE') or 'celery',
    task_acks_late=os.environ.get('ACKS_LATE') == '1', task_reject_on_worker_lost=os.environ.get('ACKS_LATE') == '1',
    worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True)
if PACKAGE == 'canvaslite':
    app.conf.result_chord_deadline = float(os.environ.get('DEADLINE') or 7 * 86400)


def take_step(when: str, sent: tuple[Any, ...]) -> None:
    """Count a step (``before`` it), by which that is `sent`, and die at the one that was asked for."""
    try:
        armed = (FOLDER / 'armed').read_text().split()
    except FileNotFoundError:
        return
    who = armed[2] if armed else ''
    if who.startswith('celery') != (PACKAGE == 'celery') or (
            who.endswith('child') and 'PoolWorker' not in current_process().name):
        return
    if armed[3:] and not any(armed[3].encode() in part for part in sent if isinstance(part, bytes)):
        return
    with open(FOLDER / 'steps', 'a+') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        steps = len(file.read())
        if when == 'before':
            file.write('.')
            file.flush()
            steps += 1
        if armed[:2] != [str(steps), when]:
            return
        try:
            (FOLDER / 'armed').unlink()
        except FileNotFoundError:
            return  # another process took the same step, or nobody waits for it any more
        # Its other processes go on for a moment; those that are started in its place take longer.
        unfinished = FOLDER / '.killed'
        unfinished.write_text(str(time.time() + (0 if who.endswith('child') else LAST_BREATH)))
        unfinished.rename(FOLDER / 'killed')
    if who == 'nobody':
        while not (FOLDER / 'answered').exists():
            time.sleep(0.005)
        return
    if who.endswith('child'):
        os.kill(os.getpid(), signal.SIGKILL)
    os.killpg(0, signal.SIGKILL)
    time.sleep(60)


def in_steps(function: Callable[..., Any]) -> Callable[..., Any]:
    def taken(*args: Any, **kwargs: Any) -> Any:
        take_step('before', args)
        done = function(*args, **kwargs)
        take_step('after', args)
        return done

    return taken


def make_mortal() -> None:
    """In the worker: wrap the lowest points at which something leaves the process."""
    if PACKAGE == 'celery':
        store = importlib.import_module('redis.connection').Connection
        store.send_packed_command = in_steps(store.send_packed_command)
        broker = importlib.import_module('amqp.transport').TCPTransport
        set_up = broker._setup_transport

        def set_up_mortal(self: Any) -> None:
            set_up(self)
            self._write = in_steps(self._write)

        broker._setup_transport = set_up_mortal
        return
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
def part(x: Any, seconds: float = 0.0) -> Any:
    time.sleep(seconds)
    return x


@app.task
def refuse(x: Any) -> None:
    raise ValueError(x)


@app.task(bind=True)
def body(self: Any, values: Any, seconds: float = 0.0, fails: bool = False) -> Any:
    note(f'begin {self.request.id}')
    time.sleep(seconds)
    if fails:
        raise ValueError(values)
    note(f'end {self.request.id}')
    return values


@app.task
def meet(number: int, name: str) -> bool:
    """Whether so many of these run at the same time, at some time within 10 s."""
    (FOLDER / f'{name}-{os.getpid()}').touch()
    until = time.monotonic() + 10
    while (met := len([*FOLDER.glob(f'{name}-*')])) < number and time.monotonic() < until:
        time.sleep(0.01)
    return met >= number


@app.task
def total(values: Any) -> Any:
    return sum(values)


@app.task
def errback(request: Any, exc: Any, traceback: Any) -> None:
    note(f'errback {request.id}')
