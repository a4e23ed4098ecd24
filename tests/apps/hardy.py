"""An app whose tasks are hard on their worker; those that count note each run as a line of the file ``NOTES``."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import time
from typing import Any

package = importlib.import_module(os.environ.get('CANVAS_PACKAGE', 'canvaslite'))
app = package.Celery('hardy', broker=os.environ['BROKER'], backend=os.environ.get('BACKEND'))
app.conf.update(broker_connection_retry_on_startup=True, **json.loads(os.environ.get('CONF') or '{}'))

_notes = os.open(os.environ['NOTES'], os.O_WRONLY | os.O_APPEND | os.O_CREAT) if 'NOTES' in os.environ else -1
_leaked: list[bytes] = []


@app.task
def nap(number: int, seconds: float) -> int:
    time.sleep(seconds)
    os.write(_notes, f'{number}\n'.encode())
    return number


@app.task(acks_late=True, reject_on_worker_lost=True)
def late_nap(number: int, seconds: float) -> int:
    time.sleep(seconds)
    os.write(_notes, f'{number}\n'.encode())
    return number


@app.task
def climb(value: int, number: int) -> int:
    """A step: one more than the value."""
    os.write(_notes, f'{number}\n'.encode())
    return value + 1


@app.task
def total(values: list[int], number: int) -> int:
    os.write(_notes, f'{number}\n'.encode())
    return sum(values)


@app.task(bind=True)
def insist(self: Any, number: int, times: int) -> int:
    """Be retried so many times before it succeeds."""
    if self.request.retries < times:
        raise self.retry(countdown=0.2, max_retries=times)
    os.write(_notes, f'{number}\n'.encode())
    return number


@app.task
def refuse(number: int) -> None:
    raise ValueError(number)


@app.task(ignore_result=True)
def nothing() -> None:
    """Do nothing."""


@app.task(acks_late=True, reject_on_worker_lost=True)
def tell_pid(number: int, seconds: float) -> int:
    """Note in which process this runs, before it takes its time."""
    os.write(_notes, f'{os.getpid()}\n'.encode())
    time.sleep(seconds)
    return number


@app.task
def meet(count: int, name: int) -> int:
    """Return when so many of these run at once."""
    path = f'{os.environ["NOTES"]}-{name}'
    with open(path, 'a') as file:
        file.write('.')
    while os.path.getsize(path) < count:
        time.sleep(0.01)
    return os.getpid()


@app.task
def pid() -> int:
    return os.getpid()


@app.task
def hold_on(seconds: int) -> None:
    """Be in C code that nothing but KILL ends."""
    ctypes.PyDLL(None).sleep(seconds)


@app.task
def leak(mebibytes: int) -> int:
    _leaked.append(os.urandom(1 << 20) * mebibytes)
    return os.getpid()


@app.task(acks_late=True, reject_on_worker_lost=True)
def poison(number: int, whom: str = 'child') -> None:
    os.write(_notes, f'{number}\n'.encode())
    os.kill(os.getpid() if whom == 'child' else os.getppid(), signal.SIGKILL)
    time.sleep(60)


@app.task(bind=True, acks_late=True)
def come_back(self: Any, times: int) -> int:
    """Go back to the queue as often."""
    with open(os.environ['NOTES'] + '-back', 'a+') as file:
        file.write('.')
        if file.tell() <= times:
            raise package.exceptions.Reject('not yet', requeue=True)
    return times


@app.task
def collect(values: list[object]) -> list[object]:
    return values
