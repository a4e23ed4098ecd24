"""Errors of tasks, and ends that are neither success nor failure; errors when something is asked for."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from compat.differential.scenarios import scenario


@scenario
def errors_of_tasks(s: Any, c: Any, t: Any) -> None:
    s.send(t.fail.s('plain'))
    for kind in ('two', 'empty', 'unicode', 'caused'):
        s.send(t.fail_with.s(kind), name=kind)
    s.send(t.fail.s(['a', 'list']))
    s.send(t.fail.s({'a': 'dict'}))
    s.send(t.add.s(1, 'a'))


@scenario
def an_unpicklable_error(s: Any, c: Any, t: Any) -> None:
    s.send(t.fail_with.s('unpicklable'))


@scenario
def an_unserializable_result(s: Any, c: Any, t: Any) -> None:
    s.send(t.unserializable.s())


@scenario
def an_expected_error(s: Any, c: Any, t: Any) -> None:
    s.send(t.throwing.s())


@scenario
def an_ignored_task(s: Any, c: Any, t: Any) -> None:
    s.send(t.ignoring.s())
    s.send(t.ignoring_with_state.s())


@scenario
def an_ignored_step(s: Any, c: Any, t: Any) -> None:
    s.send(t.ignoring.s() | t.add.s(1))


@scenario
def a_rejected_task(s: Any, c: Any, t: Any) -> None:
    s.send(t.rejecting.s())


@scenario
def a_rejected_step(s: Any, c: Any, t: Any) -> None:
    s.send(t.rejecting.s() | t.add.s(1))


@scenario
def an_unknown_task(s: Any, c: Any, t: Any) -> None:
    s.keep(s.app.send_task('no.such.task', (1,)))


@scenario
def an_unknown_step(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 1) | c.signature('no.such.task', app=s.app) | t.add.s(2))


@scenario
def an_unknown_task_with_an_errback(s: Any, c: Any, t: Any) -> None:
    s.keep(s.app.send_task('no.such.task', (1,), link_error=t.errback_new.s()))


@scenario
def hooks(s: Any, c: Any, t: Any) -> None:
    for how in ('well', 'fail', 'retry', 'ignore', 'reject', 'shadow'):
        s.send(t.hooked.s(how), name=how)


@scenario
def stored_states(s: Any, c: Any, t: Any) -> None:
    s.send(t.progressing.s())
    s.send(t.tracked.s(1))
    s.send(t.quiet.s(1))
    s.send(t.quiet_failure.s('although ignored'))
    s.send(t.telling.s(1, key='value'))
    s.send(t.telling_failure.s('telling'))
    s.send(t.add.s(1, 2), ignore_result=True)
    s.send(t.quiet.s(3), ignore_result=False)


@scenario
def waiting_in_a_task(s: Any, c: Any, t: Any) -> None:
    s.send(t.waiting_inside.s(1))
    s.send(t.waiting_allowed.s(10))


# -- refused when asked for ----------------------------------------------------------------------------------------

@scenario
def wrong_arguments(s: Any, c: Any, t: Any) -> None:
    for name, args, kwargs in (('too few', (1,), {}), ('too many', (1, 2, 3), {}), ('unknown', (1, 2), {'z': 3}),
                               ('twice', (1, 2), {'x': 3}), ('none', (), {})):
        s.attempt(name, lambda args=args, kwargs=kwargs: t.add.delay(*args, **kwargs))
        s.attempt(f'{name}, by a signature', lambda args=args, kwargs=kwargs: t.add.s(*args, **kwargs).delay())
    s.attempt('args is a string', lambda: t.add.apply_async('ab'))
    s.attempt('args is a number', lambda: t.add.apply_async(5))
    s.attempt('kwargs is a list', lambda: t.add.apply_async((1, 2), [3]))
    s.attempt('args of an unchecked task', lambda: t.untyped.apply_async(5))
    s.attempt('a bound task', lambda: t.succeed_after.delay())
    s.attempt('directly', lambda: t.add(1))


@scenario
def an_unchecked_task_with_wrong_arguments(s: Any, c: Any, t: Any) -> None:
    s.keep(t.untyped.delay(1, 2))
    s.keep(s.app.send_task(t.add.name, (1,)))


@scenario
def wrong_options(s: Any, c: Any, t: Any) -> None:
    for name, options in (
        ('queue', {'queue': 5}), ('serializer', {'serializer': 'none such'}), ('compression', {'compression': 'nope'}),
        ('countdown', {'countdown': 'soon'}), ('eta', {'eta': 5}), ('priority', {'priority': 'high'}),
        ('expires', {'expires': 'whenever'}), ('limits', {'soft_time_limit': 10, 'time_limit': 5}),
        ('link', {'link': 5}),
    ):
        s.attempt(name, lambda name=name, options=options: type(t.identity.s(name).apply_async(**options)).__name__)


@scenario
def a_queue_that_may_not_be_made(s: Any, c: Any, t: Any) -> None:
    with s.settings(task_create_missing_queues=False):
        s.attempt('unknown queue', lambda: t.add.apply_async((1, 2), queue='unknown'))


@scenario
def unserializable_arguments(s: Any, c: Any, t: Any) -> None:
    s.attempt('an object', lambda: t.identity.delay(object()))
    s.attempt('in a chain', lambda: (t.identity.s(object()) | t.identity.s()).delay())
    s.attempt('in a later step', lambda: (t.identity.s(1) | t.echo.s(object())).delay())
    s.attempt('in a group', lambda: c.group(t.identity.s(object())).delay())
    s.attempt('in a body', lambda: c.chord([t.identity.s(1)], t.echo.s(object())).delay())
    s.attempt('in a link', lambda: t.identity.apply_async((1,), link=t.echo.s(object())))


@scenario
def composing_with_what_is_no_signature(s: Any, c: Any, t: Any) -> None:
    add = t.add.s(1)
    for name, make in (
        ('task | number', lambda: add | 5), ('number | task', lambda: 5 | add),
        ('chain(number)', lambda: c.chain(5, 6)),
        ('chain of a string', lambda: c.chain(add, 'text')), ('chain of None', lambda: c.chain(add, None)),
        ('group(number)', lambda: c.group(5)), ('group of numbers', lambda: c.group(5, 6)),
        ('group(None)', lambda: c.group(None)), ('chord(None)', lambda: c.chord(None, add)),
        ('chord of numbers', lambda: c.chord([1, 2], add)), ('group | number', lambda: c.group(add, add) | 5),
        ('chain | number', lambda: (add | add) | 5), ('chord | number', lambda: c.chord([add], add) | 5),
        ('task | task itself', lambda: add | t.add), ('task | dict', lambda: add | dict(add)),
        ('task | None', lambda: add | None),
    ):
        s.attempt(name, make)


@scenario
def an_unknown_kind_of_signature(s: Any, c: Any, t: Any) -> None:
    s.attempt('from_dict', lambda: c.Signature.from_dict({**t.add.s(1), 'subtask_type': 'unknown'}))
    s.attempt('maybe_signature of a string', lambda: c.maybe_signature('text'))
    s.attempt('maybe_signature of None', lambda: c.maybe_signature(None))
    s.attempt('signature of nothing', lambda: c.signature({}))
    s.attempt('type of an unknown task', lambda: c.signature('no.such', app=s.app).type)
    s.attempt('called', lambda: c.signature('no.such', app=s.app)())
    s.attempt('applied', lambda: c.signature('no.such', app=s.app).apply())


# -- times ---------------------------------------------------------------------------------------------------------

@scenario
def times(s: Any, c: Any, t: Any) -> None:
    soon = datetime.now(timezone.utc) + timedelta(seconds=0.2)
    s.send(t.add.s(1, 1), countdown=0.2)
    s.send(t.add.s(1, 2), eta=soon)
    s.send(t.add.s(1, 3), eta=soon.isoformat())
    s.send(t.add.s(1, 4), eta=soon.replace(tzinfo=None))
    s.send(t.add.s(1, 5), expires=60)
    s.send(t.add.s(1, 6), expires=soon + timedelta(seconds=60))
    s.send(t.add.s(1, 7), countdown=0.1, expires=60.5)
    s.send(t.add.s(1, 8), countdown=-5)
    s.send(t.add.s(1, 9), countdown=0)


@scenario
def an_expired_task(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 1), countdown=1.5, expires=1.2)


@scenario
def an_expired_step(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 1) | t.add.s(2).set(countdown=1.5, expires=1.2) | t.add.s(3))


@scenario
def an_expired_member_of_a_header(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.add.s(2, 2).set(countdown=1.5, expires=1.2)], t.collect.s()))
