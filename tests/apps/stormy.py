"""The app of the storm; its tasks note what they do, and in which process, in the file ``NOTES``.

A line is ``what number pid time``. ``part`` and ``end``: a task's code has run to its end; ``kept``: a body's result is
stored, which is all that keeps it from running again.
"""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

package = importlib.import_module(os.environ.get('CANVAS_PACKAGE', 'canvaslite'))
app = package.Celery('stormy', broker=os.environ['BROKER'], backend=os.environ['BACKEND'])
app.conf.update(
    task_default_queue=os.environ['QUEUE'], task_acks_late=True, task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True)

#: One write of a short line to a file that is only appended to is atomic, and outlives the process.
_notes = os.open(os.environ['NOTES'], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(what: str, number: int) -> None:
    os.write(_notes, f'{what} {number} {os.getpid()} {time.time()}\n'.encode())


@app.task
def part(number: int, place: int, seconds: float) -> int:
    time.sleep(seconds)
    note('part', number)
    return number * 100 + place


class Body(package.Task):
    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        note('kept', args[1])


@app.task(base=Body)
def body(values: Any, number: int) -> Any:
    note('end', number)
    return values
