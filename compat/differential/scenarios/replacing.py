"""`Task.replace`, `Task.add_to_chord`, retries."""

from __future__ import annotations

from typing import Any

from compat.differential.scenarios import scenario


@scenario
def replaced_by_a_task(s: Any, c: Any, t: Any) -> None:
    s.send(t.replaced.s(t.add.s(1, 2)))


@scenario
def replaced_by_a_chain(s: Any, c: Any, t: Any) -> None:
    s.send(t.replaced.s(t.add.s(1, 2) | t.add.s(3)))


@scenario
def replaced_by_a_group(s: Any, c: Any, t: Any) -> None:
    s.send(t.replaced.s(c.group(t.add.s(1, 2), t.add.s(3, 4))))


@scenario
def replaced_by_a_chord(s: Any, c: Any, t: Any) -> None:
    s.send(t.replaced.s(c.chord([t.add.s(1, 2), t.add.s(3, 4)], t.total.s())))


@scenario
def replaced_by_a_chain_into_a_group(s: Any, c: Any, t: Any) -> None:
    s.send(t.replaced.s(t.add.s(1, 2) | c.group(t.add.s(3), t.add.s(4))))


@scenario
def replaced_in_a_chain(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 1) | t.replaced_by_value.s() | t.echo.s('after'))


@scenario
def replaced_in_a_group(s: Any, c: Any, t: Any) -> None:
    s.send(c.group(t.replaced.s(t.add.s(1, 2)), t.add.s(5, 5)))


@scenario
def replaced_in_a_header(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.replaced.s(t.add.s(1, 2)), t.add.s(5, 5)], t.collect.s()))


@scenario
def replaced_by_a_group_in_a_header(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.replaced.s(c.group(t.add.s(1, 2), t.add.s(3, 4))), t.add.s(5, 5)], t.collect.s()))


@scenario
def a_replaced_body(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 2), t.add.s(3, 4)], t.replaced_by_each.s()))


@scenario
def replaced_with_links(s: Any, c: Any, t: Any) -> None:
    s.send(t.replaced.s(t.add.s(1, 2)), link=t.linked.s('of the replaced'), link_error=t.errback_new.s())
    s.send(t.replaced.s(t.fail.s('replacement')), link=t.linked.s('never'), link_error=t.errback_new.s())


@scenario
def replaced_by_a_chain_with_links(s: Any, c: Any, t: Any) -> None:
    s.send(t.replaced.s(t.add.s(1, 2) | t.add.s(3)), link=t.linked.s('of the replaced'))


@scenario
def replaced_with_options(s: Any, c: Any, t: Any) -> None:
    s.send(t.replaced.s(t.add.s(1, 2).set(priority=4)), priority=6)


@scenario
def replaced_by_nothing(s: Any, c: Any, t: Any) -> None:
    s.send(t.replaced.s(c.chain()))


@scenario
def replaced_by_a_part_of_a_chord(s: Any, c: Any, t: Any) -> None:
    s.send(t.replaced.s(t.add.s(1, 2).set(chord=t.collect.s())))


@scenario
def added_to_a_chord(s: Any, c: Any, t: Any) -> None:
    # Both give the same value: in which order those of one place come is left to chance.
    s.send(c.chord([t.adding_to_chord.s(t.add.s(1, 2), 3), t.add.s(5, 5)], t.total.s()))
    s.send(c.chord([t.adding_to_chord.s(t.add.s(11, 2), 13, lazy=True), t.add.s(15, 5)], t.total.s()))


@scenario
def added_to_no_chord(s: Any, c: Any, t: Any) -> None:
    s.send(t.adding_to_chord.s(t.add.s(1, 2), 7))


@scenario
def children(s: Any, c: Any, t: Any) -> None:
    s.send(t.sending_two.s(1))
    s.send(t.sending_without_trail.s(10))


# -- retries -------------------------------------------------------------------------------------------------------

@scenario
def retries(s: Any, c: Any, t: Any) -> None:
    s.send(t.succeed_after.s(2, 'a'))
    s.send(t.succeed_after.s(5, 'b'))


@scenario
def retries_that_give_up(s: Any, c: Any, t: Any) -> None:
    s.send(t.retry_for_ever.s(True))
    s.send(t.retry_for_ever.s(False))


@scenario
def automatic_retries(s: Any, c: Any, t: Any) -> None:
    s.send(t.auto_retried.s())
    s.send(t.auto_retried_but.s('key'))
    s.send(t.auto_retried_but.s('value'))
    s.send(t.auto_succeed_after.s(2))


@scenario
def retries_with_other_arguments(s: Any, c: Any, t: Any) -> None:
    s.send(t.retry_with.s(1, args=[5]))
    s.send(t.retry_with.s(2, kwargs={'x': 6}))
    s.send(t.retry_with.s(3, args=[7], kwargs={}))


@scenario
def retries_with_options(s: Any, c: Any, t: Any) -> None:
    s.send(t.retry_with.s(1, priority=4))
    s.send(t.retry_with.s(2, max_retries=0))
    s.send(t.retry_with.s(3), priority=5, expires=60, shadow='a shadow', headers={'own': 'header'},
           time_limit=50, soft_time_limit=40)


@scenario
def an_unthrown_retry(s: Any, c: Any, t: Any) -> None:
    s.send(t.retry_unthrown.s(1))


@scenario
def retries_in_a_chain(s: Any, c: Any, t: Any) -> None:
    s.send(t.succeed_after.s(1, 'a') | t.echo.s('b'))


@scenario
def retries_with_links(s: Any, c: Any, t: Any) -> None:
    s.send(t.succeed_after.s(1, 'a'), link=t.linked.s('of the retried'))


@scenario
def a_retry_called_directly(s: Any, c: Any, t: Any) -> None:
    s.attempt('directly', lambda: t.succeed_after(1))
    s.attempt('with an error', lambda: t.retry_for_ever(True))
    s.attempt('automatic', lambda: t.auto_retried())


@scenario
def a_signature_from_a_request(s: Any, c: Any, t: Any) -> None:
    s.attempt('without a request', lambda: t.add.signature_from_request())
