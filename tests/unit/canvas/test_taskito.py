"""Taskito's spelling: ``canvas.apply(app)``, ``chunks(chunk_size=)``, ``starmap``, and handles that are waited on."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from canvaslite import Celery, chain, chord, chunks, group, starmap, xstarmap
from canvaslite.result import AsyncResult, EagerResult, GroupResult
from canvaslite.utils.uuid import uuid


@pytest.fixture
def eager() -> Iterator[Celery]:
    with Celery('eager', broker='memory://', backend='cache+memory://', set_as_current=False) as app:
        app.conf.update(task_always_eager=True, task_default_queue=f'eager-{uuid()}')

        @app.task(name='add')
        def add(x: Any, y: Any) -> Any:
            return x + y

        @app.task(name='collect')
        def collect(values: Any) -> Any:
            return values
        yield app


def test_applied_to_an_app_every_canvas_returns_a_handle(app: Celery) -> None:
    add = app.tasks['add']
    canvases: list[Callable[[], Any]] = [
        lambda: add.s(1, 2), lambda: chain(add.s(1, 2), add.s(3)), lambda: add.map([1, 2]),
        lambda: chord([add.s(1, 2)], add.si(1, 1)),
    ]
    for canvas in canvases:
        handle = canvas().apply(app)
        assert isinstance(handle, AsyncResult)
        assert callable(handle.result)
        assert handle.state == 'PENDING', 'it was sent, not run'
    for many in (group(add.s(1, 2), add.s(3, 4)), add.chunks([(1, 2), (3, 4)], 1), starmap(add, [(1, 2), (3, 4)])):
        handles = many.apply(app)
        assert isinstance(handles, GroupResult)
        assert len(handles) == 2
        assert all(callable(handle.result) for handle in handles)


def test_applied_to_an_app_an_empty_canvas_is_nothing(app: Celery) -> None:
    assert chain().apply(app) is None
    assert group().apply(app).result(timeout=1) == []


def test_applied_to_arguments_a_canvas_runs_here_and_now(app: Celery) -> None:
    add = app.tasks['add']
    assert add.s(2).apply((1,)).get() == 3
    assert add.s().apply([1, 2]).result == 3
    assert isinstance(add.s(1, 2).apply(), EagerResult)
    assert chain(add.s(2), add.s(3)).apply((1,)).get() == 6
    assert group(add.s(2), add.s(3)).apply((1,)).get() == [3, 4]


def test_a_handle_is_waited_on_where_tasks_run_eagerly(eager: Celery) -> None:
    add, collect = eager.tasks['add'], eager.tasks['collect']
    assert add.s(1, 2).apply(eager).result(timeout=1) == 3
    assert chain(add.s(1, 2), add.s(3)).apply(eager).result(timeout=1) == 6
    assert [job.result(timeout=1) for job in group(add.s(1, 2), add.s(3, 4)).apply(eager)] == [3, 7]
    assert chord(starmap(add, [(1, 2), (3, 4)]), collect.s()).apply(eager).result() == [3, 7]


def test_a_limit_of_running_members_means_one_after_the_other_where_tasks_run_eagerly(eager: Celery) -> None:
    add, collect = eager.tasks['add'], eager.tasks['collect']
    members = [add.s(n, n) for n in range(5)]
    assert group(members, max_concurrency=2).apply_async().get() == [0, 2, 4, 6, 8]
    assert group(members, max_concurrency=2).apply().get() == [0, 2, 4, 6, 8]
    assert chord(group(members, max_concurrency=2), collect.s()).apply(eager).result() == [0, 2, 4, 6, 8]


def test_a_handle_is_pickled(app: Celery) -> None:
    handle = app.tasks['add'].s(1, 2).apply(app)
    app.set_current()
    assert pickle.loads(pickle.dumps(handle)) == handle


def test_a_canvas_that_was_applied_can_be_applied_again(app: Celery) -> None:
    sig = app.tasks['add'].s(1, 2)
    assert sig.apply(app) != sig.apply(app)
    assert sig.options == {}


def test_a_signature_by_name_is_sent_by_the_app(app: Celery) -> None:
    sig = app.signature('add', (1, 2))
    sig._app = None
    assert sig.apply(app).app is app


def test_chunks_are_given_in_any_unambiguous_order(app: Celery) -> None:
    add, items = app.tasks['add'], [(1, 2), (3, 4), (5, 6)]
    expected = chunks(add.s(), items, 2)
    assert chunks(items, 2, add.s()) == chunks(add.s(), items, n=2) == expected
    assert chunks(add.s(), iter(items), 2).group() == group(xstarmap(add.s(), items[:2]), xstarmap(add.s(), items[2:]))


def test_chunks_of_a_chunk_size_are_calls_with_one_argument(app: Celery) -> None:
    add = app.tasks['add']
    made = chunks(add.s(9), iter(range(5)), chunk_size=2)
    assert isinstance(made, group)
    assert [member.args for member in made.tasks] == [([0, 1], 9), ([2, 3], 9), ([4], 9)]
    assert chunks(add, [1, 2], chunk_size=5, max_concurrency=3).options == {'max_concurrency': 3}
    with pytest.raises(ValueError, match='at least one'):
        chunks(add, [1, 2], chunk_size=0)


def test_starmap_makes_a_call_of_each_tuple(app: Celery) -> None:
    add = app.tasks['add']
    assert [member.args for member in starmap(add, iter([(1, 2), [3, 4]])).tasks] == [(1, 2), (3, 4)]
    assert isinstance(add.starmap([(1, 2)]), xstarmap), "Celery's stays one job"


def test_members_beyond_the_limit_wait_until_others_end(app: Celery, queue: Any) -> None:
    def windows() -> set[str]:
        queues = app.connection_for_read().default_channel.queues
        return {name for name in queues if 'window' in name and not name.endswith('.state')}

    add, others = app.tasks['add'], windows()
    results = group((add.s(n, n) for n in range(5)), max_concurrency=2).apply_async()
    assert len(queue.take()) == 2
    window, = windows() - others
    window = window.removeprefix('canvaslite.window.')
    app.publisher.end_member(window, results[0].id)
    app.publisher.end_member(window, results[0].id)
    assert [body[0] for body in queue.bodies()] == [[2, 2]], 'an end that is told twice makes room once'
    app.publisher.end_member(window, results[4].id)
    assert queue.bodies() == [], 'what did not run yet cannot end'


def test_the_broker_drops_no_member_that_has_expired(app: Celery, queue: Any) -> None:
    members = [app.tasks['add'].s(n, n).set(expires=100) for n in range(3)]
    group(members, max_concurrency=2).apply_async()
    messages = queue.take()
    assert [message.properties.get('expiration') for message in messages] == [None, None]
    assert all(message.headers['expires'] for message in messages)


def test_of_two_limits_the_lower_one_holds(app: Celery, queue: Any) -> None:
    add = app.tasks['add']
    inner = group((add.s(n, n) for n in range(4)), max_concurrency=1)
    group(inner, add.s(5, 5), add.s(6, 6), max_concurrency=3).apply_async()
    assert len(queue.take()) == 1
    group(inner, add.s(5, 5), add.s(6, 6)).apply_async()
    assert len(queue.take()) == 3


def test_a_retry_and_a_replacement_stay_in_their_members_place(value_of: Callable[..., Any], app: Celery) -> None:
    @app.task(name='again', bind=True, shared=False)
    def again(self: Any, n: int) -> Any:
        if self.request.retries == 0:
            raise self.retry(countdown=0, headers={'own': 'header'})
        return self.replace(chain(app.tasks['add'].si(n, n), app.tasks['add'].s(1)))

    members = [again.s(n) for n in range(4)]
    assert value_of(group(members, max_concurrency=1)) == [1, 3, 5, 7]
