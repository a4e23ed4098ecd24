"""Canvases in the place of a task, run by way of messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from canvaslite import Celery, chain, chord, group
from canvaslite.canvas.freezing import with_one_result


@pytest.mark.parametrize('which, value', [
    ('group of one', [['a']]),
    ('chord with a group as its body', [['b', [['a']]], ['c', [['a']]]]),
    ('chain ending in such a chord', [['b', [['a', ['d']]]], ['c', [['a', ['d']]]]]),
])
def test_a_member_of_a_header_replaced_by_a_group_gives_its_list(
        app: Celery, s: Callable[..., Any], value_of: Callable[..., Any], which: str, value: Any) -> None:
    canvas = {
        'group of one': group([s('a')]),
        'chord with a group as its body': chord([s('a')], group(s('b'), s('c'))),
        'chain ending in such a chord': chain(s('d'), chord([s('a')], group(s('b'), s('c')))),
    }[which]

    @app.task(bind=True, name=which)
    def outer(self: Any) -> Any:
        return self.replace(canvas.clone())
    assert value_of(outer.s()) == value
    assert value_of(chord([outer.s(), s('o')], s('end'))) == ['end', [value, ['o']]]


def test_what_joins_a_group_that_replaces_a_task_belongs_to_the_app_of_the_group(app: Celery) -> None:
    with Celery('other'):  # the current one
        joined = with_one_result(group(app.tasks['add'].s(1, 1), app.tasks['add'].s(2, 2)))
    assert joined.body.app is app
