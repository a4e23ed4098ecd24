"""Tasks that take and return pydantic models."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from canvaslite import Celery
from canvaslite.exceptions import ImproperlyConfigured


def make_app() -> Celery:
    return Celery('models', set_as_current=False, broker='memory://', changes={'task_always_eager': True})


def test_without_pydantic_the_task_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'pydantic', None)
    with pytest.raises(ImproperlyConfigured, match='pip install'):
        make_app().task(lambda: None, name='x', pydantic=True, shared=False).name


def test_models_travel_as_data() -> None:
    pydantic: Any = pytest.importorskip('pydantic')

    class Point(pydantic.BaseModel):  # type: ignore[misc]
        x: int
        y: int = 0

    # Annotations of this module are text, and these names are local to the test.
    def move(point: Any, by: Any = None, times: int = 1) -> Any:
        assert isinstance(point, Point)
        return Point(x=point.x + (by.x if by else 0) * times, y=point.y)

    move.__annotations__.update(point=Point, by=Point | None, **{'return': Point})
    task = make_app().task(move, name='move', pydantic=True, shared=False)
    assert task({'x': 1}) == {'x': 1, 'y': 0}
    assert task.delay(Point(x=1), by=Point(x=2), times=2).get() == {'x': 5, 'y': 0}
    assert task._dump_pydantic_arguments((Point(x=1), None), {'times': 3}) == ([{'x': 1, 'y': 0}, None], {'times': 3})
    with pytest.raises(pydantic.ValidationError):
        task({'x': 'no number'})

    def bound(self: Any, point: Any) -> Any:
        return self.name, point

    bound.__annotations__.update(point=Point)
    other = make_app().task(bound, name='bound', bind=True, pydantic=True, pydantic_strict=True,
                            shared=False)
    assert other(Point(x=1)) == ('bound', Point(x=1))
    assert other._dump_pydantic_arguments([Point(x=1)], {}) == ([{'x': 1, 'y': 0}], {})
    with pytest.raises(pydantic.ValidationError):
        other({'x': '1'})
