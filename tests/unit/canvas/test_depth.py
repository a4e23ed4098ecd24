"""Canvases nested 200 deep: nothing that can be done with one depends on how deep it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from canvaslite import Celery, StampingVisitor, chain, chord, group, signature
from canvaslite.result import result_from_tuple
from canvaslite.utils import deepjson

DEPTH = 200

app = Celery('depth', broker='memory://', backend='cache+memory://', set_as_current=False)


@app.task(shared=False)
def increment(x: int) -> int:
    return x + 1


@app.task(shared=False)
def first(values: Any) -> Any:
    return values[0]


def nest(wrap: Callable[[Any], Any]) -> Any:
    canvas = increment.s()
    for _ in range(DEPTH):
        canvas = wrap(canvas)
    return canvas


def linking(method: str) -> Callable[[Any], Any]:
    def wrap(canvas: Any) -> Any:
        outer = increment.s()
        getattr(outer, method)(canvas)
        return outer

    return wrap


#: How each level holds the one below, and what the whole gives for 0 when it is run.
NESTINGS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    'chords in headers': (lambda inner: chord([inner, increment.s()], first.s()), 1),
    'chords in bodies': (lambda inner: chord([increment.s(), increment.s()], chain(first.s(), inner)), DEPTH + 1),
    'groups in chains': (lambda inner: chain(increment.s(), group([inner, increment.s()]), first.s()), DEPTH + 1),
    'groups of groups': (lambda inner: group([inner, increment.s()]), [1] * (DEPTH + 1)),
    'chains in groups': (lambda inner: group([chain(increment.s(), inner)]), DEPTH + 1),
    'links': (linking('link'), 1),
    'errbacks': (linking('link_error'), 1),
}


class Visitor(StampingVisitor):
    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {'stamp': 'value'}


@pytest.fixture(params=list(NESTINGS))
def nesting(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    wrap, value = NESTINGS[request.param]
    return nest(wrap), value


@pytest.mark.filterwarnings("ignore:with task_allow_error_cb_on_chord_header")
def test_it_is_copied_shown_changed_and_composed(nesting: tuple[Any, Any]) -> None:
    canvas, _ = nesting
    assert deepjson.dumps(canvas.clone()) == deepjson.dumps(canvas)
    assert 'increment' in repr(canvas)
    assert copy.deepcopy(canvas)['task'] == canvas['task']
    copied = canvas.clone()
    copied.stamp(Visitor())
    copied.stamp(other='value')
    copied.set(queue='elsewhere')
    copied.set_immutable(True)
    copied.link(increment.s())
    copied.link_error(increment.s())
    assert isinstance(canvas | increment.s(), dict)


def test_it_is_frozen_and_its_result_goes_over_the_wire(nesting: tuple[Any, Any]) -> None:
    result = nesting[0].clone().freeze()
    assert result_from_tuple(deepjson.loads(deepjson.dumps(result.as_tuple())), app) == result
    app.GroupResult('deep', [result]).save()
    assert app.GroupResult.restore('deep').results[0].id == result.id
    result.forget()


def test_it_comes_back_from_json_and_runs_in_place(nesting: tuple[Any, Any]) -> None:
    canvas, value = nesting
    found = signature(deepjson.loads(deepjson.dumps(canvas)), app=app)
    assert found['task'] == canvas['task']
    result = found.apply((0,)).get()
    while isinstance(result, list) and not isinstance(value, list):
        (result,) = result
    assert result == value
