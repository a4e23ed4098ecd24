"""What every result store does with a result."""

from __future__ import annotations

import multiprocessing
import pickle
import time
import uuid
from typing import Any

import pytest
from kombu.exceptions import EncodeError

from canvaslite import states
from canvaslite.exceptions import ChordError, MaxRetriesExceededError, TaskRevokedError
from canvaslite.result import GroupResult

from .conftest import ALL, KEEPING, SHARED, on

fork = multiprocessing.get_context('fork')

VALUES = [None, True, 0, -1.5, 'text', 'Größe ☃ \U0001f600', [], [1, [2, None]], {}, {'a': {'b': [1]}}, 'x' * 300_000]


class Unusual(Exception):
    """An exception with two arguments."""

    def __init__(self, one: Any, two: Any) -> None:
        super().__init__(one, two)


@on(ALL)
def test_a_task_nobody_has_heard_of_is_pending(app, sent):
    result = app.AsyncResult(sent())

    assert result.state == states.PENDING
    assert result.result is None
    assert not result.ready()


@on(ALL)
@pytest.mark.parametrize('value', VALUES, ids=lambda value: repr(value)[:20])
def test_a_stored_result_is_read_back(app, sent, request_of, value):
    task_id = sent()

    app.backend.mark_as_done(task_id, value, request_of(task_id))

    result = app.AsyncResult(task_id)
    assert result.get(timeout=5) == value
    assert result.state == states.SUCCESS


@on(SHARED)
def test_another_client_reads_the_result(app, make_app, sent):
    task_id = sent()

    app.backend.mark_as_done(task_id, {'answer': 42})

    assert make_app().AsyncResult(task_id).get(timeout=5) == {'answer': 42}


@on(ALL)
def test_a_state_is_seen_with_what_came_with_it(app, sent, request_of):
    task_id = sent()

    app.backend.store_result(task_id, {'done': 1, 'of': 3}, 'PROGRESS', request=request_of(task_id))

    result = app.AsyncResult(task_id)
    assert becomes(lambda: result.state, 'PROGRESS')
    assert result.info == {'done': 1, 'of': 3}
    assert not result.ready()


@on(ALL)
def test_a_later_state_takes_the_place_of_an_earlier_one(app, sent, request_of):
    task_id = sent()
    request = request_of(task_id)

    app.backend.store_result(task_id, {'pid': 1}, states.STARTED, request=request)
    app.backend.mark_as_retry(task_id, ValueError('again'), 'traceback', request=request)
    result = app.AsyncResult(task_id)
    assert becomes(lambda: result.state, states.RETRY)
    assert isinstance(result.info, ValueError)
    app.backend.mark_as_done(task_id, 'at last', request)

    assert result.get(timeout=5) == 'at last'


@on(KEEPING)
def test_a_success_is_final(app, make_app, sent):
    task_id = sent()

    app.backend.mark_as_done(task_id, 'first')
    app.backend.mark_as_failure(task_id, ValueError('a copy that failed'))
    app.backend.store_result(task_id, None, states.STARTED)
    app.backend.mark_as_done(task_id, 'second')

    result = make_app().AsyncResult(task_id)
    assert (result.state, result.result) == (states.SUCCESS, 'first')


@on(KEEPING)
@pytest.mark.parametrize('end', [states.SUCCESS, states.FAILURE, states.REVOKED])
def test_a_run_that_was_retried_is_recorded_no_later_than_the_end_of_the_retry(app, make_app, sent, end):
    task_id = sent()

    app.backend.store_result(task_id, 'the end' if end == states.SUCCESS else ValueError('the end'), end)
    app.backend.mark_as_retry(task_id, ValueError('again'), 'traceback')

    result = make_app().AsyncResult(task_id)
    assert (result.state, str(result.result)) == (end, 'the end')


@on(KEEPING)
def test_a_success_takes_the_place_of_a_failure(app, make_app, sent):
    task_id = sent()

    app.backend.mark_as_failure(task_id, ValueError('lost'), 'traceback')
    app.backend.mark_as_done(task_id, 'found')

    assert make_app().AsyncResult(task_id).get(timeout=5) == 'found'


@on(ALL)
@pytest.mark.parametrize('error', [
    ValueError('wrong'), KeyError('key'), Unusual(1, 'two'), ChordError('header'), MaxRetriesExceededError('enough'),
    Exception(), OSError(2, 'no such file'),
], ids=repr)
def test_an_exception_comes_back_as_it_was(app, sent, request_of, error):
    task_id = sent()

    app.backend.mark_as_failure(task_id, error, 'Traceback: …', request=request_of(task_id))

    result = app.AsyncResult(task_id)
    with pytest.raises(type(error)) as caught:
        result.get(timeout=5)
    assert type(caught.value) is type(error)
    assert caught.value.args == error.args
    assert result.state == states.FAILURE
    assert result.traceback == 'Traceback: …'


@on(ALL)
def test_an_exception_whose_class_is_not_here_comes_back_under_its_name(app, sent, request_of):
    task_id = sent()
    made_elsewhere = type('FromElsewhere', (Exception,), {'__module__': 'not.loaded.here'})

    app.backend.mark_as_failure(task_id, made_elsewhere('text'), request=request_of(task_id))

    with pytest.raises(Exception, match='text') as caught:
        app.AsyncResult(task_id).get(timeout=5)
    assert type(caught.value).__name__ == 'FromElsewhere'


@on(ALL)
def test_what_an_exception_holds_is_kept_as_text_where_it_cannot_be_written(app, sent, request_of):
    task_id = sent()

    app.backend.mark_as_failure(task_id, ValueError(object()), request=request_of(task_id))

    with pytest.raises(ValueError, match='object object at'):
        app.AsyncResult(task_id).get(timeout=5)


@on(ALL)
def test_a_result_that_cannot_be_written_is_an_error_at_once(app, sent, request_of):
    task_id = sent()

    with pytest.raises(EncodeError):
        app.backend.mark_as_done(task_id, object(), request_of(task_id))


@on(ALL)
def test_a_revoked_task_raises(app, sent, request_of):
    task_id = sent()

    app.backend.mark_as_revoked(task_id, 'not needed', request=request_of(task_id))

    result = app.AsyncResult(task_id)
    with pytest.raises(TaskRevokedError, match='not needed'):
        result.get(timeout=5)
    assert result.state == states.REVOKED


@on(KEEPING)
def test_a_final_state_has_its_date_and_others_have_none(app, make_app, sent):
    started, done = sent(), sent()

    app.backend.store_result(started, None, states.STARTED)
    app.backend.mark_as_done(done, 1)

    assert make_app().backend.get_task_meta(started)['date_done'] is None
    assert make_app().AsyncResult(done).date_done is not None


@on(KEEPING)
def test_children_are_kept_with_the_result(app, make_app, sent, request_of):
    parent, child = sent(), sent()
    request = request_of(parent)
    request.children.append(app.AsyncResult(child))

    app.backend.mark_as_done(parent, 1, request)

    assert [result.id for result in make_app().AsyncResult(parent).children] == [child]


@on(KEEPING, result_extended=True)
def test_an_extended_result_tells_what_ran(app, make_app, sent, request_of):
    task_id = sent()
    request = request_of(task_id, task='proj.add', args=[1, 2], kwargs={'z': 3}, hostname='node@host', retries=2,
                         delivery_info={'routing_key': 'fast'})

    app.backend.mark_as_done(task_id, 3, request)

    result = make_app().AsyncResult(task_id)
    assert (result.name, result.args, result.kwargs) == ('proj.add', [1, 2], {'z': 3})
    assert (result.worker, result.retries, result.queue) == ('node@host', 2, 'fast')


@on(KEEPING, result_extended=True)
def test_stamps_are_kept_with_an_extended_result(app, make_app, sent, request_of):
    task_id = sent()
    request = request_of(task_id, task='t', stamped_headers=['customer'], stamps={'customer': 'A'}, delivery_info={})

    app.backend.mark_as_done(task_id, 1, request)

    meta = make_app().backend.get_task_meta(task_id)
    assert meta['stamped_headers'] == ['customer']
    assert meta['customer'] == 'A'


@on(KEEPING)
def test_a_forgotten_task_is_pending_again(app, make_app, sent):
    task_id = sent()
    app.backend.mark_as_done(task_id, 1)

    app.AsyncResult(task_id).forget()
    app.backend.forget('never-heard-of')

    assert make_app().AsyncResult(task_id).state == states.PENDING


@on(KEEPING)
def test_many_results_are_read_in_one_look(app, make_app, sent):
    ids = [sent() for _ in range(30)]
    for number, task_id in enumerate(ids[:20]):
        app.backend.mark_as_done(task_id, number)

    metas = make_app().backend.get_task_metas(ids)

    assert {task_id: metas[task_id]['result'] for task_id in metas} == dict(zip(ids, range(20), strict=False))


@on(KEEPING)
def test_a_saved_group_is_restored_in_its_order(app, make_app, sent):
    members = [app.AsyncResult(sent()) for _ in range(5)]
    inner = GroupResult(sent(), [app.AsyncResult(sent())], app=app)
    group = GroupResult(sent(), [*members, inner], app=app)

    group.save(backend=app.backend)

    restored = GroupResult.restore(group.id, backend=make_app().backend, app=app)
    assert restored == group
    assert [result.id for result in restored.results] == [result.id for result in group.results]
    assert isinstance(restored.results[-1], GroupResult)


@on(KEEPING)
def test_a_group_may_be_saved_again_and_deleted(app, make_app, sent):
    group = GroupResult(sent(), [app.AsyncResult(sent())], app=app)
    group.save(backend=app.backend)
    group.results.append(app.AsyncResult(sent()))
    group.save(backend=app.backend)
    assert len(make_app().backend.restore_group(group.id)) == 2

    group.delete(backend=app.backend)

    assert make_app().backend.restore_group(group.id) is None
    assert app.backend.restore_group('never-heard-of') is None


@on(KEEPING, result_expires=1)
def test_an_expired_result_is_gone_after_the_cleanup(app, make_app, sent):
    task_id = sent()
    app.backend.mark_as_done(task_id, 1)
    assert make_app().AsyncResult(task_id).state == states.SUCCESS

    def state():
        app.backend.cleanup()
        return make_app().AsyncResult(task_id).state

    assert becomes(state, states.PENDING)


@on(KEEPING, result_expires=None)
def test_what_does_not_expire_survives_the_cleanup(app, make_app, sent):
    task_id = sent()
    app.backend.mark_as_done(task_id, 1)

    app.backend.cleanup()

    assert make_app().AsyncResult(task_id).state == states.SUCCESS


@on(KEEPING, result_serializer='pickle', result_accept_content=['pickle'])
def test_pickled_results_keep_their_types(app, make_app, sent):
    task_id, failed = sent(), sent()

    app.backend.mark_as_done(task_id, {1, (2, 3)})
    app.backend.mark_as_failure(failed, Unusual(1, {2}))

    assert make_app().AsyncResult(task_id).get(timeout=5) == {1, (2, 3)}
    with pytest.raises(Unusual) as caught:
        make_app().AsyncResult(failed).get(timeout=5)
    assert caught.value.args == (1, {2})


@on(ALL)
def test_a_backend_that_was_pickled_is_the_same_store(app, sent, request_of):
    task_id = sent()
    copy = pickle.loads(pickle.dumps(app.backend))

    copy.mark_as_done(task_id, 'through the copy', request_of(task_id))

    assert app.AsyncResult(task_id).get(timeout=5) == 'through the copy'


def becomes(read, expected, timeout=5.0):
    """Whether `read()` is `expected` within `timeout` seconds."""
    until = time.monotonic() + timeout
    while (value := read()) != expected:
        if time.monotonic() > until:
            raise AssertionError(f'still {value!r}, not {expected!r}, after {timeout} s')
        time.sleep(0.01)
    return True


@on(SHARED)
def test_a_retry_and_the_end_of_the_task_that_are_stored_at_once_leave_the_end(app):
    ids, meet = [str(uuid.uuid4()) for _ in range(60)], fork.Barrier(2)

    def store(state):
        for task_id in ids:
            meet.wait(20)
            app.backend.store_result(task_id, ValueError('again') if state == states.RETRY else 1, state)

    writers = [fork.Process(target=store, args=(state,)) for state in (states.RETRY, states.SUCCESS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert [writer.exitcode for writer in writers] == [0, 0]
    assert {app.backend.get_state(task_id) for task_id in ids} == {states.SUCCESS}
