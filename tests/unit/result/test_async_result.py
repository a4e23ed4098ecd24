from __future__ import annotations

import copy
import datetime
import json
import pickle
import threading

import pytest

from canvaslite import states
from canvaslite.context import Context
from canvaslite.exceptions import IncompleteStream, TimeoutError
from canvaslite.result import (
    AsyncResult,
    EagerResult,
    GroupResult,
    allow_join_result,
    denied_join_result,
    result_from_tuple,
)


def test_an_unknown_task_is_pending_and_says_nothing_else(app):
    result = app.AsyncResult('unknown')
    assert (result.state, result.status, result.result, result.info) == ('PENDING', 'PENDING', None, None)
    assert not (result.ready() or result.successful() or result.failed() or result.exists())
    assert result.traceback is result.children is result.name is result.date_done is None


def test_a_result_needs_an_id(app):
    with pytest.raises(ValueError):
        AsyncResult(None, app=app)


def test_get_returns_the_value_and_tells_the_callback(stored):
    result = stored({'a': [1, None]})
    told = []
    assert result.get(callback=lambda task_id, value: told.append((task_id, value))) == {'a': [1, None]}
    assert told == [(result.id, {'a': [1, None]})]
    assert result.successful() and result.exists()
    assert isinstance(result.date_done, datetime.datetime)


def test_get_raises_the_error_unless_told_not_to(stored):
    result = stored(KeyError('brown'))
    with pytest.raises(KeyError, match='brown'):
        result.get()
    with pytest.raises(KeyError, match='brown'):
        result.get()  # also when it is known already
    assert isinstance(result.get(propagate=False), KeyError)
    assert result.failed() and result.traceback == 'the traceback'


def test_a_retried_task_is_not_ready_but_shows_its_error(stored):
    result = stored(KeyError('red'), states.RETRY)
    assert not result.ready()
    assert isinstance(result.result, KeyError)
    with pytest.raises(TimeoutError):
        result.get(timeout=0.01)


def test_get_times_out(app):
    with pytest.raises(TimeoutError, match='timed out'):
        app.AsyncResult('never').get(timeout=0.01)
    with pytest.raises(TimeoutError):
        app.AsyncResult('never').get(timeout=0)


def test_an_ignored_result_is_none_at_once(app):
    result = app.AsyncResult('ignored')
    result.ignored = True
    assert result.get() is None


def test_get_inside_a_task_is_refused(stored):
    result = stored(1)
    with denied_join_result():
        with pytest.raises(RuntimeError, match='Never call'):
            result.get()
        assert result.get(disable_sync_subtasks=False) == 1
        with allow_join_result():
            assert result.get() == 1
        with pytest.raises(RuntimeError):
            result.get()


def test_the_error_of_the_first_failed_parent_is_raised(app, stored):
    first = stored(ValueError('first'))
    second = stored(KeyError('second'), parent=first)
    last = stored(TypeError('last'), parent=second)
    with pytest.raises(ValueError, match='first'):
        last.get()
    with pytest.raises(TypeError, match='last'):
        app.AsyncResult(last.id, parent=second).get(follow_parents=False)


def test_a_failed_parent_ends_the_wait_for_a_task_that_will_never_run(app, stored):
    waiting = app.AsyncResult('never runs', parent=stored(ValueError('parent')))
    with pytest.raises(ValueError, match='parent'):
        waiting.get(timeout=5)


def test_a_failed_member_of_a_parent_group_is_its_error(app, stored):
    header = GroupResult('header', [stored(1), stored(ValueError('member'))], app=app)
    with pytest.raises(ValueError, match='member'):
        stored(TypeError('body'), parent=header).get()


def test_parents_are_followed_however_many_they_are(app, stored):
    result = stored(0)
    for value in range(3000):
        result = app.AsyncResult(f'{value}', parent=result)
    result = stored('end', parent=result)
    assert result.get() == 'end'
    assert len(result.as_list()) == 3002
    assert len(result.root.as_list()) == 1
    assert result_from_tuple(result.as_tuple(), app).as_list() == result.as_list()


def test_then_is_called_when_the_result_arrives(app, stored):
    seen = []
    stored(5).then(seen.append)
    later = app.AsyncResult('later')
    later.then(seen.append)
    threading.Timer(0.05, app.backend.store_result, ('later', 7, states.SUCCESS)).start()
    assert app.AsyncResult('later').get(timeout=5) == 7
    assert later.ready()
    assert [result.get() for result in seen if result.ready()][-1] == 7


def test_the_tree_of_results_is_walked_breadth_first(app, stored):
    leaves = [stored(n) for n in range(2)]
    request = Context(id='parent')
    request.children.extend(leaves)
    app.backend.store_result('parent', 'p', states.SUCCESS, request=request)
    parent = app.AsyncResult('parent')
    assert parent.children == leaves
    assert [node for _, node in parent.iterdeps()] == [parent, *leaves]
    assert list(parent.collect()) == [(parent, 'p'), (leaves[0], 0), (leaves[1], 1)]
    assert parent.get_leaf() == 1
    assert parent.graph.topsort()[-1] == parent
    assert parent.graph[parent] == leaves
    with pytest.raises(IncompleteStream):
        list(app.AsyncResult('unfinished').iterdeps())
    assert len(list(app.AsyncResult('unfinished').iterdeps(intermediate=True))) == 1


def test_extended_results_describe_the_task(app):
    app.conf.result_extended = True
    request = Context(id='x', task='proj.add', args=[1], kwargs={'b': 2}, hostname='w@h', retries=1,
                      delivery_info={'routing_key': 'celery'}, stamps={'tenant': 7}, stamped_headers=['tenant'])
    app.backend.store_result('x', 3, states.SUCCESS, request=request)
    result = app.AsyncResult('x')
    assert (result.name, result.args, result.kwargs) == ('proj.add', [1], {'b': 2})
    assert (result.worker, result.retries, result.queue) == ('w@h', 1, 'celery')
    assert app.backend.get_task_meta('x')['tenant'] == 7


def test_forget_removes_the_result_and_its_parents(app, stored):
    parent = stored(1)
    result = stored(2, parent=parent)
    result.forget()
    assert result.state == parent.state == states.PENDING


def test_results_are_values(app):
    one, same, other = app.AsyncResult('1'), app.AsyncResult('1'), app.AsyncResult('2')
    assert one == same == '1' and one != other and one != object()
    assert len({one, same, other}) == 2
    assert (str(one), repr(one)) == ('1', '<AsyncResult: 1>')
    assert copy.copy(one) == one
    assert one.task_id == '1'


def test_results_survive_json_and_pickle(app, stored):
    result = stored(1, parent=app.AsyncResult('parent'))
    again = result_from_tuple(json.loads(json.dumps(result.as_tuple())), app)
    assert again == result and again.parent == result.parent
    app.set_current()
    assert pickle.loads(pickle.dumps(result)) == result


def test_an_eager_result_is_ready_and_raises_its_error(app):
    assert EagerResult('1', 42, states.SUCCESS, name='t').get() == 42
    failed = EagerResult('2', KeyError('foo'), states.FAILURE)
    with pytest.raises(KeyError):
        failed.get()
    assert isinstance(failed.get(propagate=False), KeyError)
    assert failed.ready() and failed.failed() and not failed.successful()
    failed.revoke()
    assert failed.state == states.REVOKED
    assert copy.copy(failed).state == states.REVOKED
    seen = []
    failed.then(seen.append)
    assert seen == [failed]


@pytest.mark.parametrize('parents', [{'retried': 'retried'}, {'first': 'replaced', 'replaced': 'first'}])
def test_a_task_that_comes_of_itself_is_walked_once(app, parents):
    for task_id, parent_id in parents.items():
        app.backend.store_result(task_id, 1, states.SUCCESS, request=Context(id=task_id, parent_id=parent_id))
    result = app.AsyncResult(max(parents))
    assert {node.id for _, node in result.iterdeps()} == {*parents}


def test_a_run_is_walked_from_the_first_task_that_the_store_knows(app):
    app.backend.store_result('child', 1, states.SUCCESS, request=Context(id='child', parent_id='ignores its result'))
    assert [node.id for _, node in app.AsyncResult('child').iterdeps()] == ['child']
