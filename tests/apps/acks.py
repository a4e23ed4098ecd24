"""An app whose late tasks end in every way; each notes its runs in a file of its name in the folder ``RUNS``."""

from __future__ import annotations

import os
import time
from typing import Any

from canvaslite import Celery
from canvaslite.exceptions import Reject

app = Celery('acks', broker=os.environ['BROKER'], backend=os.environ['BACKEND'])
app.conf.update(
    task_acks_late=True, task_default_queue='acks',
    task_queues={'acks': {'queue_arguments': {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead'}}})


@app.task(bind=True, max_retries=2, default_retry_delay=0)
def end(self: Any, name: str, how: str, until: int = 100) -> int:
    """End like that before the `until`-th run, then return how many there were."""
    with open(f'{os.environ["RUNS"]}/{name}', 'a') as file:
        file.write('.')
        runs = file.tell()
    if runs < until:
        if how == 'fail':
            raise ValueError(name)
        if how == 'hang':
            time.sleep(30)
        if how == 'die':
            os._exit(70)
        if how.startswith('reject'):
            raise Reject(name, requeue=how == 'reject and requeue')
    return runs


#: The same with other options, by name.
OPTIONS: dict[str, dict[str, Any]] = {
    'fail_unacknowledged': {'acks_on_failure': False},
    'fail_unacknowledged_old': {'acks_on_failure_or_timeout': False},
    'fail_acknowledged': {'acks_on_failure_or_timeout': False, 'acks_on_failure': True},
    'hang_unacknowledged': {'acks_on_timeout': False, 'time_limit': 0.5},
    'hang_acknowledged': {'acks_on_failure': False, 'time_limit': 0.5},
    'hang_early': {'acks_on_timeout': False, 'time_limit': 0.5, 'acks_late': False},
    'hang_softly': {'acks_on_timeout': False, 'soft_time_limit': 0.5},
    'die_rejected': {'reject_on_worker_lost': True},
    'die_retried': {'retry_on_worker_lost': True},
    'die_early': {'reject_on_worker_lost': True, 'acks_late': False},
    'die_alone': {},
    'reject_requeued': {},
    'reject_early': {'acks_late': False},
    'reject_dropped': {},
}
for _name, _options in OPTIONS.items():
    app.task(bind=True, name=f'acks.{_name}', max_retries=2, default_retry_delay=0, **_options)(end.run.__func__)
