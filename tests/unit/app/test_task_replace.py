"""Tasks that put a canvas in their own place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from canvaslite import Celery, chain, chord, group
from canvaslite.exceptions import Ignore, ImproperlyConfigured
from canvaslite.utils.uuid import uuid


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery('unit', broker='memory://', backend='cache+memory://', set_as_current=False) as app:
        app.conf.task_default_queue = f'unit-{uuid()}'
        yield app


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name='add')
    def add(*args: Any) -> Any:
        return sum(sum(arg) if isinstance(arg, list) else arg for arg in args)
    return add


@pytest.fixture
def sent(app: Celery) -> Any:
    def sent() -> list[Any]:
        messages = []
        with app.connection_for_read() as connection:
            queue = app.amqp.queues[app.conf.task_default_queue](connection.default_channel)
            queue.declare()
            while (message := queue.get(no_ack=True)) is not None:
                messages.append(message)
        return messages
    return sent


@pytest.fixture
def replaced(app: Celery) -> Any:
    @app.task(bind=True, name='replaced')
    def replaced(self: Any, sig: Any) -> Any:
        return self.replace(sig)
    return replaced


def within_a_run(task: Any, **request: Any) -> Any:
    task.push_request(id='i', args=(), kwargs={}, called_directly=False, delivery_info={}, **request)
    return task


def test_a_replacement_has_the_id_and_place_of_the_replaced(replaced: Any, add: Any, sent: Any) -> None:
    within_a_run(replaced, root_id='r', group='g', group_index=2, chord=add.s().set(task_id='body'),
                 callbacks=[add.s(5)], errbacks=[add.s(6)])
    with pytest.raises(Ignore):
        replaced.replace(add.s(1))
    (message,) = sent()
    headers, (_, _, embed) = message.headers, message.decode()
    assert (headers['id'], headers['root_id'], headers['group'], headers['group_index']) == ('i', 'r', 'g', 2)
    assert headers['replaced_task_nesting'] == 1
    assert embed['chord']['options']['task_id'] == 'body'
    assert [sig['args'] for sig in embed['callbacks']] == [[5]]
    assert [sig['args'] for sig in embed['errbacks']] == [[6]]


def test_what_is_left_of_the_chain_follows_the_replacement(replaced: Any, add: Any, sent: Any) -> None:
    within_a_run(replaced, chain=[add.s(3).set(task_id='third'), add.s(2).set(task_id='second')])
    with pytest.raises(Ignore):
        replaced.replace(add.s(1))
    (message,) = sent()
    assert message.headers['id'] == 'i'
    _, _, embed = message.decode()
    assert [step['options']['task_id'] for step in embed['chain']] == ['third', 'second']


@pytest.mark.parametrize('spelling', ['task', 'chain', 'group', 'chord', 'chain ending in a group', 'group of one',
                                      'chord with a group as its body', 'chain ending in such a chord', 'chunks'])
def test_any_canvas_can_replace_a_task(app: Celery, replaced: Any, add: Any, spelling: str) -> None:
    app.conf.task_always_eager = True
    sig, value = {
        'task': (add.s(1, 2), 3),
        'chain': (chain(add.s(1), add.s(2)), 3),
        'group': (group(add.s(1), add.s(2)), [1, 2]),
        'chord': (chord([add.s(1), add.s(2)], add.s()), 3),
        'chain ending in a group': (chain(add.s(1), group(add.s(2), add.s(3))), [3, 4]),
        'group of one': (group([add.s(1)]), [1]),
        'chord with a group as its body': (chord([add.s(1), add.s(2)], group(add.s(), add.s(3))), [3, 6]),
        'chain ending in such a chord': (chain(add.s(1), chord([add.s(2)], group(add.s(), add.s(3)))), [3, 6]),
        'chunks': (add.chunks([(1, 2), (3, 4), (5, 6)], 2), [[3, 7], [11]]),
    }[spelling]

    @app.task(bind=True, name='outer')
    def outer(self: Any) -> Any:
        return self.replace(sig)
    assert outer.delay().get(disable_sync_subtasks=False) == value


def test_a_member_of_a_chord_or_an_empty_chain_cannot_replace_a_task(replaced: Any, add: Any) -> None:
    within_a_run(replaced)
    with pytest.raises(ImproperlyConfigured, match='chord'):
        replaced.replace(add.s().set(chord=add.s()))


def test_only_a_member_of_a_chord_can_extend_it(replaced: Any, add: Any) -> None:
    within_a_run(replaced)
    with pytest.raises(ValueError, match='not member of any chord'):
        replaced.add_to_chord(add.s())


def test_a_chain_that_ends_in_a_group_is_changed_as_it_is_sent(replaced: Any, add: Any, sent: Any) -> None:
    within_a_run(replaced)
    steps = chain(add.s(1, 1), group(add.s(2), add.s(3)), app=replaced.app)
    with pytest.raises(Ignore):
        replaced.replace(steps)
    assert steps.tasks[-1].body.name == 'celery.accumulate'
