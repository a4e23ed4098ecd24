"""Everything in the caller's process: `apply`, and ``task_always_eager``."""

from __future__ import annotations

from typing import Any

from compat.differential.scenarios import scenario
from compat.differential.scenarios.saying import canvases


def look(result: Any) -> Any:
    """What an eager result says."""
    if getattr(result, 'results', None) is not None:
        return [type(result).__name__, [look(member) for member in result.results]]
    said = {name: getattr(result, name, '<none>') for name in ('state', 'result', 'name', 'traceback', 'children')}
    said['traceback'] = bool(said['traceback'])
    parent = getattr(result, 'parent', None)
    return {**said, 'class': type(result).__name__, 'ready': result.ready(), 'successful': result.successful(),
            'repr': repr(result), 'value': attempt(lambda: result.get(propagate=False)),
            'raised': attempt(result.get), 'parent': look(parent) if parent is not None else None}


def attempt(function: Any) -> Any:
    try:
        return function()
    except Exception as exc:
        return exc


@scenario
def applied_canvases(s: Any, c: Any, t: Any) -> None:
    for name, canvas in canvases(c, t).items():
        if name not in ('partial task', 'map'):
            s.attempt(name, lambda canvas=canvas: look(canvas.apply()))


@scenario
def applied_with_partial_arguments(s: Any, c: Any, t: Any) -> None:
    s.attempt('task', lambda: look(t.echo.s(1, a=1).apply((0,), {'b': 2})))
    s.attempt('immutable', lambda: look(t.echo.si(1).apply((0,))))
    s.attempt('chain', lambda: look((t.echo.s(1) | t.echo.s(2)).apply((0,))))
    s.attempt('group', lambda: look(c.group(t.echo.s(1), t.echo.s(2)).apply((0,), {'k': 1})))
    s.attempt('chord', lambda: look(c.chord([t.echo.s(1), t.echo.s(2)], t.collect.s()).apply((0,))))


@scenario
def applied_failures(s: Any, c: Any, t: Any) -> None:
    for name, canvas in (('task', t.fail.s('eager')), ('chain', t.fail.s('eager') | t.add.s(1)),
                         ('group', c.group(t.fail.s('eager'), t.add.s(1, 1))),
                         ('chord', c.chord([t.fail.s('eager'), t.add.s(1, 1)], t.collect.s())),
                         ('body', c.chord([t.add.s(1, 1)], t.fail_after.s('eager'))),
                         ('ignored', t.ignoring.s()), ('ignored step', t.ignoring.s() | t.add.s(1)),
                         ('rejected', t.rejecting.s()), ('two', t.fail_with.s('two')), ('wrong', t.add.s(1))):
        s.attempt(name, lambda canvas=canvas: look(canvas.apply()))
        s.attempt(f'{name} thrown', lambda canvas=canvas: look(canvas.apply(throw=True)))


@scenario
def applied_retries(s: Any, c: Any, t: Any) -> None:
    s.attempt('retries', lambda: look(t.succeed_after.apply((2,))))
    s.attempt('too many', lambda: look(t.succeed_after.apply((9,))))
    s.attempt('for ever', lambda: look(t.retry_for_ever.apply((True,))))
    s.attempt('for ever without an error', lambda: look(t.retry_for_ever.apply((False,))))
    s.attempt('automatic', lambda: look(t.auto_retried.apply()))
    s.attempt('beginning later', lambda: look(t.succeed_after.apply((2,), retries=1)))


@scenario
def applied_links(s: Any, c: Any, t: Any) -> None:
    s.attempt('link', lambda: look(t.add.apply((1, 2), link=t.linked.s('eager'))))
    s.attempt('links', lambda: look(t.add.apply((3, 4), link=[t.linked.s('a'), t.linked.s('b')])))
    s.attempt('errback', lambda: look(t.fail.apply(('eager',), link_error=t.errback_new.s())))
    s.attempt('old errback', lambda: look(t.fail.apply(('eager old',), link_error=t.errback_old.s())))


@scenario
def applied_replacements(s: Any, c: Any, t: Any) -> None:
    s.attempt('task', lambda: look(t.replaced.apply((t.add.s(1, 2),))))
    s.attempt('group', lambda: look(t.replaced.apply((c.group(t.add.s(1, 2), t.add.s(3, 4)),))))
    s.attempt('in a chain', lambda: look((t.add.s(1, 1) | t.replaced_by_value.s() | t.echo.s('x')).apply()))


@scenario
def applied_requests(s: Any, c: Any, t: Any) -> None:
    s.attempt('described', lambda: look(t.describing.apply((1,), task_id='my-eager-id', priority=3, headers={'h': 1})))
    s.attempt('stamped', lambda: look(t.describing.apply((1,), stamped_headers=['tag'], tag='eager')))


@scenario
def always_eager(s: Any, c: Any, t: Any) -> None:
    with s.settings(task_always_eager=True):
        for name, canvas in canvases(c, t).items():
            if name not in ('partial task', 'map'):
                s.attempt(name, lambda canvas=canvas: look(canvas.apply_async()))
                s.attempt(f'{name} delayed', lambda canvas=canvas: look(canvas.delay()))


@scenario
def always_eager_failures(s: Any, c: Any, t: Any) -> None:
    for propagates in (False, True):
        with s.settings(task_always_eager=True, task_eager_propagates=propagates):
            for name, canvas in (('task', t.fail.s('eager')), ('chain', t.fail.s('eager') | t.add.s(1)),
                                 ('group', c.group(t.fail.s('eager'), t.add.s(1, 1))), ('ignored', t.ignoring.s()),
                                 ('chord', c.chord([t.fail.s('eager'), t.add.s(1, 1)], t.collect.s())),
                                 ('retried', t.succeed_after.s(1)), ('unserializable', t.identity.s(object())),
                                 ('errback', t.fail.s('with errback').on_error(t.errback_new.s()))):
                s.attempt(f'{name} propagates={propagates}', lambda canvas=canvas: look(canvas.apply_async()))


@scenario
def always_eager_links(s: Any, c: Any, t: Any) -> None:
    with s.settings(task_always_eager=True):
        s.attempt('link', lambda: look(t.add.apply_async((1, 2), link=t.linked.s('eager'))))
        s.attempt('chain', lambda: look((t.add.s(1, 2) | t.add.s(3)).apply_async(link=t.linked.s('of a chain'))))
        s.attempt('chord', lambda: look(c.chord([t.add.s(1, 2)], t.total.s()).apply_async(link=t.linked.s('of it'))))
        s.attempt('sent inside', lambda: look(t.sending_two.delay(1)))
        s.attempt('with an id', lambda: t.add.apply_async((1, 2), task_id='my-eager').id)


@scenario
def stored_eager_results(s: Any, c: Any, t: Any) -> None:
    stores = s.app.tasks[t.identity.name]
    stores.store_eager_result = True
    try:
        result = stores.apply(('kept',))
        s.note('stored', s.app.AsyncResult(result.id).state)
    finally:
        stores.store_eager_result = False


@scenario
def an_eager_result_as_a_result(s: Any, c: Any, t: Any) -> None:
    result = t.add.apply((1, 2), task_id='my-result')
    s.note('text', [str(result), repr(result), result.id, result.task_id])
    s.attempt('get with a timeout', lambda: result.get(timeout=1, interval=1))
    s.attempt('wait', result.wait)
    s.attempt('forget', result.forget)
    s.attempt('then', lambda: result.then(lambda one: t.spy.call('then', one.state)) and None)
    result.revoke()
    s.note('revoked', [result.state, result.successful(), result.failed()])
    s.attempt('get of a revoked', result.get)
