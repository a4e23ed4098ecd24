"""Tasks with pydantic models for arguments: they travel as data and arrive as models."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import pytest
from kombu.exceptions import EncodeError

from canvaslite import Celery
from canvaslite.exceptions import ImproperlyConfigured

pydantic = pytest.importorskip('pydantic')


class Span(pydantic.BaseModel):
    value: timedelta


class Secret(pydantic.BaseModel):
    secret: pydantic.SecretStr


@pytest.fixture
def app() -> Celery:
    return Celery('models', task_always_eager=True, set_as_current=False)


def test_models_are_sent_as_data_and_are_models_in_the_task(app: Celery) -> None:
    @app.task(pydantic=True, bind=True)
    def double(self: Any, span: Span, factor: int = 2, other: Span | None = None) -> Span | None:
        assert self.name == double.name
        assert isinstance(span, Span)
        return Span(value=span.value * factor + (other.value if other else timedelta()))

    day = Span(value=timedelta(days=1))
    assert double.delay(day).get() == {'value': 'P2D'}
    assert double.delay(span=day, other=day).get() == {'value': 'P3D'}
    assert double.apply_async((day,), {'other': None}).get() == {'value': 'P2D'}
    assert double.s(factor=3).clone((day,)).delay().get() == {'value': 'P3D'}
    assert double.delay({'value': 'P1D'}, 4).get() == {'value': 'P4D'}
    assert double(day) == {'value': 'P2D'}
    with pytest.raises(TypeError):
        double.delay()
    assert double.delay({'value': 'soon'}).failed()


def test_data_that_would_not_be_the_same_model_is_left_to_the_serializer(app: Celery) -> None:
    @app.task(pydantic=True)
    def keep(secret: Secret, *rest: Any, **named: Any) -> None: ...

    for call in (lambda: keep.delay(Secret(secret='x')), lambda: keep.delay({'secret': 'x'}, Secret(secret='x')),
                 lambda: keep.delay({'secret': 'x'}, other=Secret(secret='x'))):
        with pytest.raises(EncodeError):
            call()


def test_options_say_how_models_are_validated_and_dumped(app: Celery) -> None:
    seen: list[Any] = []

    class Seen(pydantic.BaseModel):
        number: float
        note: str = ''

        @pydantic.field_validator('number')
        @classmethod
        def note_context(cls, value: Any, info: Any) -> Any:
            seen.append(info.context)
            return value

    def echo(seen: Seen) -> Seen:
        return seen
    echo.__annotations__.update(seen=Seen, **{'return': Seen})
    lax = app.task(pydantic=True, name='lax', pydantic_context={'a': 1}, pydantic_dump_kwargs={'exclude_unset': True})
    strict = app.task(pydantic=True, name='strict', pydantic_strict=True)
    assert lax(echo).delay({'number': '1'}).get() == {'number': 1.0}
    assert seen == [{'a': 1, 'celery_app': app, 'celery_task_name': 'lax'}]
    assert strict(echo).delay({'number': '1'}).failed()


def test_without_pydantic_the_task_says_what_is_missing(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'pydantic', None)
    with pytest.raises(ImproperlyConfigured, match='install pydantic'):
        app.task(pydantic=True)(lambda: None).name
