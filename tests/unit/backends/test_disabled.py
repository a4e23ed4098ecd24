"""No result backend: nothing is kept, and who asks is told."""

from __future__ import annotations

import pytest

from canvaslite import Celery


@pytest.fixture(params=[None, 'disabled', 'disabled://'])
def app(request):
    return Celery('unit', broker='memory://', backend=request.param, set_as_current=False)


def test_storing_does_nothing(app):
    app.backend.mark_as_done('id', 1)
    app.backend.mark_as_failure('id', ValueError())
    assert app.backend.as_uri() == 'disabled://'


@pytest.mark.parametrize('ask', [
    lambda result: result.get(timeout=1), lambda result: result.state, lambda result: result.ready(),
    lambda result: result.result,
])
def test_asking_for_a_result_says_what_to_set(app, ask):
    with pytest.raises(NotImplementedError, match='result_backend'):
        ask(app.AsyncResult('id'))


def test_a_chord_is_refused_before_anything_is_sent(app):
    with pytest.raises(NotImplementedError, match='chords requires a result backend'):
        app.backend.apply_chord(('gid', []), {})
