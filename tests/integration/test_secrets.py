"""What a worker prints, logs and answers has no secrets in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from canvaslite import Celery

SECRET = 'hunter2-5ecr3t'
APP = f'''
from proj import app
import canvaslite.utils.log

URL = 'amqp://somebody:{SECRET}@broker/vhost'
app.conf.update(
    redis_password='{SECRET}', result_backend_transport_options={{'sentinel_kwargs': {{'password': '{SECRET}'}}}},
    broker_transport_options={{'client_properties': {{'token': '{SECRET}'}}}}, database_url='db+' + URL,
    cache_backend=URL,
    beat_schedule={{'x': {{'task': 'x', 'args': [URL, {{'api_key': '{SECRET}'}}], 'schedule': 1}}}},
    task_routes=[{{'x': {{'queue': 'x', 'secret': '{SECRET}'}}}}])


@app.task
def tell():
    print('connecting to ' + URL)
    canvaslite.utils.log.get_task_logger('x').warning('options: %r', {{'password': '{SECRET}'}})
    raise ValueError('no ' + URL + ' and no host=x password={SECRET}')
'''


def test_a_worker_tells_no_secret(
    tmp_path: Path, servers: dict[str, str], start_worker: Callable[..., Any], close_later: Callable[[Any], Any]
) -> None:
    (tmp_path / 'secretive.py').write_text(APP)
    worker = start_worker('secretive', '-c', '1', '-l', 'DEBUG', **servers)
    app = close_later(Celery(broker=servers['BROKER'], backend=servers['BACKEND'], set_as_current=False,
                             task_default_queue='proj'))
    with pytest.raises(ValueError, match='host=x'):
        app.send_task('secretive.tell').get(timeout=60)
    worker.await_line('ValueError: no')
    worker.await_line(r"options: \{'password': '\*+'\}")
    worker.await_line(r'connecting to amqp://somebody:\*+@broker')
    inspect = app.control.inspect(timeout=10, limit=1)
    for answer in (inspect.conf(with_defaults=True), inspect.stats(), inspect.report()):
        assert answer and SECRET not in str(answer)
    assert worker.stop() == 0
    assert SECRET not in worker.output
