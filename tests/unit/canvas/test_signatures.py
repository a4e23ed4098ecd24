"""One signature: arguments, options, links, copies, and the dicts it travels as."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from canvaslite import Celery, Signature, chain, chord, group, maybe_signature, signature
from canvaslite.canvas import _chain
from canvaslite.exceptions import InvalidTaskError


def test_partial_arguments_come_before_its_own(app: Celery) -> None:
    assert app.tasks['call'].s(1, name='a')(0) == ['a', 0, 1]


def test_an_immutable_signature_takes_options_only(app: Celery) -> None:
    sig = app.tasks['add'].si(2, 2)

    copy = sig.clone(args=(1,), kwargs={'x': 3}, queue='fast')

    assert (copy.args, copy.kwargs, copy.options) == ((2, 2), {}, {'queue': 'fast'})


def test_options_given_later_win_except_the_group_and_stamps(app: Celery) -> None:
    sig = app.tasks['add'].s(1).set(group_id='first', priority=1).stamp(customer='mine')

    options = sig.clone(group_id='second', priority=2, customer='yours').options

    assert (options['group_id'], options['priority'], options['customer']) == ('first', 2, 'mine')


def test_none_as_an_option_counts_as_not_given(app: Celery, queue: Any) -> None:
    result = app.tasks['add'].s(1, 2).set(task_id='known').apply_async(task_id=None)

    assert result.id == 'known'


def test_a_copy_shares_arguments_but_nothing_that_canvases_change(app: Celery) -> None:
    argument: list[int] = []
    sig = app.tasks['add'].s(argument, y=1)
    sig.link(app.tasks['add'].s(1))

    copy = sig.clone()
    copy.kwargs['x'] = 2
    copy.options['link'][0]['options']['queue'] = 'other'
    copy.set(priority=1)

    assert copy.args[0] is argument
    assert (sig.kwargs, sig.options['link'][0].options) == ({'y': 1}, {})
    assert 'priority' not in sig.options


def test_a_copy_has_a_tuple_of_arguments_where_json_gave_a_list(app: Celery) -> None:
    sig = maybe_signature(json.loads(json.dumps(app.tasks['add'].si(1, 2))), app=app)

    assert sig.clone().args == (1, 2)


def test_what_is_linked_twice_is_linked_once(app: Celery) -> None:
    sig = app.tasks['add'].s(1)
    sig.link(app.tasks['add'].s(2))
    sig.link(app.tasks['add'].s(2))

    assert len(sig.options['link']) == 1


@pytest.mark.parametrize('copy', [lambda sig: json.loads(json.dumps(sig)), lambda sig: pickle.loads(pickle.dumps(sig)),
                                  dict], ids=['json', 'pickle', 'dict'])
def test_a_canvas_made_of_its_dict_means_the_same(app: Celery, s: Callable[..., Any], value_of: Callable[..., Any],
                                                 copy: Callable[[Any], Any]) -> None:
    canvas = s('a') | group(s('b'), chain(s('c'), s('d'))) | s('e')
    canvas |= chord([s('f'), s('g')], s('h'))

    copied = signature(copy(canvas), app=app)

    assert [type(step) for step in copied.tasks] == [type(step) for step in canvas.tasks]
    assert value_of(copied) == value_of(canvas)


def test_immutability_and_partial_arguments_survive_the_wire(app: Celery, s: Callable[..., Any]) -> None:
    canvas = _chain(s('a'), s('b'), app=app).clone(args=(1,)).set(immutable=True)

    copied = signature(json.loads(json.dumps(canvas)), app=app)

    assert (list(copied.args), copied.immutable) == ([1], True)


def test_an_unknown_type_of_signature_is_named() -> None:
    with pytest.raises(InvalidTaskError, match='nowhere'):
        Signature.from_dict({'task': 'x', 'args': (), 'kwargs': {}, 'options': {}, 'subtask_type': 'nowhere'})


def test_a_registered_class_comes_back_from_the_wire() -> None:
    @Signature.register_type()
    class marked(Signature):
        """A user's own."""

    try:
        sig = marked('task', subtask_type='marked')
        assert isinstance(maybe_signature(json.loads(json.dumps(sig))), Signature)
        assert Signature.TYPES['marked'] is marked
    finally:
        del Signature.TYPES['marked']


def test_freezing_twice_keeps_the_id(app: Celery) -> None:
    sig = app.tasks['add'].s(1, 2)

    assert sig.freeze().id == sig.freeze('other').id == sig.id


def test_a_deep_nesting_is_read_copied_and_sent(app: Celery, s: Callable[..., Any], queue: Any) -> None:
    canvas = s('core')
    for level in range(200):
        canvas = chord([canvas], s(str(level)))

    result = signature(dict(canvas), app=app).clone().apply_async()

    assert queue.run() == 201
    value, depth = result.get(timeout=5), 0
    while value != ['core']:
        value, depth = value[1][0], depth + 1
    assert depth == 200


def test_a_chain_built_in_a_loop_does_not_change_its_beginnings(s: Callable[..., Any]) -> None:
    beginnings = [s('0') | s('1')]
    for number in range(2, 50):
        beginnings.append(beginnings[-1] | s(str(number)))

    beginnings[10].tasks[3].set(queue='other')
    beginnings[20].stamp(customer='one')

    assert [len(chain.tasks) for chain in beginnings] == list(range(2, 51))
    assert all(not step.options for place in (9, 11, 48) for step in beginnings[place].tasks)
