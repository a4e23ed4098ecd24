"""Results as messages, over a real broker."""

from __future__ import annotations

import importlib
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from kombu.exceptions import ContentDisallowed

from canvaslite import Celery
from canvaslite.context import Context
from canvaslite.exceptions import TimeoutError


@pytest.fixture
def app(broker_url: str) -> Any:
    return Celery('rpc', broker=broker_url, backend='rpc://', set_as_current=False)


def send(app: Any) -> Context:
    """Prepare for a task's result, as sending it does; return the request that its worker gets."""
    task_id = str(uuid.uuid4())
    app.backend.on_task_call(None, task_id)
    return Context(id=task_id, reply_to=app.thread_oid, correlation_id=task_id)


def answer(app: Any, request: Any, value: Any) -> None:
    app.backend.mark_as_done(request.id, value, request)


def test_the_sender_alone_reads_the_result(app: Any, broker_url: str) -> None:
    request = send(app)
    worker = Celery('worker', broker=broker_url, backend='rpc://', set_as_current=False)

    answer(worker, request, 42)

    with pytest.raises(TimeoutError):
        worker.AsyncResult(request.id).get(timeout=0.2)
    assert app.AsyncResult(request.id).get(timeout=30) == 42
    assert app.AsyncResult(request.id).get(timeout=30) == 42


def test_a_result_nobody_asked_for_is_sent_to_nobody(app: Any) -> None:
    app.backend.mark_as_done('id', 1, Context(id='id'))


def test_a_thread_reads_what_comes_for_another_one(app: Any) -> None:
    mine, theirs = send(app), []
    got: dict[str, Any] = {}
    is_sent = threading.Event()

    def other() -> None:
        theirs.append(send(app))
        is_sent.set()
        got['other'] = app.AsyncResult(theirs[0].id).get(timeout=60)

    thread = threading.Thread(target=other)
    thread.start()
    is_sent.wait()
    # The other thread is reading by now, or will be: whichever it is, each gets its own.
    answer(app, mine, 'mine')
    answer(app, theirs[0], 'theirs')
    got['mine'] = app.AsyncResult(mine.id).get(timeout=60)
    thread.join(15)

    assert got == {'mine': 'mine', 'other': 'theirs'}


def test_a_connection_closed_while_waiting_is_opened_again(app: Any, rabbitmqctl: Callable[..., str]) -> None:
    first, second = send(app), send(app)
    answer(app, first, 1)
    assert app.AsyncResult(first.id).get(timeout=30) == 1
    waits = threading.Event()
    seen = []

    def close_and_answer() -> None:
        waits.wait()
        rabbitmqctl('close_all_connections', 'test')
        # The queue goes with its reader; it is back once somebody has read again.
        waits.clear()
        waits.wait()
        answer(app, second, 2)

    def notice() -> None:
        seen.append(1)
        waits.set()

    thread = threading.Thread(target=close_and_answer)
    thread.start()
    assert app.AsyncResult(second.id).get(timeout=20, on_interval=notice) == 2
    thread.join()


def test_a_task_sent_after_the_connection_was_closed_is_answered(app: Any, rabbitmqctl: Callable[..., str]) -> None:
    first = send(app)
    answer(app, first, 1)
    assert app.AsyncResult(first.id).get(timeout=30) == 1

    rabbitmqctl('close_all_connections', 'test')
    second = send(app)
    answer(app, second, 2)

    assert app.AsyncResult(second.id).get(timeout=60) == 2


def test_a_result_whose_content_is_refused_is_an_error_and_not_a_wait(app: Any, broker_url: str) -> None:
    request = send(app)
    worker = Celery('worker', broker=broker_url, backend='rpc://', set_as_current=False,
                    changes={'result_serializer': 'pickle', 'result_accept_content': ['pickle']})

    answer(worker, request, {1, 2})

    with pytest.raises(ContentDisallowed):
        app.AsyncResult(request.id).get(timeout=30)


def test_celery_and_we_answer_each_other(app: Any, broker_url: str) -> None:
    celery = importlib.import_module('celery')
    theirs = celery.Celery('theirs', broker=broker_url, backend='rpc://', set_as_current=False)
    ours_asked, task_id = send(app), str(uuid.uuid4())
    with theirs.producer_or_acquire() as producer:
        theirs.backend.on_task_call(producer, task_id)

    theirs.backend.mark_as_done(ours_asked.id, {'a': 1}, celery.app.task.Context(
        id=ours_asked.id, reply_to=ours_asked.reply_to, correlation_id=ours_asked.id))
    app.backend.mark_as_failure(task_id, ValueError('wrong'), 'Traceback: …', request=Context(
        id=task_id, reply_to=theirs.thread_oid, correlation_id=task_id))

    assert app.AsyncResult(ours_asked.id).get(timeout=30) == {'a': 1}
    with pytest.raises(ValueError, match='wrong'):
        theirs.AsyncResult(task_id).get(timeout=30)
    theirs.close()
