"""Chords."""

from __future__ import annotations

from typing import Any

from compat.differential.scenarios import scenario


@scenario
def a_chord(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.add.s(2, 2)], t.collect.s()))


@scenario
def chords_in_every_spelling(s: Any, c: Any, t: Any) -> None:
    s.keep(c.chord([t.add.s(1, 1), t.add.s(1, 2)])(t.collect.s()))
    s.keep(c.chord(c.group(t.add.s(2, 1), t.add.s(2, 2)))(t.collect.s()))
    s.keep(c.chord(t.add.s(3, i) for i in range(2))(t.collect.s()))
    s.keep(c.chord([t.add.s(4, 1), t.add.s(4, 2)], t.collect.s())())
    s.keep(c.chord(header=[t.add.s(5, 1), t.add.s(5, 2)], body=t.collect.s()).delay())
    s.keep((c.group(t.add.s(6, 1), t.add.s(6, 2)) | t.collect.s()).apply_async())
    s.keep(c.chain(c.group(t.add.s(7, 1), t.add.s(7, 2)), t.collect.s()).apply_async())
    s.keep(c.chord((t.add.s(8, 1), t.add.s(8, 2)), t.collect.s()).apply_async())


@scenario
def a_chord_of_a_chain(s: Any, c: Any, t: Any) -> None:
    s.keep(c.chord(c.chain(t.add.s(9, 1), t.add.s(9, 2)), t.collect.s()).apply_async())


@scenario
def a_chord_with_a_wrong_member(s: Any, c: Any, t: Any) -> None:
    s.attempt('sent', lambda: c.chord([t.add.s(9, 1), t.add.s(9)], t.collect.s()).apply_async())


@scenario
def a_chord_of_one(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1)], t.collect.s()))
    s.send(c.chord(t.add.s(2, 2), t.collect.s()))


@scenario
def an_empty_chord(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([], t.collect.s()))


@scenario
def a_chord_of_an_empty_generator(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord((sig for sig in ()), t.collect.s()))


@scenario
def a_chord_without_a_body(s: Any, c: Any, t: Any) -> None:
    s.attempt('sent', lambda: c.chord([t.add.s(1, 1)]).apply_async())
    s.attempt('repr', lambda: repr(c.chord([t.add.s(1, 1)])))


@scenario
def a_chord_with_partial_arguments(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.echo.s(1), t.echo.s(2)], t.collect.s()), 0)
    s.keep(c.chord([t.echo.s(3), t.echo.si(4)], t.collect.s()).apply_async((5,), {'k': 6}))


@scenario
def a_chord_in_a_chord(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([c.chord([t.add.s(1, 1), t.add.s(2, 2)], t.total.s()), t.add.s(3, 3)], t.collect.s()))


@scenario
def a_chord_as_a_body(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.add.s(2, 2)], c.chord([t.echo.s('a'), t.echo.s('b')], t.collect.s())))


@scenario
def a_chain_as_a_body(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.add.s(2, 2)], t.total.s() | t.add.s(10)))


@scenario
def a_group_as_a_body(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.add.s(2, 2)], c.group(t.echo.s('a'), t.echo.s('b'))))


@scenario
def chains_in_a_header(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1) | t.add.s(10), t.add.s(2, 2) | t.add.s(20)], t.collect.s()))


@scenario
def a_group_in_a_header(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), c.group(t.add.s(2, 2), t.add.s(3, 3)), t.add.s(4, 4)], t.collect.s()))


@scenario
def a_chain_into_a_group_in_a_header(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1) | c.group(t.add.s(10), t.add.s(20)), t.add.s(2, 2)], t.collect.s()))


@scenario
def a_chain_into_a_group_in_a_header_by_a_generator(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord((t.add.s(i, i) | c.group(t.add.s(10), t.add.s(20)) for i in (1, 2)), t.collect.s()))


@scenario
def an_immutable_body(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.add.s(2, 2)], t.constant.si()))


@scenario
def a_chord_with_a_failing_header(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.fail.s('in a header')], t.collect.s()))


@scenario
def a_chord_with_a_failing_body(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.add.s(2, 2)], t.fail_after.s('in a body')))


@scenario
def a_failing_chord_before_a_task(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.fail.s('in a header')], t.collect.s()) | t.echo.s() | t.echo.s())


@scenario
def a_chord_in_a_header_that_fails(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([c.chord([t.add.s(1, 1), t.fail.s('inside')], t.total.s()), t.add.s(3, 3)], t.collect.s()))


@scenario
def a_header_of_a_retried_task(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.succeed_after.s(1, 'a'), t.add.s(2, 2)], t.collect.s()))


@scenario
def a_header_that_ignores_its_result(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.quiet.s(1), t.add.s(2, 2)], t.collect.s()))


@scenario
def a_header_with_an_unknown_task(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), c.signature('no.such.task', (1,), app=s.app)], t.collect.s()))


@scenario
def a_header_with_an_ignoring_task(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.ignoring.s()], t.collect.s()))


@scenario
def a_header_with_a_rejecting_task(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.rejecting.s()], t.collect.s()))


@scenario
def chord_options(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.add.s(1, 2)], t.collect.s()), priority=4)
    s.send(c.chord([t.add.s(2, 1), t.add.s(2, 2)], t.collect.s(), priority=5))
    s.send(c.chord([t.add.s(3, 1), t.add.s(3, 2)], t.collect.s()).set(priority=6))
    s.send(c.chord([t.add.s(4, 1).set(priority=2), t.add.s(4, 2)], t.collect.s().set(priority=1)))


@scenario
def a_chord_that_waits(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.add.s(1, 2)], t.collect.s()), countdown=0.1)
    s.send(c.chord([t.add.s(2, 1), t.add.s(2, 2)], t.collect.s().set(countdown=0.1)))
    s.send(c.chord([t.add.s(3, 1), t.add.s(3, 2)], t.collect.s()), interval=0.5, max_retries=3)


@scenario
def a_chord_with_an_id(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.add.s(1, 2)], t.collect.s()), task_id='my-chord')


@scenario
def a_chord_with_another_body(s: Any, c: Any, t: Any) -> None:
    chord = c.chord([t.add.s(1, 1), t.add.s(1, 2)], t.collect.s())
    s.keep(chord(t.total.s()))
    s.note('afterwards', chord)


@scenario
def a_chord_sent_twice(s: Any, c: Any, t: Any) -> None:
    chord = c.chord([t.echo.s(1), t.echo.s(2)], t.collect.s())
    s.send(chord, 10)
    s.send(chord, 20)
    s.note('afterwards', chord)


@scenario
def a_frozen_chord(s: Any, c: Any, t: Any) -> None:
    chord = c.chord([t.add.s(1, 1), t.add.s(2, 2)], t.collect.s())
    frozen = chord.freeze('my-frozen-chord')
    s.note('frozen', [frozen.id, frozen.parent is not None])
    s.send(chord)


@scenario
def a_chord_and_more_of_a_chain(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.add.s(2, 2)], t.total.s()) | t.add.s(5) | c.group(t.add.s(6), t.add.s(7))
           | t.collect.s())


@scenario
def a_chord_sent_by_a_task(s: Any, c: Any, t: Any) -> None:
    s.send(t.sending_canvas.s(c.chord([t.add.s(1, 2), t.add.s(3, 4)], t.total.s())))


@scenario
def the_size_of_chords(s: Any, c: Any, t: Any) -> None:
    add = t.add
    for name, header in (
        ('two tasks', [add.s(1), add.s(2)]), ('a chain', [add.s(1) | add.s(2)]),
        ('a group', [c.group(add.s(1), add.s(2)), add.s(3)]),
        ('a chain into a group', [add.s(1) | c.group(add.s(1), add.s(2), add.s(3))]),
        ('a chord', [c.chord([add.s(1), add.s(2)], t.total.s()), add.s(1)]),
        ('a chord with a group', [c.chord([add.s(1)], c.group(t.total.s(), t.total.s()))]),
    ):
        s.note(name, c.chord(header, t.collect.s()).__length_hint__())


@scenario
def chords_in_three_levels(s: Any, c: Any, t: Any) -> None:
    def nest(level: int) -> Any:
        if not level:
            return t.add.s(level, 1)
        return c.chord([nest(level - 1), t.add.s(level, 10)], t.total.s())
    s.send(nest(3))
