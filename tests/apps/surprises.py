"""Tasks for what surprises in Celery; which servers, and whether canvases are strict, the environment says."""

import os

from canvaslite import Celery, Signature, chain, group

app = Celery('surprises', broker=os.environ['BROKER'], backend=os.environ['BACKEND'])
app.conf.update(
    task_default_queue=os.environ.get('QUEUE', 'surprises'),
    canvas_strict=os.environ.get('STRICT') == '1',
    task_queue_max_priority=10,
)


@app.task
def identity(x):
    return x


@app.task
def add(x, y):
    return x + y


@app.task
def collect(values):
    return list(values)


@app.task
def name_it(*args, name):
    """Say who was called with what."""
    return [name, *args]


@app.task
def fail(*args):
    raise ValueError(f'wrong: {args}')


def append(path, *values):
    with open(path, 'a') as file:
        file.write(' '.join(map(str, values)) + '\n')


@app.task
def note(value, path):
    """Note a value, or as an errback the id of what failed."""
    append(path, 'note', value)


@app.task
def note_failure(request, exc, traceback, path):
    append(path, 'failure', request.id, type(exc).__name__, exc)


@app.task
def note_with_default(task_id, path='', suffix=None):
    append(path or os.environ['NOTES'], 'default', task_id, suffix)


@app.task(bind=True)
def note_bound(self, request, exc, traceback):
    append(os.environ['NOTES'], 'bound', request.id, type(exc).__name__, self.name.rpartition('.')[2])


@app.task
def broken_errback(request, exc, traceback):
    raise RuntimeError('errback is broken')


@app.task(throws=(KeyError,))
def throw():
    raise KeyError('expected')


@app.task(bind=True)
def end_with(self, how):
    from canvaslite.exceptions import Ignore, Reject
    raise {'ignore': Ignore, 'reject': Reject}[how]()


@app.task(bind=True)
def retry_once(self, x):
    if self.request.retries < 1:
        raise self.retry(exc=ValueError('not yet'), countdown=0)
    return x * 10


@app.task(autoretry_for=(ValueError,), retry_kwargs={'countdown': 0, 'max_retries': 1})
def retry_in_vain(x):
    raise ValueError(f'no {x}')


@app.task(bind=True)
def priority(self, *args):
    return self.request.delivery_info['priority']


@app.task
def start_two_long_chains(length):
    group(chain([identity.si(0), *(add.s(1) for _ in range(length - 1))]) for _ in range(2)).apply_async()
    return 'started'


@app.task
def wait_inside():
    return identity.delay(1).get()


@app.task(bind=True)
def become(self, sig: Signature):
    return self.replace(sig)


@app.task
def type_of(sig: Signature, plain):
    return [type(sig).__name__, type(plain).__name__, sig.apply().result]
