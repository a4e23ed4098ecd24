"""What a message says: options, serializers, representations."""

from __future__ import annotations

import uuid
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

from compat.differential.scenarios import scenario


@scenario
def representations_of_arguments(s: Any, c: Any, t: Any) -> None:
    for value in ("it's", 'ünïcødé', 'x' * 2000, list(range(500)), {'deep': {'er': {'and': {'er': 1}}}}, None, True,
                  1.5, [], {}, [[], {}], 'line\nbreak', '\\', {'k' * 300: 'v'}, [None, [True, [False]]]):
        s.send(t.echo.s(value, key=value))
    s.send(t.echo.s(1), argsrepr='(secret)', kwargsrepr='{secret}')


@scenario
def values_of_all_types(s: Any, c: Any, t: Any) -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=timezone.utc)
    for value in (uuid.UUID(int=5), moment, date(2030, 1, 2), Decimal('1.10'), (1, 2), {1, 2}, b'bytes', {1: 2},
                  1 << 70, float('inf'), '\u2028', 'a\x00b'):
        s.attempt(f'sent {value!r}', lambda value=value: s.send(t.identity.s(value), name=f'{value!r}'))


@scenario
def serializers(s: Any, c: Any, t: Any) -> None:
    s.send(t.echo.s((1, 2), {'a': 1}), serializer='pickle')
    s.send(t.pickled.s((1, 2)))
    s.send(t.add.s(1, 2) | t.add.s(3).set(serializer='pickle') | t.add.s(4), serializer='pickle')
    s.send(c.chord([t.add.s(5, 2), t.add.s(6, 2)], t.total.s()), serializer='pickle')
    s.send(t.add.s(7, 8), compression='gzip')
    s.send(t.add.s(9, 10), serializer='yaml')


@scenario
def options_of_messages(s: Any, c: Any, t: Any) -> None:
    for options in ({'priority': 0}, {'priority': 9}, {'delivery_mode': 1}, {'delivery_mode': 'transient'},
                    {'time_limit': 60}, {'soft_time_limit': 50}, {'time_limit': 60, 'soft_time_limit': 50},
                    {'shadow': 'a shadow'}, {'headers': {'own': 'header', 'number': 5}}, {'ignore_result': True},
                    {'root_id': 'my-root'}, {'parent_id': 'my-parent'}, {'root_id': 'r', 'parent_id': 'p'},
                    {'reply_to': 'my-queue'}, {'group_id': 'g', 'group_index': 4}, {'retries': 3},
                    {'exchange': 'spied', 'routing_key': 'spied'}, {'routing_key': 'spied'}, {'queue': 'spied'},
                    {'message_id': 'my-message'}, {'app_id': 'my-app'}, {'correlation_id': 'mine'},
                    {'replaced_task_nesting': 2}, {'origin': 'me'}, {'unknown_option': 'whatever'},
                    {'retry': True, 'retry_policy': {'max_retries': 1}}, {'expiration': 60}, {'mandatory': True}):
        name = ', '.join(f'{key}={value}' for key, value in options.items())
        s.attempt(f'sent with {name}', lambda options=options, name=name: s.send(
            t.echo.s(name), name=name, **options) and None)


@scenario
def options_of_tasks(s: Any, c: Any, t: Any) -> None:
    s.send(t.configured.s(1))
    s.send(t.configured.s(2), priority=8, time_limit=500)
    s.send(t.configured.s(3) | t.configured.s())
    s.send(c.group(t.configured.s(4), t.add.s(4, 4)))


@scenario
def inherited_priority(s: Any, c: Any, t: Any) -> None:
    s.send(t.sending_two.s(1), priority=6)
    s.send(t.add.s(2, 2).set(priority=6) | t.add.s(3))


@scenario
def named_tasks(s: Any, c: Any, t: Any) -> None:
    s.keep(s.app.send_task(t.add.name, (1, 2), {}, countdown=0.1, priority=2, link=t.linked.s('of send_task')))
    s.keep(s.app.send_task(t.echo.name, args=[1], kwargs={'k': 2}, task_id='my-sent-task'))
    s.keep(s.app.send_task(t.add.name, (1, 3), chain=[t.add.s(5)]))


@scenario
def routes(s: Any, c: Any, t: Any) -> None:
    with s.settings(task_routes={t.add.name: {'queue': 'spied', 'priority': 4}}):
        s.app.amqp.flush_routes() if hasattr(s.app.amqp, 'flush_routes') else None
        s.app.amqp.__dict__.pop('router', None)
        s.send(t.add.s(1, 2) | t.echo.s())
    s.app.amqp.__dict__.pop('router', None)


@scenario
def depth_of_results(s: Any, c: Any, t: Any) -> None:
    """Tasks sent by tasks sent by tasks."""
    s.send(t.sending_canvas.s(t.sending_canvas.s(t.sending_canvas.s(t.add.s(1, 2)))))


@scenario
def builtin_tasks(s: Any, c: Any, t: Any) -> None:
    s.keep(s.app.tasks['celery.accumulate'].delay(1, 2, 3))
    s.keep(s.app.tasks['celery.accumulate'].apply_async((4, 5), {'index': 0}))
    s.keep(s.app.tasks['celery.map'].delay(t.identity.s(), [1, 2]))
    s.keep(s.app.tasks['celery.starmap'].delay(t.add.s(), [[1, 2]]))
    s.note('names', sorted(name for name in s.app.tasks if name.startswith('celery.')))


@scenario
def canvases_sent_as_tasks(s: Any, c: Any, t: Any) -> None:
    """A canvas of one package is a task's argument, and what the task sends is the canvas."""
    for number, canvas in enumerate((t.add.s(1, 2), t.add.s(3, 4) | t.add.s(5), c.group(t.add.s(6, 7), t.add.s(8, 9)),
                                     c.chord([t.add.s(10, 11), t.add.s(12, 13)], t.total.s()),
                                     t.identity.map([1, 2]))):
        s.send(t.sending_canvas.s(canvas), name=f'canvas {number}')
