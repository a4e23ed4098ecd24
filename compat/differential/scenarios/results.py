"""What results can be asked."""

from __future__ import annotations

import pickle
from typing import Any

from compat.differential.scenarios import scenario


@scenario
def ways_to_get(s: Any, c: Any, t: Any) -> None:
    good, bad = t.add.delay(1, 2), t.fail.delay('for get')
    chain = (t.add.s(1, 5) | t.fail_after.s('in a chain')).delay()
    s.settle()
    seen: list[Any] = []
    s.attempt('callback', lambda: good.get(timeout=5, callback=lambda id, value: seen.append((id, value))))
    s.attempt('on_message', lambda: good.get(timeout=5, on_message=lambda meta: seen.append(sorted(meta))))
    s.note('told', seen)
    s.attempt('propagated', lambda: bad.get(timeout=5))
    s.attempt('not propagated', lambda: bad.get(timeout=5, propagate=False))
    s.attempt('callback of a failure', lambda: bad.get(timeout=5, propagate=False, callback=lambda *a: seen.append(a)))
    s.attempt('chain', lambda: chain.get(timeout=5))
    s.attempt('parent of a chain', lambda: chain.parent.get(timeout=5))
    s.attempt('maybe_throw', lambda: bad.maybe_throw())
    s.attempt('maybe_throw without', lambda: bad.maybe_throw(propagate=False))
    s.attempt('wait', lambda: good.wait(timeout=5))
    s.attempt('in time', lambda: s.app.AsyncResult('nobody-knows').get(timeout=0.1))
    s.attempt('leaf', lambda: good.get_leaf())
    s.attempt('list', lambda: len(chain.as_list()))
    s.attempt('root', lambda: chain.root.id if hasattr(chain, 'root') else chain.parent.id)
    s.attempt('exists', lambda: [good.exists(), s.app.AsyncResult('nobody-knows').exists()])


@scenario
def ways_to_get_a_group(s: Any, c: Any, t: Any) -> None:
    group = c.group(t.add.s(1, 1), t.add.s(2, 2)).delay()
    failing = c.group(t.add.s(3, 3), t.fail.s('of a group')).delay()
    s.settle()
    seen: list[Any] = []
    s.attempt('get', lambda: group.get(timeout=5))
    s.attempt('join', lambda: group.join(timeout=5))
    s.attempt('join_native', lambda: group.join_native(timeout=5))
    s.attempt('callback', lambda: group.get(timeout=5, callback=lambda id, value: seen.append((id, value))))
    s.note('told', sorted(value for _, value in seen))
    s.attempt('failing', lambda: failing.get(timeout=5))
    s.attempt('failing, not propagated', lambda: failing.get(timeout=5, propagate=False))
    s.attempt('failing join, not propagated', lambda: failing.join(timeout=5, propagate=False))
    s.note('states', [group.ready(), group.successful(), group.failed(), group.waiting(), group.completed_count(),
                      failing.ready(), failing.successful(), failing.failed(), failing.completed_count()])
    s.attempt('iteration', lambda: [one.get(timeout=5) for one in group])
    s.attempt('members', lambda: [len(group), group[0].get(timeout=5), group.results[1] == group[1]])
    s.attempt('maybe_throw', failing.maybe_throw)
    s.attempt('iterate', lambda: sorted(meta['result'] for _, meta in group.iter_native(timeout=5)))
    s.attempt('children', lambda: [one.id for one in group.children])
    s.keep(group)


@scenario
def sets_of_results(s: Any, c: Any, t: Any) -> None:
    results = [t.add.delay(i, 1) for i in range(3)]
    s.settle()
    found = s.app.ResultSet(results[:2])
    found.add(results[2])
    found.add(results[2])
    s.attempt('get', lambda: found.get(timeout=5))
    found.remove(results[0])
    s.attempt('remove again', lambda: found.remove(results[0]))
    s.attempt('remove an unknown id', lambda: found.remove('unknown'))
    found.discard(results[0])
    found.update([results[0]])
    s.note('members', len(found))
    s.note('equal', [found == s.app.ResultSet(results), found == s.app.ResultSet([results[1], results[2], results[0]])])
    found.clear()
    s.attempt('empty', lambda: found.get(timeout=1))


@scenario
def saved_groups(s: Any, c: Any, t: Any) -> None:
    group = c.group(t.add.s(1, 1), t.add.s(2, 2)).apply_async(task_id='my-saved-group')
    nested = (t.add.s(1, 1) | c.group(t.add.s(3), t.add.s(4))).apply_async()
    s.settle()
    s.note('saved', group.save())
    nested.save()
    restored = s.app.GroupResult.restore('my-saved-group')
    s.note('restored', [type(restored).__name__, restored == group, restored.get(timeout=5)])
    again = s.app.GroupResult.restore(nested.id)
    s.note('nested', [again.parent == nested.parent, again.get(timeout=5), again])
    s.keep(restored)
    group.delete()
    s.attempt('deleted', lambda: s.app.GroupResult.restore('my-saved-group'))


@scenario
def forgotten_results(s: Any, c: Any, t: Any) -> None:
    task, group = t.add.delay(1, 2), c.group(t.add.s(2, 2), t.add.s(3, 3)).delay()
    chain = (t.add.s(4, 4) | t.add.s(5)).delay()
    s.settle()
    for name, result in (('task', task), ('group', group), ('chain', chain)):
        s.attempt(f'forget {name}', result.forget)
    s.note('afterwards', [task.state, group[0].state, chain.state, chain.parent.state])


@scenario
def results_as_values(s: Any, c: Any, t: Any) -> None:
    chain = (t.add.s(1, 1) | c.group(t.add.s(2), t.add.s(3)) | t.total.s() | t.add.s(4)).delay()
    group = c.group(t.add.s(11, 1), t.add.s(12, 1) | t.add.s(13)).delay()
    s.settle()
    for name, result in (('chain', chain), ('group', group)):
        s.attempt(f'{name} as a tuple', lambda result=result: result.as_tuple())
        s.attempt(f'{name} of a tuple', lambda result=result: from_tuple(s)(result.as_tuple(), s.app))
        s.attempt(f'{name} by pickle', lambda result=result: pickle.loads(pickle.dumps(result)))
        s.note(f'{name} equality', [from_tuple(s)(result.as_tuple(), s.app) == result, result == result.id,
                                    result == 'other', hash(result) == hash(result.id)])
    s.note('text', [str(chain), repr(chain), str(group), repr(group)])
    s.attempt('without an id', lambda: s.app.AsyncResult(None))


def from_tuple(s: Any) -> Any:
    """`result_from_tuple` of the package."""
    from importlib import import_module

    return import_module(f'{s.package.__name__}.result').result_from_tuple


@scenario
def promises(s: Any, c: Any, t: Any) -> None:
    result = t.add.delay(1, 2)
    group = c.group(t.add.s(2, 2), t.add.s(3, 3)).delay()
    s.settle()
    told: list[Any] = []
    result.then(lambda one: told.append(['task', one.get()]))
    group.then(lambda one: told.append(['group', one.get()]))
    result.get(timeout=5)
    group.get(timeout=5)
    s.note('told', sorted(told))


@scenario
def children_of_everything(s: Any, c: Any, t: Any) -> None:
    result = (t.sending_two.s(1) | t.add.s(5)).apply_async(link=t.linked.s('of a chain'))
    s.keep(result)
    s.settle()
    first = result.parent
    s.attempt('children', lambda: [type(child).__name__ for child in first.children])
    s.attempt('iterdeps', lambda: [[parent and parent.id, node.id] for parent, node in first.iterdeps()])
    s.attempt('intermediate', lambda: [node.id for _, node in first.iterdeps(intermediate=True)])


@scenario
def an_unfinished_tree(s: Any, c: Any, t: Any) -> None:
    result = s.app.AsyncResult('nobody-knows')
    s.attempt('state', lambda: [result.state, result.result, result.children, result.traceback, result.ready()])
    s.attempt('collect', lambda: list(result.collect(timeout=0.1)))
    s.attempt('collect what there is', lambda: [node.id for _, node in result.iterdeps(intermediate=True)])
    s.attempt('graph', lambda: result.graph)


@scenario
def revoked_tasks(s: Any, c: Any, t: Any) -> None:
    result = t.add.apply_async((1, 2), countdown=2.0)
    chain = (t.add.s(3, 4).set(countdown=2.0) | t.add.s(5)).apply_async()
    group = c.group(t.add.s(6, 7), t.add.s(8, 9)).apply_async(countdown=2.0)
    s.keep(result, 'task')
    s.keep(chain, 'chain')
    s.keep(group, 'group')
    s.await_signal('task_received', 4)
    s.revoke(result)
    s.revoke(chain.parent)
    s.revoke(group)


@scenario
def a_revoked_member_of_a_header(s: Any, c: Any, t: Any) -> None:
    chord = c.chord([t.add.s(1, 2).set(countdown=2.0), t.add.s(3, 4)], t.collect.s()).apply_async()
    s.keep(chord)
    s.await_signal('task_received', 2)
    s.revoke(chord.parent[0])


@scenario
def revoked_with_links(s: Any, c: Any, t: Any) -> None:
    result = t.add.apply_async((1, 2), countdown=2.0, link=t.linked.s('never'), link_error=t.errback_new.s())
    s.keep(result)
    s.await_signal('task_received')
    s.revoke(result)


@scenario
def revoked_by_stamps(s: Any, c: Any, t: Any) -> None:
    sig = t.add.s(1, 2)
    sig.stamp(tag='revoked')
    result = sig.apply_async(countdown=2.0)
    s.keep(result)
    s.await_signal('task_received')
    result.revoke_by_stamped_headers({'tag': ['revoked']})
    s.app.control.ping(limit=1, timeout=5)
