"""The tasks of the benchmark for a Celery-compatible package, named by $BENCH_PACKAGE."""

import importlib
import os

package = importlib.import_module(os.environ['BENCH_PACKAGE'])
app = package.Celery('celery_work', broker=os.environ['BENCH_BROKER'], backend=os.environ['BENCH_BACKEND'])
app.conf.update(
    task_default_queue=os.environ['BENCH_QUEUE'],
    worker_prefetch_multiplier=16,
    task_acks_late=os.environ.get('BENCH_LATE') == '1',
    broker_connection_retry_on_startup=True,
)


@app.task(name='bench.empty', ignore_result=True)
def empty():
    return None


@app.task(name='bench.add')
def add(x, y):
    return x + y


@app.task(name='bench.increment')
def increment(x):
    return x + 1


@app.task(name='bench.total')
def total(values):
    return sum(values)


@app.task(name='bench.largest')
def largest(values):
    return max(values)
