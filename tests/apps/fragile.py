"""Tasks and result stores that break where Celery is known to lose chords; which servers, the environment says."""

import importlib
import os
import signal
import time

from canvaslite import Celery, signals
from canvaslite.backends.base import Backend

STORES = {
    'redis': 'canvaslite.backends.redis:RedisBackend', 'db+sqlite': 'canvaslite.backends.database:DatabaseBackend',
    'db+postgresql': 'canvaslite.backends.database:DatabaseBackend',
    'rediscluster': 'canvaslite.backends.redis:ClusterBackend',
}


def happens_first(path):
    """Whether nobody has asked this of `path` before."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def die():
    if os.environ.get('DIES') == 'worker':
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def fragile(url):
    """A store of a user's own class, which keeps a result and counts it in two steps; between them a process dies, the
    first time."""
    module, _, name = STORES[url.partition(':')[0]].partition(':')
    base = getattr(importlib.import_module(module), name)

    class Fragile(base):
        def __init__(self, app, **kwargs):
            super().__init__(app=app, url=url.removeprefix('db+'))

        def keep_and_count(self, *args):
            Backend.keep_and_count(self, *args)

        def on_chord_part_return(self, request, state, result, **kwargs):
            if result == 'last' and happens_first(os.environ['DIE_COUNTING']):
                die()
            return super().on_chord_part_return(request, state, result, **kwargs)

    return Fragile


app = Celery('fragile', broker=os.environ['BROKER'],
             backend=fragile(os.environ['BACKEND']) if 'DIE_COUNTING' in os.environ else os.environ['BACKEND'])
app.conf.update(
    task_default_queue='fragile', task_acks_late=os.environ.get('ACKS_LATE') == '1',
    task_reject_on_worker_lost=os.environ.get('ACKS_LATE') == '1',
    worker_deduplicate_successful_tasks=os.environ.get('DEDUPLICATE') == '1',
    result_chord_deadline=float(os.environ.get('DEADLINE') or 7 * 86400),
    result_expires=float(os.environ.get('EXPIRES') or 86400),
    result_backend_transport_options={'master_name': 'mymaster'} if 'sentinel' in os.environ['BACKEND'] else {},
    broker_connection_retry_on_startup=True,
)


@signals.before_task_publish.connect
def on_publish(sender=None, **_):
    if 'DIE_SENDING' in os.environ and sender == 'fragile.record' and happens_first(os.environ['DIE_SENDING']):
        die()


def append(path, *values):
    with open(path, 'a') as file:
        file.write(' '.join(map(str, values)) + '\n')


@signals.task_failure.connect
def on_failure(sender=None, task_id=None, exception=None, **_):
    if 'FAILURES' in os.environ:
        append(os.environ['FAILURES'], task_id, type(exception).__name__)


@app.task
def identity(x):
    return x


@app.task(ignore_result=True)
def quiet(x):
    return x


@app.task(ignore_result=True)
def fail_quietly(x):
    raise ValueError(x)


@app.task
def unserializable():
    return object()


@app.task
def fail_with(text):
    raise ValueError(text)


@app.task
def collect(values):
    return list(values)


@app.task
def now(x):
    """A value that is another one at each run."""
    return [x, time.time()]


@app.task
def sleep(seconds):
    time.sleep(seconds)
    return seconds


@app.task
def await_file(path, value):
    while not os.path.exists(path):
        time.sleep(0.02)
    return value


@app.task
def crash():
    os._exit(70)


@app.task(acks_late=True, acks_on_timeout=False, time_limit=1)
def sleep_at_first(path, value):
    """Give `value`; at the first run, not within the time limit."""
    append(path, 'begun')
    with open(path) as file:
        if len(file.readlines()) == 1:
            time.sleep(60)
    return value


@app.task(bind=True)
def bring_along(self, x, other):
    """Add a task that gives `other` to the chord."""
    self.add_to_chord(identity.s(other))
    return x


@app.task
def note(request, exc, traceback, path, seconds=0.0):
    """An errback that takes a while."""
    append(path, os.getpid(), type(exc).__name__)
    time.sleep(seconds)


@app.task
def record(value, path):
    append(path, value)
    return value
