"""Groups, and what maps one task over many items."""

from __future__ import annotations

from typing import Any

from compat.differential.scenarios import scenario


@scenario
def a_group(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(t.add.s(1, 1), t.add.s(2, 2), t.add.s(3, 3)))


@scenario
def groups_of_everything(s: Any, c: Any, t: Any) -> None:
    s.send(c.group([t.add.s(1, 1), t.add.s(1, 2)]))
    s.send(c.group((t.add.s(2, 1), t.add.s(2, 2))))
    s.send(c.group(t.add.s(3, i) for i in range(3)))
    s.send(c.group(c.group(t.add.s(5, 1), t.add.s(5, 2))))
    s.send(c.group(t.add.s(6, 1)))
    s.send(c.group([t.add.s(7, 1)]))
    s.send(c.group(map(t.add.s, (8, 9), (1, 2))))


@scenario
def a_group_of_a_dict(s: Any, c: Any, t: Any) -> None:
    s.attempt('sent', lambda: c.group({**t.add.s(4, 1)}).apply_async())


@scenario
def empty_groups(s: Any, c: Any, t: Any) -> None:
    for name, make in (('group()', c.group), ('group([])', lambda: c.group([])),
                       ('group of an empty generator', lambda: c.group(sig for sig in ()))):
        s.attempt(name, make)
        s.attempt(f'{name} sent', lambda make=make: type(make().apply_async()).__name__)
        s.attempt(f'{name} called', lambda make=make: make()().get(timeout=3))
        s.attempt(f'{name} length', lambda make=make: len(make()))
        s.attempt(f'{name} applied', lambda make=make: make().apply().get(timeout=3))


@scenario
def a_group_with_partial_arguments(s: Any, c: Any, t: Any) -> None:
    s.keep(c.group(t.echo.s(1), t.echo.s(2, k=1))(0))
    s.keep(c.group(t.echo.s(3), t.echo.si(4)).apply_async((5,), {'j': 6}))
    s.keep(c.group(t.echo.s(7), t.echo.s(8)).delay(9))


@scenario
def a_group_of_groups(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(t.add.s(1, 1), c.group(t.add.s(2, 2), t.add.s(3, 3)), t.add.s(4, 4)))


@scenario
def a_group_of_chains(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(t.add.s(1, 1) | t.add.s(10), t.add.s(2, 2) | t.add.s(20)))


@scenario
def a_group_of_chords(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(c.chord([t.add.s(1, 1), t.add.s(1, 2)], t.collect.s()),
                   c.chord([t.add.s(2, 1), t.add.s(2, 2)], t.total.s())))


@scenario
def a_group_of_chains_into_groups(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(t.add.s(1, 1) | c.group(t.add.s(11), t.add.s(12)), t.add.s(2, 2)))


@scenario
def a_group_with_a_failure(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(t.add.s(1, 1), t.fail.s('in a group'), t.add.s(3, 3)))


@scenario
def a_group_with_only_failures(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(t.fail.s('one'), t.fail.s('two')))


@scenario
def a_skewed_group(s: Any, c: Any, t: Any) -> None:
    skewed = c.group(t.add.s(1, i) for i in range(4)).skew(start=0.1, stop=0.3, step=0.1)
    s.note('countdowns', [member.options.get('countdown') for member in skewed.tasks])
    s.send(skewed)
    for name, args in (('default', {}), ('from 5', {'start': 5}), ('by 2', {'start': 0, 'step': 2})):
        members = c.group(t.add.s(i) for i in range(3)).skew(**args).tasks
        s.note(name, [member.options.get('countdown') for member in members])


@scenario
def group_options(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(t.add.s(1, 1), t.add.s(1, 2)), priority=4)
    s.send(c.group(t.add.s(2, 1), t.add.s(2, 2).set(priority=2), priority=5))
    s.send(c.group(t.add.s(3, 1), t.add.s(3, 2)).set(priority=6))
    s.send(c.group(t.add.s(4, 1) | t.add.s(4), t.add.s(4, 2)), priority=7)


@scenario
def a_group_with_an_id(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(t.add.s(1, 1), t.add.s(1, 2)), task_id='my-group')
    s.send(c.group(t.add.s(2, 1), t.add.s(2, 2), task_id='my-other-group'))


@scenario
def links_refused_by_groups(s: Any, c: Any, t: Any) -> None:
    s.attempt('link', lambda: c.group(t.add.s(1, 1)).apply_async(link=t.identity.s()))
    s.attempt('link_error', lambda: c.group(t.add.s(1, 1)).apply_async(link_error=t.identity.s()))


@scenario
def a_group_with_the_same_signature_twice(s: Any, c: Any, t: Any) -> None:
    sig = t.add.s(1, 1)
    s.send(c.group(sig, sig))


@scenario
def a_group_sent_twice(s: Any, c: Any, t: Any) -> None:
    group = c.group(t.add.s(1), t.add.s(2))
    s.send(group, 10)
    s.send(group, 20)
    s.note('afterwards', group)


@scenario
def a_frozen_group(s: Any, c: Any, t: Any) -> None:
    group = c.group(t.add.s(1, 1), t.add.s(2, 2))
    frozen = group.freeze('my-frozen-group')
    s.note('frozen', [frozen.id, len(frozen)])
    s.send(group)


@scenario
def a_group_sent_by_a_task(s: Any, c: Any, t: Any) -> None:
    s.send(t.sending_canvas.s(c.group(t.add.s(1, 2), t.add.s(3, 4))))


@scenario
def a_group_without_a_parent(s: Any, c: Any, t: Any) -> None:
    s.send(t.sending_canvas.s(c.group(t.add.s(1, 2), t.add.s(3, 4)), add_to_parent=False))


@scenario
def an_immutable_group(s: Any, c: Any, t: Any) -> None:
    group = c.group(t.echo.s(1), t.echo.s(2))
    group.set_immutable(True)
    s.note('group', group)
    s.send(t.add.s(1, 1) | group)


# -- map, starmap, chunks ------------------------------------------------------------------------------------------

@scenario
def mapping(s: Any, c: Any, t: Any) -> None:
    s.send(t.identity.map([1, 2, 3]))
    s.send(t.add.starmap([(1, 1), (2, 2)]))
    s.send(t.identity.map(range(3)))
    s.send(t.identity.map([]))
    s.send(c.xmap(t.identity.s(), [4, 5], app=s.app))
    s.send(c.xstarmap(t.add.s(), [(4, 5)], app=s.app))
    for name, sig in (('map', t.identity.map([1, 2])), ('starmap', t.add.starmap([(1, 1)])),
                      ('chunks', t.add.chunks([(1, 1), (2, 2)], 1))):
        s.note(name, sig)
        s.note(f'repr of {name}', repr(sig))


@scenario
def mapping_failures(s: Any, c: Any, t: Any) -> None:
    s.send(t.fail.map(['in a map', 'second']))
    s.send(t.add.starmap([(1, 1), (1, 'a')]))


@scenario
def mapping_with_options(s: Any, c: Any, t: Any) -> None:
    s.send(t.identity.map([1, 2]), priority=3)
    s.send(t.identity.map([3, 4]).set(priority=4))
    s.send(t.identity.map([5, 6]), countdown=0.1)


@scenario
def chunks(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.chunks(zip(range(5), range(5), strict=True), 2))
    s.keep(t.add.chunks([(7, 7), (8, 8), (9, 9)], 2)())


@scenario
def chunks_as_a_group(s: Any, c: Any, t: Any) -> None:
    group = t.add.chunks([(1, 1), (2, 2), (3, 3)], 2).group()
    s.note('group', group)
    s.send(group)


@scenario
def applied_chunks(s: Any, c: Any, t: Any) -> None:
    s.keep(c.chunks.apply_chunks(t.add.s(), [(1, 1), (2, 2), (3, 3)], 2, app=s.app))


@scenario
def skewed_chunks(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.chunks([(1, 1), (2, 2), (3, 3)], 1).group().skew(start=0.05, step=0.05))


@scenario
def chunks_before_a_task(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.chunks([(1, 1), (2, 2), (3, 3)], 2) | t.collect.s())


@scenario
def a_group_of_chunks_before_a_task(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.chunks([(1, 1), (2, 2), (3, 3)], 2).group() | t.collect.s())


@scenario
def a_map_in_a_chain(s: Any, c: Any, t: Any) -> None:
    s.send(t.identity.map([1, 2]) | t.total.s())
    s.send(t.add.s(1, 1) | t.identity.map([3, 4]) | t.total.s())


@scenario
def maps_in_a_chord(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.identity.map([1, 2]), t.add.starmap([(3, 3)])], t.collect.s()))
