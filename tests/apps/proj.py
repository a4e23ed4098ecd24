"""The app of the integration tests; which package and which servers, the environment says."""

import importlib
import os
import time

package = importlib.import_module(os.environ.get('CANVAS_PACKAGE', 'canvaslite'))
app = package.Celery('proj', broker=os.environ['BROKER'], backend=os.environ.get('BACKEND'))
app.conf.update(
    task_default_queue=os.environ.get('QUEUE', 'proj'),
    broker_connection_retry_on_startup=True,
    task_acks_late=os.environ.get('ACKS_LATE') == '1',
    worker_prefetch_multiplier=int(os.environ.get('PREFETCH', '4')),
    broker_transport_options={'confirm_publish': True} if os.environ.get('CONFIRM') == '1' else {},
    task_ignore_result=os.environ.get('IGNORE') == '1',
)


@app.task
def add(x, y):
    return x + y


@app.task
def identity(x):
    return x


@app.task
def collect(values):
    return list(values)


@app.task
def total(values):
    return sum(values)


@app.task
def constant():
    return 'constant'


@app.task
def fail(message='wrong'):
    raise ValueError(message)


@app.task
def sleep(seconds):
    time.sleep(seconds)
    return seconds


@app.task
def record(path, value):
    """Append `value` to the file at `path`, to count runs."""
    with open(path, 'a') as file:
        file.write(f'{value}\n')
    return value


@app.task(bind=True, max_retries=3, default_retry_delay=0)
def succeed_after(self, failures):
    if self.request.retries < failures:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(bind=True)
def describe_request(self):
    request = self.request
    return {name: getattr(request, name) for name in (
        'id', 'root_id', 'parent_id', 'group', 'retries', 'reply_to', 'correlation_id', 'hostname', 'delivery_info')}


@app.task
def crash():
    os._exit(70)


@app.task
def unserializable():
    return object()


@app.task(bind=True)
def span(self, path, name, seconds=0.0, then='return'):
    """Note in the file at `path` when this starts and ends; then return `name`, or end in another way."""
    def note(change):
        with open(path, 'a') as file:
            file.write(f'{name} {change} {time.time()}\n')

    note(1)
    try:
        time.sleep(seconds)
    finally:
        note(-1)
    if then == 'fail':
        raise ValueError(name)
    if then == 'ignore':
        raise package.exceptions.Ignore()
    if then == 'reject':
        raise package.exceptions.Reject('no', requeue=False)
    if then == 'retry' and self.request.retries < 2:
        raise self.retry(countdown=0)
    if then == 'replace':
        return self.replace(package.chain(self.si(path, name, seconds), self.si(path, name, seconds)))
    if then == 'die':
        os._exit(70)
    return name
