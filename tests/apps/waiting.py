"""Tasks that are coroutines; which servers, the environment says."""

import asyncio
import os

from canvaslite import Celery

app = Celery('waiting', broker=os.environ['BROKER'], backend=os.environ['BACKEND'])
app.conf.update(task_default_queue='waiting', broker_connection_retry_on_startup=True,
                worker_pool_start_method=os.environ.get('START_METHOD', 'fork'))


@app.task
async def add(x, y):
    await asyncio.sleep(0.01)
    return x + y


@app.task(bind=True, max_retries=3, default_retry_delay=0)
async def retry_twice(self):
    retries = self.request.retries
    await asyncio.sleep(0)
    assert app.current_task is self and self.request.retries == retries
    if retries < 2:
        raise self.retry()
    return retries


@app.task(bind=True, autoretry_for=(OSError,), retry_kwargs={'countdown': 0})
async def retry_by_itself(self):
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise OSError('not yet')
    return self.request.retries


@app.task
async def fail():
    await asyncio.sleep(0)
    raise ValueError('wrong')


@app.task
async def note_failure(request, exc, traceback, path):
    await asyncio.sleep(0)
    with open(path, 'a') as file:
        file.write(f'{exc}')


@app.task
async def take_long(path, seconds):
    try:
        await asyncio.sleep(seconds)
    finally:
        with open(path, 'a') as file:
            file.write('tidied up')


class Double(app.Task):
    name = 'waiting.double'

    async def run(self, x):
        return await add(x, x)


double = app.register_task(Double())
