"""Signatures as data: options, copies, round trips, and how they are shown. Nothing is sent unless said so."""

from __future__ import annotations

import json
import pickle
from copy import copy, deepcopy
from typing import Any

from kombu.serialization import dumps, loads

from compat.differential.scenarios import scenario


def canvases(c: Any, t: Any) -> dict[str, Any]:
    """One canvas of each kind, and of each nesting of two."""
    add, total = t.add, t.total
    return {
        'task': add.s(1, 2), 'partial task': add.s(1, y=2), 'immutable task': add.si(1, 2),
        'task with options': add.s(1).set(queue='spied', priority=1), 'chain': add.s(1, 2) | add.s(3),
        'chain of one': c.chain(add.s(1, 2)), 'chain of a list of one': c.chain([add.s(1, 2)]),
        'group': c.group(add.s(1, 1), add.s(2, 2)), 'group of one': c.group(add.s(1, 1)), 'empty group': c.group(),
        'empty chain': c.chain(), 'chord': c.chord([add.s(1, 1), add.s(2, 2)], total.s()),
        'chord with a chain': c.chord([add.s(1, 1)], total.s() | add.s(1)),
        'chord of a group': c.chord(c.group(add.s(1, 1), add.s(2, 2)), total.s()),
        'chain into a group': add.s(1, 1) | c.group(add.s(1), add.s(2)),
        'chain with a chord': add.s(1, 1) | c.group(add.s(1), add.s(2)) | total.s(),
        'group of chains': c.group(add.s(1, 1) | add.s(2), add.s(3, 3)),
        'group of groups': c.group(c.group(add.s(1, 1), add.s(2, 2)), add.s(3, 3)),
        'map': add.map([1, 2]), 'starmap': add.starmap([(1, 2)]), 'chunks': add.chunks([(1, 2), (3, 4)], 1),
    }


@scenario
def canvases_as_data(s: Any, c: Any, t: Any) -> None:
    for name, canvas in canvases(c, t).items():
        s.note(name, canvas)


@scenario
def representations(s: Any, c: Any, t: Any) -> None:
    for name, canvas in canvases(c, t).items():
        if name != 'empty chain':
            s.note(name, repr(canvas))
    s.note('generators', [repr(c.group(t.add.s(i, i) for i in range(2))),
                          repr(c.chord((t.add.s(i, i) for i in range(2)), t.total.s()))])
    s.note('another task', repr(c.signature('other.module.task', (1,), {'a': 2}) | t.add.s(1)))
    s.note('long', repr(t.echo.s('x' * 300, list(range(200)))))
    s.note('reprcall', t.add.s(1, y=2).reprcall(0, z=3))
    s.note('nested', repr(c.chain(t.add.s(1), c.group(t.add.s(2) | t.add.s(3), t.add.s(4)), t.total.s())))


@scenario
def attributes(s: Any, c: Any, t: Any) -> None:
    for name, canvas in canvases(c, t).items():
        s.note(name, {attribute: attempt(canvas, attribute) for attribute in (
            'id', 'name', 'task', 'args', 'kwargs', 'options', 'subtask_type', 'immutable', 'parent_id', 'root_id')})


def attempt(canvas: Any, attribute: str) -> Any:
    try:
        return getattr(canvas, attribute)
    except Exception as exc:
        return exc


@scenario
def round_trips_by_json(s: Any, c: Any, t: Any) -> None:
    for name, canvas in canvases(c, t).items():
        text = attempt_call(lambda canvas=canvas: dumps(canvas, 'json')[2])
        s.note(f'{name} as text', text)
        s.attempt(name, lambda text=text: c.signature(loads(text, 'application/json', 'utf-8'), app=s.app))
        s.attempt(f'{name} by plain JSON', lambda canvas=canvas: c.Signature.from_dict(json.loads(json.dumps(canvas))))


def attempt_call(function: Any) -> Any:
    try:
        return function()
    except Exception as exc:
        return exc


@scenario
def round_trips_by_pickle(s: Any, c: Any, t: Any) -> None:
    for name, canvas in canvases(c, t).items():
        s.attempt(name, lambda canvas=canvas: pickle.loads(pickle.dumps(canvas)))


@scenario
def sent_after_a_round_trip(s: Any, c: Any, t: Any) -> None:
    for name in ('task', 'chain', 'group', 'chord', 'chain with a chord', 'map', 'starmap', 'chunks'):
        canvas = canvases(c, t)[name]
        if name != 'chunks':
            s.send(c.signature(json.loads(json.dumps(canvas)), app=s.app), name=f'{name} by JSON')
        s.send(pickle.loads(pickle.dumps(canvas)), name=f'{name} by pickle')


@scenario
def copies(s: Any, c: Any, t: Any) -> None:
    for name, canvas in canvases(c, t).items():
        for how, function in (('clone', canvas.clone), ('copy', lambda canvas=canvas: copy(canvas)),
                              ('deepcopy', lambda canvas=canvas: deepcopy(canvas)),
                              ('partial', lambda canvas=canvas: canvas.partial((9,), {'k': 1}, priority=2)),
                              ('replace', lambda canvas=canvas: canvas.replace(args=(8,)))):
            s.attempt(f'{how} of {name}', function)
            s.attempt(f'class of {how} of {name}', lambda function=function: type(function()).__name__)


@scenario
def clones_are_independent(s: Any, c: Any, t: Any) -> None:
    sig = t.echo.s([1], key={'a': 1}).set(link=[t.add.s(1)])
    clone = sig.clone()
    clone.kwargs['more'] = 1
    clone.options['priority'] = 1
    clone.link(t.add.s(2))
    s.note('original', sig)
    chain = t.add.s(1) | t.add.s(2)
    clone = chain.clone()
    clone.tasks[0].args = (5,)
    clone.tasks[1].set(priority=5)
    s.note('original chain', chain)
    chord = c.chord([t.add.s(1)], t.total.s())
    chord.clone().body.set(priority=3)
    s.note('original chord', chord)


@scenario
def merged_options(s: Any, c: Any, t: Any) -> None:
    sig = t.echo.s(1, a=1).set(priority=1)
    s.note('clone with more', sig.clone((0,), {'b': 2}, priority=3, queue='other'))
    s.note('immutable clone with more', sig.clone(immutable=True))
    immutable = t.echo.si(1, a=1)
    s.note('clone of an immutable', immutable.clone((0,), {'b': 2}, priority=3))
    s.note('group id stays', sig.clone(group_id='first').clone(group_id='second'))
    s.note('set', sig.set(immutable=True, expires=5))
    s.note('set immutable', sig.set(immutable=False))
    s.note('in place', [sig is sig.set(countdown=1), sig.replace(kwargs={'c': 3}), sig.replace(options={'x': 1})])
    s.note('subtask', t.add.subtask((1,), {'y': 2}, priority=5))
    s.note('signature', t.add.signature((1,), {'y': 2}, countdown=5, immutable=True))
    s.note('options and more', c.signature('name', (1,), {'k': 2}, options={'priority': 1}, queue='q', app=s.app))
    s.note('a list option', [sig.append_to_list_option('link', t.add.s(1)), sig.append_to_list_option(
        'link', t.add.s(1)), sig.extend_list_option('link', [t.add.s(2), t.add.s(3)]), sig])


@scenario
def immutability_of_canvases(s: Any, c: Any, t: Any) -> None:
    for name, canvas in canvases(c, t).items():
        if name not in ('empty chain', 'empty group'):
            s.attempt(f'set on {name}', lambda canvas=canvas: canvas.set(immutable=True))
            s.note(name, canvas)


@scenario
def immutable_canvases_sent(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 1) | (t.echo.s('a') | t.echo.s('b')).set(immutable=True))
    s.send(t.add.s(2, 1) | c.group(t.echo.s('c'), t.echo.s('d')).set(immutable=True))
    s.send(t.add.s(3, 1) | c.chord([t.echo.s('e'), t.echo.s('f')], t.collect.s()).set(immutable=True))


@scenario
def frozen_canvases(s: Any, c: Any, t: Any) -> None:
    for name, canvas in canvases(c, t).items():
        def freeze(canvas: Any = canvas) -> Any:
            frozen = canvas.freeze('my-id', group_id='my-group', root_id='my-root', parent_id='my-parent',
                                   group_index=3)
            return [type(frozen).__name__, frozen.id == 'my-id', frozen.parent is not None]
        if name not in ('map', 'starmap', 'chunks'):
            s.attempt(name, freeze)
            s.attempt(f'id of {name}', lambda canvas=canvas: [canvas.options.get('root_id'), canvas.options.get(
                'parent_id'), canvas.options.get('group_id'), canvas.options.get('group_index')])


@scenario
def composed_by_pipes(s: Any, c: Any, t: Any) -> None:
    """What every kind gives with every other."""
    operands = {name: canvas for name, canvas in canvases(c, t).items() if name not in (
        'empty chain', 'empty group', 'partial task', 'immutable task', 'task with options', 'chain of one',
        'chain of a list of one', 'map', 'starmap', 'chunks', 'group of one', 'chord of a group')}
    for left, first in operands.items():
        for right, second in operands.items():
            s.attempt(f'{left} then {right}', lambda first=first, second=second: repr(first | second))
            s.attempt(f'{left} then {right} by chain()',
                      lambda first=first, second=second: repr(c.chain(first, second)))


@scenario
def pipes_leave_their_operands_alone(s: Any, c: Any, t: Any) -> None:
    left, right = t.add.s(1) | t.add.s(2), t.add.s(3) | t.add.s(4)
    composed = left | right
    composed.tasks[0].set(priority=1)
    composed.tasks[-1].set(priority=2)
    s.note('left', left)
    s.note('right', right)
    group, task = c.group(t.add.s(1), t.add.s(2)), t.total.s()
    chord = group | task
    chord.link(t.linked.s('linked'))
    s.note('group', group)
    s.note('task', task)


@scenario
def other_names(s: Any, c: Any, t: Any) -> None:
    s.note('subtask', c.subtask(t.add.name, (1,), app=s.app))
    s.note('maybe_subtask', c.maybe_subtask(dict(t.add.s(1)), app=s.app))
    s.note('app.signature', s.app.signature(t.add.name, (1,), {'y': 2}))
    s.note('types', sorted(c.Signature.TYPES))
    s.note('classes', [type(canvas).__name__ for canvas in canvases(c, t).values()])
    s.note('app.canvas', [s.app.Signature.__name__ if hasattr(s.app, 'Signature') else None])
    s.note('equal', [t.add.s(1) == t.add.s(1), t.add.s(1) == t.add.s(2), dict(t.add.s(1)) == t.add.s(1)])
    s.note('unrolled', c.maybe_unroll_group(c.group(t.add.s(1))))
    s.note('not unrolled', c.maybe_unroll_group(c.group(t.add.s(1), t.add.s(2))))


@scenario
def registered_types(s: Any, c: Any, t: Any) -> None:
    @c.Signature.register_type(name=f'own_{s.package.__name__}')
    class Own(c.Signature):  # type: ignore[name-defined, misc]
        @classmethod
        def from_dict(cls, d: Any, app: Any = None) -> Any:
            return cls(d, app=app)
    d = {**t.add.s(1, 2), 'subtask_type': f'own_{s.package.__name__}'}
    s.note('class', type(c.Signature.from_dict(d)).__name__)
    s.note('by signature()', type(c.signature(d)).__name__)
    c.Signature.TYPES.pop(f'own_{s.package.__name__}')
