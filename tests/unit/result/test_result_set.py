from __future__ import annotations

import json
import pickle

import pytest

from canvaslite import states
from canvaslite.exceptions import ImproperlyConfigured, TimeoutError
from canvaslite.result import GroupResult, denied_join_result, result_from_tuple


@pytest.fixture
def group(app, stored):
    return app.GroupResult('g', [stored(n) for n in range(4)])


@pytest.mark.parametrize('method', ['get', 'join', 'join_native'])
def test_values_are_in_order_and_go_to_the_callback(group, method):
    assert getattr(group, method)() == [0, 1, 2, 3]
    told = {}
    assert not getattr(group, method)(callback=told.__setitem__)
    assert told == {result.id: n for n, result in enumerate(group)}


@pytest.mark.parametrize('method', ['get', 'join', 'join_native'])
def test_the_first_error_is_raised_or_left_in_its_place(app, stored, method):
    group = app.GroupResult('g', [stored(1), stored(ValueError('no'))])
    with pytest.raises(ValueError, match='no'):
        getattr(group, method)()
    values = getattr(group, method)(propagate=False)
    assert values[0] == 1 and isinstance(values[1], ValueError)


@pytest.mark.parametrize('method', ['get', 'join', 'join_native'])
def test_groups_in_groups_are_lists_in_lists(app, stored, method):
    inner = app.GroupResult('inner', [stored(2), app.GroupResult('innermost', [stored(3)])])
    assert getattr(app.GroupResult('outer', [stored(1), inner]), method)() == [1, [2, [3]]]


@pytest.mark.parametrize('method', ['get', 'join', 'join_native'])
def test_a_member_that_is_listed_twice_has_two_places(app, stored, method):
    result = stored(5)
    assert getattr(app.GroupResult('g', [result, result]), method)() == [5, 5]


@pytest.mark.parametrize('method', ['get', 'join', 'join_native'])
def test_the_timeout_is_for_all_together(app, stored, method):
    group = app.GroupResult('g', [stored(1), app.AsyncResult('never')])
    with pytest.raises(TimeoutError):
        getattr(group, method)(timeout=0.02)


def test_waiting_inside_a_task_is_refused(group):
    with denied_join_result():
        with pytest.raises(RuntimeError):
            group.get()
        assert group.get(disable_sync_subtasks=False) == [0, 1, 2, 3]


def test_join_refuses_on_message(group):
    with pytest.raises(ImproperlyConfigured):
        group.join(on_message=print)


def test_the_state_of_the_whole_follows_the_members(app, stored, group):
    assert group.ready() and group.successful() and not group.failed() and not group.waiting()
    assert group.completed_count() == 4
    mixed = app.ResultSet([stored(1), stored(ValueError()), app.AsyncResult('pending')])
    assert not mixed.ready() and mixed.failed() and mixed.waiting() and not mixed.successful()
    assert mixed.completed_count() == 1
    with pytest.raises(ValueError):
        mixed.maybe_throw()


def test_members_are_added_once_and_removed(app, stored):
    results = app.ResultSet([])
    one = stored(1)
    results.add(one)
    results.add(app.AsyncResult(one.id))
    results.update([one, app.AsyncResult('2')])
    assert [result.id for result in results] == [one.id, '2']
    results.remove('2')
    results.discard('2')
    with pytest.raises(KeyError):
        results.remove('2')
    assert len(results) == 1 and results[0] == one
    results.clear()
    assert list(results) == [] and results.get() == [] and results.supports_native_join is None


def test_then_waits_for_all_members_also_for_those_added_later(app, stored):
    results = app.ResultSet([stored(1)])
    first, second = [], []
    results.ready()
    results.then(first.append)
    assert len(first) == 1
    pending = app.AsyncResult('pending then ready')
    results.add(pending)
    results.then(second.append)
    assert second == []
    app.backend.store_result(pending.id, 2, states.SUCCESS)
    assert results.ready()
    assert len(second) == 1 and len(first) == 1


def test_a_group_is_saved_and_restored_with_its_parents(app, stored):
    group = app.GroupResult('saved', [stored(1), app.GroupResult('inner', [stored(2)])], parent=stored(0))
    group.save()
    restored = app.GroupResult.restore('saved')
    assert restored == group and restored.parent == group.parent
    assert GroupResult.restore('saved', app=app) == group
    assert restored.get() == [1, [2]]
    group.delete()
    assert app.GroupResult.restore('saved') is None


def test_an_empty_group_is_saved_too(app):
    app.GroupResult('empty', []).save()
    assert app.GroupResult.restore('empty').results == []


def test_groups_are_values(app, stored, group):
    assert group == app.GroupResult('g', list(group.results)) and group == 'g'
    assert group != app.GroupResult('g', list(group.results), parent=stored(1))
    assert group != app.GroupResult('h', list(group.results)) and group != object()
    assert group and not app.GroupResult()
    assert group.children is group.results and group[0] is group.results[0]
    assert str(group) == 'g' and hash(group) == hash('g') and repr(group).startswith('<GroupResult: g [')
    assert result_from_tuple(json.loads(json.dumps(group.as_tuple())), app) == group
    app.set_current()
    assert pickle.loads(pickle.dumps(group)) == group


def test_forget_removes_the_results_of_the_members(group):
    group.forget()
    assert all(result.state == states.PENDING for result in group)


def test_a_store_may_wait_and_fetch_in_its_own_way(app, stored):
    first, second = stored(1), stored(2)
    app.backend.get_many = lambda ids, **options: ((task_id, {'status': 'SUCCESS', 'result': 'own'}) for task_id in ids)
    app.backend.wait_for = lambda task_id, **options: {'status': 'SUCCESS', 'result': 'waited'}
    assert app.ResultSet([first, second]).join_native() == ['own', 'own']
    assert app.AsyncResult(first.id).get() == 'waited'
