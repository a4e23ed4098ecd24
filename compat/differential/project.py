"""The app and the tasks of all scenarios, made with the package that the environment names.

Workers and the sending processes of both packages load it; ``SPY`` in the environment is the Redis database that
`spy` writes to.
"""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

from compat.differential.spy import Spy

PACKAGE = os.environ['CANVAS_PACKAGE']
package = importlib.import_module(PACKAGE)
canvas = importlib.import_module(f'{PACKAGE}.canvas')
exceptions = importlib.import_module(f'{PACKAGE}.exceptions')
signals = importlib.import_module(f'{PACKAGE}.signals')

SETTINGS = {
    'broker_url': os.environ['BROKER'], 'result_backend': os.environ['BACKEND'], 'task_default_queue': 'spied',
    'broker_connection_retry_on_startup': True, 'task_track_started': False,
    # What a task has published is at the broker when the task ends.
    'broker_transport_options': {'confirm_publish': True},
    'accept_content': ['json', 'pickle', 'yaml'], 'result_accept_content': ['json', 'pickle'],
    'worker_send_task_events': False, 'result_chord_retry_interval': 0.2,
}
app = package.Celery('compat.differential.project', set_as_current=True)
app.conf.update(SETTINGS)
#: An app whose results say more, for tasks that keep their results in its store.
extended = package.Celery('extended', set_as_current=False)
extended.conf.update({**SETTINGS, 'result_extended': True})

#: Before a retry, so that the run before has told all of itself.
PAUSE = 0.5

sending = bool(os.environ.get('SENDING'))
spy = Spy(os.environ['SPY'], 'sender' if sending else 'worker')
spy.listen(signals, hearing=True if sending else None)


class TwoArguments(Exception):
    """An error that is not made by its only argument."""

    def __init__(self, code: int, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(code, text)


class Expected(Exception):
    pass


class Unpicklable(Exception):
    """An error that pickle does not take."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.function = lambda: None

    def __reduce__(self) -> Any:
        raise TypeError('cannot be pickled')


# -- plain tasks ---------------------------------------------------------------------------------------------------

@app.task
def add(x: Any, y: Any) -> Any:
    return x + y


@app.task
def identity(x: Any) -> Any:
    return x


@app.task
def collect(values: Any) -> Any:
    return list(values)


@app.task
def total(values: Any) -> Any:
    return sum(values)


@app.task
def constant() -> str:
    return 'constant'


@app.task
def nothing(*args: Any) -> None:
    return None


@app.task
def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


@app.task
def fail(message: Any = 'wrong') -> None:
    raise ValueError(message)


@app.task
def fail_after(value: Any, message: str = 'after') -> None:
    raise KeyError(message)


@app.task
def fail_with(kind: str) -> None:
    raise {'two': lambda: TwoArguments(7, 'seven'), 'unpicklable': lambda: Unpicklable('no pickle'),
           'empty': lambda: ValueError(), 'unicode': lambda: ValueError('Ünïcødé'),
           'caused': lambda: RuntimeError('outer')}[kind]()


@app.task
def unserializable() -> object:
    return object()


@app.task
def linked(value: Any, name: str = 'link') -> Any:
    """A callback that tells that it was called."""
    spy.call(name, value)
    return value


@app.task(ignore_result=True)
def quiet(x: Any) -> Any:
    return x


@app.task(track_started=True)
def tracked(x: Any) -> Any:
    return x


@app.task(backend=extended.backend)
def telling(x: Any, **kwargs: Any) -> Any:
    return x


@app.task(backend=extended.backend)
def telling_failure(x: Any) -> None:
    raise ValueError(x)


@app.task(priority=3, time_limit=300, soft_time_limit=200, expires=600)
def configured(x: Any) -> Any:
    return x


@app.task(serializer='pickle')
def pickled(x: Any) -> Any:
    return x


@app.task(typing=False)
def untyped(x: Any) -> Any:
    return x


@app.task(ignore_result=True, store_errors_even_if_ignored=True)
def quiet_failure(x: Any) -> None:
    raise ValueError(x)


@app.task
def wait_for(gate: str, value: Any = None) -> Any:
    """Return `value` when the gate is opened."""
    if spy.redis.blpop([f'gate:{gate}'], 20) is None:
        raise RuntimeError('the gate stayed closed')
    return value


@app.task
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


# -- errbacks ------------------------------------------------------------------------------------------------------

@app.task
def errback_old(task_id: Any) -> Any:
    spy.call('errback_old', task_id)
    return 'told'


@app.task
def errback_new(request: Any, exc: Any, traceback: Any) -> None:
    spy.call('errback_new', getattr(request, 'id', request), getattr(request, 'task', None), exc,
             type(traceback).__name__, type(request).__name__)


@app.task
def errback_named(request: Any, exc: Any, traceback: Any, name: str = '') -> None:
    spy.call('errback_named', request.id, exc, name)


@app.task
def errback_default(task_id: Any, note: Any = None) -> None:
    spy.call('errback_default', task_id, note)


@app.task(bind=True)
def errback_bound(self: Any, request: Any, exc: Any, traceback: Any) -> None:
    spy.call('errback_bound', request.id, exc)


@app.task
def errback_any(*args: Any, **kwargs: Any) -> None:
    spy.call('errback_any', len(args), kwargs)


@app.task
def errback_failing(request: Any, exc: Any, traceback: Any) -> None:
    spy.call('errback_failing', request.id)
    raise RuntimeError('in the errback')


@app.task
def errback_old_failing(task_id: Any) -> None:
    spy.call('errback_old_failing', task_id)
    raise RuntimeError('in the old errback')


# -- ends that are neither success nor failure ---------------------------------------------------------------------

@app.task(bind=True, max_retries=3, default_retry_delay=PAUSE)
def succeed_after(self: Any, failures: int, value: Any = None) -> Any:
    if self.request.retries < failures:
        raise self.retry(countdown=PAUSE)
    return [self.request.retries, value]


@app.task(bind=True, max_retries=2)
def retry_with(self: Any, x: Any = 0, **options: Any) -> Any:
    """Retry once with the given options of `retry`."""
    if self.request.retries == 0:
        self.retry(countdown=PAUSE, **options)
    return [x, self.request.retries]


@app.task(bind=True, max_retries=1)
def retry_for_ever(self: Any, with_exc: bool) -> None:
    try:
        raise OSError('away')
    except OSError as exc:
        raise self.retry(exc=exc if with_exc else None, countdown=PAUSE) from exc


@app.task(bind=True)
def retry_unthrown(self: Any, x: Any) -> Any:
    if self.request.retries:
        return ['again', x]
    spy.call('retry_unthrown', type(self.retry(countdown=PAUSE, throw=False)).__name__)
    raise exceptions.Ignore()


@app.task(autoretry_for=(OSError,), retry_kwargs={'max_retries': 2, 'countdown': PAUSE})
def auto_retried(message: str = 'away') -> None:
    raise OSError(message)


@app.task(autoretry_for=(Exception,), dont_autoretry_for=(KeyError,), max_retries=1, default_retry_delay=PAUSE)
def auto_retried_but(kind: str) -> None:
    raise {'key': KeyError, 'value': ValueError}[kind](kind)


@app.task(bind=True, autoretry_for=(ValueError,), retry_backoff=False, default_retry_delay=PAUSE)
def auto_succeed_after(self: Any, failures: int) -> Any:
    if self.request.retries < failures:
        raise ValueError(self.request.retries)
    return self.request.retries


@app.task
def ignoring(*args: Any) -> None:
    raise exceptions.Ignore('no matter')


@app.task(bind=True)
def ignoring_with_state(self: Any) -> None:
    self.update_state(state='CUSTOM', meta={'custom': 'meta'})
    raise exceptions.Ignore()


@app.task
def rejecting(*args: Any) -> None:
    raise exceptions.Reject('no way', requeue=False)


@app.task(throws=(Expected,))
def throwing() -> None:
    raise Expected('as expected')


@app.task(bind=True)
def progressing(self: Any) -> str:
    self.update_state(state='PROGRESS', meta={'done': 1})
    spy.call('progress', app.AsyncResult(self.request.id).state, app.AsyncResult(self.request.id).info)
    return 'done'


# -- tasks that send others ----------------------------------------------------------------------------------------

@app.task
def sending_two(x: Any) -> Any:
    add.delay(x, 1)
    canvas.group(add.s(x, 2), add.s(x, 3)).delay()
    return x


@app.task(trail=False)
def sending_without_trail(x: Any) -> Any:
    add.delay(x, 1)
    return x


@app.task
def sending_canvas(sig: Any, **options: Any) -> Any:
    """Send what `sig` describes, and return its id or ids."""
    return app.signature(sig).apply_async(**options).id


@app.task
def waiting_inside(x: Any) -> Any:
    return add.delay(x, 1).get(timeout=5)


@app.task
def waiting_allowed(x: Any) -> Any:
    return add.delay(x, 1).get(timeout=5, disable_sync_subtasks=False)


@app.task(bind=True)
def replaced(self: Any, sig: Any, *args: Any) -> Any:
    return self.replace(app.signature(sig))


@app.task(bind=True)
def replaced_by_value(self: Any, x: Any) -> Any:
    """Replaced as long as `x` is positive."""
    if x > 0:
        return self.replace(replaced_by_value.s(x - 1))
    return ['end', self.request.replaced_task_nesting]


@app.task(bind=True)
def replaced_by_each(self: Any, values: Any) -> Any:
    return self.replace(canvas.group(add.s(value, 100) for value in values))


@app.task(bind=True)
def adding_to_chord(self: Any, sig: Any, value: Any, lazy: bool = False) -> Any:
    added = self.add_to_chord(app.signature(sig), lazy=lazy)
    if lazy:
        added.delay()
    return value


@app.task(bind=True)
def describing(self: Any, *args: Any) -> Any:
    """The names of what the request links to."""
    request = self.request
    return {'callbacks': [sig['task'] for sig in request.callbacks or ()],
            'chain': [sig['task'] for sig in request.chain or ()], 'stamps': request.stamps}


class Hooked(package.Task):  # type: ignore[name-defined, misc]
    """A task whose hooks tell what they are given."""

    abstract = True

    def before_start(self, task_id: Any, args: Any, kwargs: Any) -> None:
        spy.call('before_start', task_id, args, kwargs)

    def on_success(self, retval: Any, task_id: Any, args: Any, kwargs: Any) -> None:
        spy.call('on_success', retval, task_id, args, kwargs)

    def on_retry(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        spy.call('on_retry', exc, task_id, args, kwargs, type(einfo).__name__)

    def on_failure(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        spy.call('on_failure', exc, task_id, args, kwargs, type(einfo).__name__)

    def after_return(self, status: Any, retval: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        spy.call('after_return', status, retval, task_id, args, kwargs, type(einfo).__name__)

    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> Any:
        return f'shadow of {self.name}' if args and args[0] == 'shadow' else None


@app.task(base=Hooked, bind=True)
def hooked(self: Any, how: str) -> Any:
    if how == 'fail':
        raise ValueError('hooked')
    if how == 'retry' and not self.request.retries:
        raise self.retry(countdown=PAUSE, exc=OSError('once'))
    if how == 'ignore':
        raise exceptions.Ignore()
    if how == 'reject':
        raise exceptions.Reject('hooked', requeue=False)
    return how
