"""How a result is awaited, on every store."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest

from canvaslite import states
from canvaslite.exceptions import TimeoutError
from canvaslite.result import GroupResult

from .conftest import ALL, CROSSING, on

fork = multiprocessing.get_context('fork')


def in_a_thread(function, *args, after=0.1):
    timer = threading.Timer(after, function, args)
    timer.start()
    return timer


@on(ALL)
def test_get_waits_for_a_result_that_another_thread_stores(app, sent, request_of):
    task_id = sent()
    request = request_of(task_id)
    storing = in_a_thread(app.backend.mark_as_done, task_id, 'value', request)

    assert app.AsyncResult(task_id).get(timeout=60) == 'value'
    storing.join()


@on(CROSSING)
def test_get_waits_for_a_result_that_another_process_stores(app, sent, request_of):
    task_id = sent()
    request = request_of(task_id)
    assert app.AsyncResult(task_id).state == states.PENDING  # the parent has a connection, which the child must not use

    worker = fork.Process(target=app.backend.mark_as_done, args=(task_id, 'from a child', request))
    worker.start()

    assert app.AsyncResult(task_id).get(timeout=60) == 'from a child'
    worker.join(10)
    assert worker.exitcode == 0
    assert app.AsyncResult(sent()).state == states.PENDING  # and which works as before


@pytest.mark.alone
@on(ALL)
def test_get_returns_soon_after_the_result_is_there(app, sent, request_of):
    task_id = sent()
    request = request_of(task_id)
    stored = []

    def store():
        app.backend.mark_as_done(task_id, 1, request)
        stored.append(time.monotonic())

    storing = in_a_thread(store, after=0.3)
    app.AsyncResult(task_id).get(timeout=60)
    late = time.monotonic() - (stored[0] if stored else time.monotonic())
    storing.join()

    assert late < 0.25


@on(ALL)
@pytest.mark.parametrize('timeout', [0, 0.05, 0.3])
def test_get_gives_up_in_time(app, sent, timeout):
    task_id = sent()
    begun = time.monotonic()

    with pytest.raises(TimeoutError):
        app.AsyncResult(task_id).get(timeout=timeout)

    assert timeout <= time.monotonic() - begun < timeout + 2


@on(ALL)
def test_several_threads_wait_at_once_each_for_its_own(app, sent, request_of):
    tasks = [sent() for _ in range(8)]
    requests = [request_of(task_id) for task_id in tasks]
    got = {}

    def wait(task_id):
        got[task_id] = app.AsyncResult(task_id).get(timeout=60)

    # The queue of an rpc reply is the sender's: what the threads wait for, this thread has sent.
    threads = [threading.Thread(target=wait, args=(task_id,)) for task_id in tasks]
    for thread in threads:
        thread.start()
    for number, request in reversed(list(enumerate(requests))):
        app.backend.mark_as_done(request.id, number, request)
    for thread in threads:
        thread.join(15)

    assert got == dict(zip(tasks, range(8), strict=True))


@on(ALL)
def test_a_group_is_joined_in_its_order_whatever_the_order_of_the_results(app, sent, request_of):
    tasks = [sent() for _ in range(20)]
    group = GroupResult(sent(), [app.AsyncResult(task_id) for task_id in tasks], app=app)
    requests = [request_of(task_id) for task_id in tasks]

    def store():
        for number, request in sorted(enumerate(requests), key=lambda pair: pair[1].id):
            app.backend.mark_as_done(request.id, number, request)

    storing = in_a_thread(store, after=0.05)

    assert group.get(timeout=60) == list(range(20))
    assert group.successful()
    storing.join()


@on(ALL)
def test_a_group_with_a_failed_member_raises_its_error(app, sent, request_of):
    tasks = [sent() for _ in range(3)]
    group = GroupResult(sent(), [app.AsyncResult(task_id) for task_id in tasks], app=app)
    app.backend.mark_as_done(tasks[0], 0, request_of(tasks[0]))
    app.backend.mark_as_failure(tasks[1], ValueError('the second'), request=request_of(tasks[1]))
    app.backend.mark_as_done(tasks[2], 2, request_of(tasks[2]))

    with pytest.raises(ValueError, match='the second'):
        group.get(timeout=60)
    values = group.get(timeout=10, propagate=False)
    assert values[0] == 0 and isinstance(values[1], ValueError) and values[2] == 2
    assert group.failed()


@on(ALL)
def test_a_group_that_is_not_complete_times_out(app, sent, request_of):
    tasks = [sent() for _ in range(3)]
    group = GroupResult(sent(), [app.AsyncResult(task_id) for task_id in tasks], app=app)
    app.backend.mark_as_done(tasks[0], 0, request_of(tasks[0]))

    with pytest.raises(TimeoutError):
        group.get(timeout=0.2)


@on(ALL)
def test_a_callback_on_a_result_is_called_with_it(app, sent, request_of):
    task_id = sent()
    result = app.AsyncResult(task_id)
    told = []
    result.then(told.append)
    storing = in_a_thread(app.backend.mark_as_done, task_id, 'value', request_of(task_id), after=0.05)

    result.get(timeout=60)
    storing.join()

    assert told == [result]


@on(ALL)
def test_who_waits_is_asked_at_intervals(app, sent):
    asked = []

    with pytest.raises(TimeoutError):
        app.AsyncResult(sent()).get(timeout=0.2, interval=0.05, on_interval=lambda: asked.append(1))

    assert asked
