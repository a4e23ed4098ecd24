"""The app of the integration tests; which package and which servers, the environment says."""

import contextlib
import importlib
import json
import os
import signal
import time

package = importlib.import_module(os.environ.get('CANVAS_PACKAGE', 'canvaslite'))
app = package.Celery('proj', broker=os.environ['BROKER'], backend=os.environ.get('BACKEND'))
app.conf.update(
    task_default_queue=os.environ.get('QUEUE', 'proj'),
    task_default_queue_type=os.environ.get('QUEUE_TYPE', 'classic'),
    task_default_exchange_type=os.environ.get('EXCHANGE_TYPE', 'direct'),
    broker_native_delayed_delivery_queue_type=os.environ.get('DELAY_TYPE', 'quorum'),
    broker_heartbeat=int(os.environ.get('HEARTBEAT', '120')),
    worker_eta_task_limit=int(os.environ['ETA_LIMIT']) if 'ETA_LIMIT' in os.environ else None,
    worker_eta_hold_time=float(os.environ.get('HOLD', '30')),
    broker_connection_retry_on_startup=True,
    task_acks_late=os.environ.get('ACKS_LATE') == '1',
    worker_prefetch_multiplier=int(os.environ.get('PREFETCH', '4')),
    broker_transport_options={'confirm_publish': True} if os.environ.get('CONFIRM') == '1' else json.loads(
        os.environ.get('TRANSPORT_OPTIONS', '{}')),
    result_expires=int(os.environ.get('EXPIRES', '86400')),
    task_ignore_result=os.environ.get('IGNORE') == '1',
    result_chord_join=os.environ.get('CHORD_JOIN', 'native'),
    worker_pool_start_method=os.environ.get('START_METHOD', 'fork'),
    worker_pool_restarts=os.environ.get('POOL_RESTARTS') == '1',
    task_reject_on_worker_lost=os.environ.get('REJECT_LOST') == '1',
    worker_enable_prefetch_count_reduction=os.environ.get('REDUCE', '1') == '1',
    worker_disable_prefetch=os.environ.get('DISABLE_PREFETCH') == '1',
    worker_pool_putlocks=os.environ.get('PUTLOCKS', '1') == '1',
    worker_cancel_long_running_tasks_on_connection_loss=os.environ.get('CANCEL') == '1',
    worker_lost_wait=float(os.environ.get('LOST_WAIT', '10')),
    worker_soft_shutdown_timeout=float(os.environ.get('SOFT_SHUTDOWN', '0')),
)
if 'DEAD_LETTERS' in os.environ:
    # Where the queue of that name gets what is rejected.
    app.conf.task_queues = [importlib.import_module('kombu').Queue(app.conf.task_default_queue, queue_arguments={
        'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': os.environ['DEAD_LETTERS']})]
if 'LAST_PATIENCE' in os.environ:
    importlib.import_module('canvaslite.execution.keeping').LAST_PATIENCE = float(os.environ['LAST_PATIENCE'])


@app.task
def add(x, y):
    return x + y


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
def spin(seconds):
    """Keep a CPU busy."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return seconds


@app.task
def record(path, value):
    """Append `value` to the file at `path`, to count runs."""
    with open(path, 'a') as file:
        file.write(f'{value}\n')
    return value


@app.task
def stop_worker():
    """Ask the worker that runs this for a warm shutdown."""
    os.kill(os.getppid(), signal.SIGTERM)


@app.task(bind=True, max_retries=3, default_retry_delay=0)
def succeed_after(self, failures, countdown=0):
    if self.request.retries < failures:
        raise self.retry(countdown=countdown)
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


class Slow:
    """A value that takes `seconds` to become JSON."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __json__(self):
        time.sleep(self.seconds)
        return self.seconds


@app.task
def send_slowly(seconds):
    try:
        add.delay(1, Slow(seconds))
    except package.exceptions.SoftTimeLimitExceeded:
        return 'interrupted'


@app.task
def stay(seconds):
    """Take no notice of being told to end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(BaseException):
            time.sleep(until - time.monotonic())


@app.task(ignore_result=True)
def keep_quiet(x):
    return x


@app.task
def note(value, path):
    return record.run(path, value)


@app.task(bind=True)
def replace_by(self, sig):
    raise self.replace(app.signature(sig))


@app.task(bind=True)
def bring_along(self, x, other):
    """Add a task that gives `other` to the chord."""
    self.add_to_chord(identity.s(other))
    return x


@app.task
def note_failure(request, exc, traceback, path):
    record.run(path, f'{type(exc).__name__} {request.id}')


@app.task
def await_file(path, value):
    while not os.path.exists(path):
        time.sleep(0.02)
    return value


def happens_first(path):
    """Whether nobody has asked this of `path` before."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@app.task(acks_late=True, reject_on_worker_lost=True)
def die_once(path, value):
    if happens_first(path):
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def die_sending(sender=None, **_):
    """Die, the first time that a task of the name in DIE_SENDING is sent: this process, or with DIE_ALL the worker."""
    if sender == f'proj.{os.environ["DIE_SENDING"]}' and happens_first(os.environ['DIE_PATH']):
        target = -os.getpgid(0) if 'DIE_ALL' in os.environ else os.getpid()
        os.kill(target, signal.SIGKILL)


def die_ending(sender=None, **_):
    """Die with the worker, the first time that a task of the name in DIE_ENDING has succeeded and its result is out."""
    if sender.name == f'proj.{os.environ["DIE_ENDING"]}' and happens_first(os.environ['DIE_PATH']):
        os.kill(-os.getpgid(0), signal.SIGKILL)


if 'DIE_ENDING' in os.environ:
    importlib.import_module(f'{package.__name__}.signals').task_success.connect(die_ending)
if 'DIE_SENDING' in os.environ:
    importlib.import_module(f'{package.__name__}.signals').before_task_publish.connect(die_sending)


@app.task
def identity(x):
    return x
