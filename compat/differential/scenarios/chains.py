"""Chains, in every spelling."""

from __future__ import annotations

from typing import Any

from compat.differential.scenarios import scenario


@scenario
def a_task(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 2))


@scenario
def a_task_called_in_every_way(s: Any, c: Any, t: Any) -> None:
    s.keep(t.add.delay(1, 10))
    s.keep(t.add.apply_async((1, 20)))
    s.keep(t.add.apply_async([1], {'y': 30}))
    s.keep(t.add.s(1, 40).delay())
    s.keep(t.add.s(40).delay(1))
    s.keep(t.add.s(1).delay(y=50))
    s.keep(t.echo.s(1, a=2).apply_async((0,), {'b': 3}))
    s.keep(t.echo.si(1, a=2).apply_async((0,), {'b': 3}))
    s.keep(s.app.send_task(t.add.name, (1, 60)))
    s.keep(c.signature(t.add.name, (1, 70)).apply_async())
    s.note('directly', t.add.s(1)(2))
    s.note('by the task', t.add(1, 2))
    s.attempt('inverted', lambda: ~t.add.s(1, 80))


@scenario
def a_chain(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(t.add.s(1, 2), t.add.s(3), t.add.s(4)))


@scenario
def a_chain_of_a_list(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain([t.add.s(1, 2), t.add.s(3)]))


@scenario
def a_chain_of_a_generator(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(t.add.s(i) for i in range(3)), 100)


@scenario
def a_chain_of_one(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(t.add.s(1, 2)))


@scenario
def a_chain_of_one_in_a_list(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain([t.add.s(1, 2)]))


@scenario
def empty_chains(s: Any, c: Any, t: Any) -> None:
    for name, make in (('chain()', c.chain), ('chain([])', lambda: c.chain([])), ('chain(())', lambda: c.chain(()))):
        s.attempt(name, make)
        s.attempt(f'{name} sent', lambda make=make: make().apply_async())
        s.attempt(f'{name} called', lambda make=make: make()())
        s.attempt(f'{name} delayed', lambda make=make: make().delay())


@scenario
def a_chain_by_pipes(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 2) | t.add.s(3) | t.add.s(4))


@scenario
def a_chain_by_augmented_pipes(s: Any, c: Any, t: Any) -> None:
    chain = t.add.s(1, 2)
    chain |= t.add.s(3)
    chain |= t.add.s(4)
    s.send(chain)


@scenario
def a_chain_of_chains(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(c.chain(t.add.s(1, 2), t.add.s(3)), c.chain(t.add.s(4), t.add.s(5))))
    s.send((t.add.s(10, 2) | t.add.s(13)) | (t.add.s(14) | t.add.s(15)))


@scenario
def a_chain_with_partial_arguments(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(t.echo.s(1), t.echo.s(2)), 0)
    s.keep((t.echo.s(3, k=1) | t.echo.s(4)).apply_async((5,), {'j': 2}))
    s.keep((t.echo.s(6) | t.echo.s(7)).delay(8))
    s.keep((t.echo.s(16) | t.echo.s(17))(18))


@scenario
def a_chain_cloned_with_partial_arguments(s: Any, c: Any, t: Any) -> None:
    s.keep(c.chain(t.echo.s(9), t.echo.s(10)).clone((11,)).apply_async())


@scenario
def a_chain_with_immutable_steps(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 2) | t.constant.si() | t.identity.s())
    s.send(t.constant.si() | t.add.si(5, 6))


@scenario
def an_immutable_first_step(s: Any, c: Any, t: Any) -> None:
    s.send(t.echo.si(1) | t.echo.s(2), 'partial')


@scenario
def a_chain_passing_none_on(s: Any, c: Any, t: Any) -> None:
    s.send(t.nothing.s() | t.echo.s(1))


@scenario
def a_chain_that_fails_first(s: Any, c: Any, t: Any) -> None:
    s.send(t.fail.s('first') | t.add.s(1) | t.add.s(2))


@scenario
def a_chain_that_fails_in_the_middle(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 1) | t.fail_after.s('middle') | t.add.s(2))


@scenario
def a_chain_that_fails_last(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 1) | t.add.s(2) | t.fail_after.s('last'))


@scenario
def a_failing_chain_before_a_group(s: Any, c: Any, t: Any) -> None:
    s.send(t.fail.s('before a group') | c.group(t.add.s(1), t.add.s(2)))


@scenario
def a_failing_chain_before_a_chord(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(t.fail.s('before a chord'), c.group(t.add.s(1), t.add.s(2)), t.collect.s()))


@scenario
def a_chain_into_a_group(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(t.add.s(1, 1), c.group(t.add.s(1), t.add.s(2))))
    s.send(t.add.s(10, 1) | c.group(t.add.s(11), t.add.s(12)))


@scenario
def a_chain_through_a_group(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(t.add.s(1, 1), c.group(t.add.s(1), t.add.s(2)), t.collect.s()))


@scenario
def a_chain_through_a_group_and_on(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 1) | c.group(t.add.s(1), t.add.s(2)) | t.total.s() | t.add.s(100))


@scenario
def a_chain_through_two_groups(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(t.add.s(1, 1), t.add.s(2, 2)) | c.group(t.echo.s('a'), t.echo.s('b')) | t.collect.s())


@scenario
def a_group_after_a_group(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(t.add.s(1, 1), t.add.s(2, 2)) | c.group(t.echo.s('a'), t.echo.s('b')))


@scenario
def a_chain_with_a_chord(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 1) | c.chord([t.add.s(1), t.add.s(2)], t.collect.s()) | t.collect.s())


@scenario
def a_chain_with_a_group_of_one(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(t.add.s(1, 1), c.group(t.add.s(5)), t.echo.s('after')))
    s.send(t.add.s(2, 1) | c.group(t.add.s(6)) | t.echo.s('after pipe'))


@scenario
def a_chain_ending_in_a_group_of_one(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(t.add.s(1, 1), c.group(t.add.s(5))))


@scenario
def a_chain_beginning_with_a_group_of_one(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(c.group(t.add.s(1, 5)), t.echo.s('a')))


@scenario
def a_group_of_one_before_a_pipe(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(t.add.s(1, 5)) | t.echo.s('a'))


@scenario
def a_chain_with_an_empty_group(s: Any, c: Any, t: Any) -> None:
    s.attempt('in the middle', lambda: s.send(t.add.s(1, 1) | c.group() | t.add.s(5)))
    s.attempt('at the end', lambda: s.send(t.add.s(2, 1) | c.group([])))


@scenario
def an_empty_group_before_a_task(s: Any, c: Any, t: Any) -> None:
    s.attempt('piped', lambda: s.send(c.group([]) | t.collect.s()))
    s.attempt('chained', lambda: s.send(c.chain(c.group([]), t.echo.s())))


@scenario
def chains_run_with_options(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 2) | t.add.s(3), priority=5)
    s.send((t.add.s(11, 2) | t.add.s(13)).set(priority=6))
    s.send(t.add.s(21, 2).set(priority=7) | t.add.s(23).set(priority=8))
    s.send((t.add.s(31, 2) | t.add.s(33)).set(priority=6) | t.add.s(34))


@scenario
def a_chain_with_an_id(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 2) | t.add.s(3), task_id='my-chain')
    s.send(c.chain(t.add.s(11, 2), t.add.s(13), task_id='my-other-chain'))


@scenario
def a_chain_with_its_own_root(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 2) | t.add.s(3), root_id='my-root', parent_id='my-parent')


@scenario
def run_of_a_chain(s: Any, c: Any, t: Any) -> None:
    s.keep((t.add.s(1) | t.add.s(3)).run((2,), countdown=0.1))


@scenario
def prepared_steps(s: Any, c: Any, t: Any) -> None:
    chain = c.chain(t.add.s(2), t.add.s(3), c.group(t.add.s(4), t.add.s(5)), t.collect.s())
    steps, results = chain.prepare_steps((1,), {}, chain.tasks)
    s.note('steps', [step['task'] for step in steps])
    s.note('results', [type(result).__name__ for result in results])
    s.note('unchained', c.chain(t.add.s(2), t.add.s(3)).unchain_tasks())


@scenario
def a_chain_sent_twice(s: Any, c: Any, t: Any) -> None:
    chain = t.add.s(1) | t.add.s(10)
    s.send(chain, 1)
    s.send(chain, 2)
    s.note('afterwards', chain)


@scenario
def a_frozen_chain(s: Any, c: Any, t: Any) -> None:
    chain = t.add.s(1, 2) | t.add.s(3)
    frozen = chain.freeze('my-frozen-chain')
    s.note('frozen', [frozen.id, frozen.parent is not None])
    s.send(chain)


@scenario
def a_long_chain(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(t.add.s(1, 1), *(t.add.s(i) for i in range(10, 20))))


@scenario
def a_chain_of_ignored_results(s: Any, c: Any, t: Any) -> None:
    s.send(t.quiet.s(1) | t.add.s(2) | t.quiet.s())


@scenario
def a_chain_sent_by_a_task(s: Any, c: Any, t: Any) -> None:
    s.send(t.sending_canvas.s(c.chain(t.add.s(1, 2), t.add.s(3))))
