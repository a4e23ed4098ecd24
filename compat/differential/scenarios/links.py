"""Links and errbacks of everything, and errors in them."""

from __future__ import annotations

from typing import Any

from compat.differential.scenarios import scenario


@scenario
def a_link(s: Any, c: Any, t: Any) -> None:
    s.keep(t.add.apply_async((1, 2), link=t.linked.s('one')))
    sig = t.add.s(3, 4)
    s.note('returned', sig.link(t.linked.s('two')))
    s.note('linked', sig)
    s.send(sig)


@scenario
def several_links(s: Any, c: Any, t: Any) -> None:
    s.keep(t.add.apply_async((1, 2), link=[t.linked.s('a'), t.linked.s('b'), t.linked.si('immutable', 'c')]))
    sig = t.add.s(3, 4)
    link = t.linked.s('same')
    sig.link(link)
    sig.link(link)
    sig.link(t.linked.s('other'))
    s.send(sig, link=t.linked.s('third'))


@scenario
def a_link_of_a_link(s: Any, c: Any, t: Any) -> None:
    link = t.linked.s('outer')
    link.link(t.linked.s('inner'))
    sig = t.add.s(1, 2)
    sig.link(link)
    s.note('flat', [one['args'] for one in sig.flatten_links()])
    s.send(sig)


@scenario
def canvases_as_links(s: Any, c: Any, t: Any) -> None:
    for number, link in enumerate((t.add.s(10) | t.linked.s('chain'), c.group(t.linked.s('g1'), t.linked.s('g2')),
                                   c.chord([t.echo.s('h1'), t.echo.s('h2')], t.linked.s('chord')))):
        s.send(t.add.s(number, 100), link=link)


@scenario
def a_link_of_a_chain(s: Any, c: Any, t: Any) -> None:
    chain = t.add.s(1, 2) | t.add.s(3)
    chain.link(t.linked.s('linked'))
    s.note('chain', chain)
    s.send(chain)
    s.send(t.add.s(11, 2) | t.add.s(13), link=t.linked.s('by option'))


@scenario
def a_link_of_a_chain_in_a_chain(s: Any, c: Any, t: Any) -> None:
    inner = t.add.s(1, 2) | t.add.s(3)
    inner.link(t.linked.s('of the inner'))
    s.send(inner | t.add.s(4))


@scenario
def a_link_of_a_group(s: Any, c: Any, t: Any) -> None:
    group = c.group(t.add.s(1, 2), t.add.s(3, 4))
    s.note('returned', group.link(t.linked.si('of a group', 'first only')))
    s.note('group', group)
    s.send(group)


@scenario
def a_link_of_a_chord(s: Any, c: Any, t: Any) -> None:
    chord = c.chord([t.add.s(1, 2), t.add.s(3, 4)], t.total.s())
    chord.link(t.linked.s('of a chord'))
    s.note('chord', chord)
    s.send(chord)
    s.send(c.chord([t.add.s(11, 2), t.add.s(13, 4)], t.total.s()), link=t.linked.s('by option'))


@scenario
def links_inside_a_canvas(s: Any, c: Any, t: Any) -> None:
    def linked(sig: Any, name: str) -> Any:
        sig.link(t.linked.s(name))
        return sig
    s.send(c.chain(linked(t.add.s(1, 2), 'first'), linked(t.add.s(3), 'second'),
                   c.group(linked(t.add.s(4), 'third'), t.add.s(5)), linked(t.total.s(), 'body')))


@scenario
def a_failing_link(s: Any, c: Any, t: Any) -> None:
    s.keep(t.add.apply_async((1, 2), link=t.fail_after.s('in a link')))
    s.keep(t.add.apply_async((3, 4), link=[t.fail_after.s('first'), t.linked.s('second')]))


@scenario
def a_link_of_a_failure(s: Any, c: Any, t: Any) -> None:
    s.keep(t.fail.apply_async(('before the link',), link=t.linked.s('never')))


@scenario
def a_link_with_options(s: Any, c: Any, t: Any) -> None:
    s.keep(t.add.apply_async((1, 2), link=t.linked.s('late').set(countdown=0.1, priority=4)))
    s.keep(t.add.apply_async((3, 4), link=t.configured.s(), priority=6))


# -- errbacks ------------------------------------------------------------------------------------------------------

@scenario
def errbacks_of_a_task(s: Any, c: Any, t: Any) -> None:
    s.keep(t.fail.apply_async(('old',), link_error=t.errback_old.s()))
    s.keep(t.fail.apply_async(('new',), link_error=t.errback_new.s()))
    s.keep(t.fail.apply_async(('both',), link_error=[t.errback_old.s(), t.errback_new.s()]))
    s.keep(t.fail.apply_async(('named',), link_error=t.errback_named.s(name='given')))


@scenario
def an_immutable_errback(s: Any, c: Any, t: Any) -> None:
    s.keep(t.fail.apply_async(('immutable',), link_error=t.linked.si('own', 'immutable')))
    s.keep(t.fail.apply_async(('immutable new',), link_error=t.errback_new.si(None, None, None)))


@scenario
def an_errback_with_a_default(s: Any, c: Any, t: Any) -> None:
    s.keep(t.fail.apply_async(('default',), link_error=t.errback_default.s()))


@scenario
def a_bound_errback(s: Any, c: Any, t: Any) -> None:
    s.keep(t.fail.apply_async(('bound',), link_error=t.errback_bound.s()))


@scenario
def an_errback_of_any_arguments(s: Any, c: Any, t: Any) -> None:
    s.keep(t.fail.apply_async(('any',), link_error=t.errback_any.s()))


@scenario
def a_failing_errback(s: Any, c: Any, t: Any) -> None:
    s.keep(t.fail.apply_async(('new fails',), link_error=[t.errback_failing.s(), t.errback_new.s()]))


@scenario
def a_failing_old_errback(s: Any, c: Any, t: Any) -> None:
    s.keep(t.fail.apply_async(('old fails',), link_error=[t.errback_old_failing.s(), t.errback_old.s()]))


@scenario
def an_unknown_errback(s: Any, c: Any, t: Any) -> None:
    s.keep(t.fail.apply_async(('unknown errback',), link_error=c.signature('no.such.errback', app=s.app)))


@scenario
def an_errback_of_a_success(s: Any, c: Any, t: Any) -> None:
    s.keep(t.add.apply_async((1, 2), link_error=t.errback_new.s()))


@scenario
def an_errback_of_a_chain(s: Any, c: Any, t: Any) -> None:
    for name, chain in (('first', t.fail.s('first') | t.add.s(1)), ('last', t.add.s(1, 1) | t.fail_after.s('last')),
                        ('none', t.add.s(2, 1) | t.add.s(1))):
        sig = chain.on_error(t.errback_new.s())
        s.note(name, sig)
        s.send(sig)
    s.send(t.fail.s('by option') | t.add.s(1), link_error=t.errback_old.s())


@scenario
def an_errback_of_a_step(s: Any, c: Any, t: Any) -> None:
    s.send(t.add.s(1, 1) | t.fail_after.s('step').on_error(t.errback_new.s()) | t.add.s(1))
    s.send(t.fail.s('earlier') | t.add.s(1).on_error(t.errback_new.s()))


@scenario
def an_errback_of_a_group(s: Any, c: Any, t: Any) -> None:
    group = c.group(t.fail.s('one'), t.add.s(1, 1), t.fail.s('two'))
    s.note('returned', group.link_error(t.errback_new.s()))
    s.note('group', group)
    s.send(group)


@scenario
def an_errback_of_a_chord_with_a_failing_header(s: Any, c: Any, t: Any) -> None:
    chord = c.chord([t.add.s(1, 1), t.fail.s('in a header')], t.collect.s())
    chord.link_error(t.errback_new.s())
    s.note('chord', chord)
    s.send(chord)


@scenario
def an_old_errback_of_a_chord_with_a_failing_header(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.fail.s('in a header')], t.collect.s()).on_error(t.errback_old.s()))


@scenario
def an_errback_of_a_chord_with_a_failing_body(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.add.s(2, 2)], t.fail_after.s('in a body')).on_error(t.errback_new.s()))


@scenario
def an_errback_of_a_body(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.add.s(1, 1), t.fail.s('in a header')], t.collect.s().on_error(t.errback_new.s())))
    s.send(c.chord([t.add.s(11, 1), t.fail.s('in a header')], t.collect.s()), link_error=t.errback_old.s())


@scenario
def an_errback_also_of_the_header(s: Any, c: Any, t: Any) -> None:
    with s.settings(task_allow_error_cb_on_chord_header=True):
        s.send(c.chord([t.add.s(1, 1), t.fail.s('in a header')], t.collect.s()).on_error(t.errback_new.s()))


@scenario
def an_errback_also_of_a_nested_header(s: Any, c: Any, t: Any) -> None:
    with s.settings(task_allow_error_cb_on_chord_header=True):
        inner = c.chord([t.fail.s('inside'), t.add.s(1, 1)], t.collect.s())
        s.send(c.chord([inner, t.add.s(2, 2)], t.collect.s()).on_error(t.errback_new.s()))


@scenario
def an_errback_of_a_chain_with_a_chord(s: Any, c: Any, t: Any) -> None:
    s.send(c.chain(t.add.s(1, 1), c.group(t.fail_after.s('in a header'), t.add.s(1)), t.collect.s()).on_error(
        t.errback_new.s()))


@scenario
def an_errback_of_a_group_body(s: Any, c: Any, t: Any) -> None:
    s.send(c.chord([t.fail.s('in a header')], c.group(t.echo.s('a'), t.echo.s('b'))).on_error(t.errback_new.s()))


@scenario
def a_canvas_as_an_errback(s: Any, c: Any, t: Any) -> None:
    s.keep(t.fail.apply_async(('a chain errs back',), link_error=t.linked.si('a', 'chain') | t.linked.s('more')))
    s.keep(t.fail.apply_async(('a group errs back',), link_error=c.group(t.linked.si('b', 'one'),
                                                                           t.linked.si('b', 'two'))))


@scenario
def an_errback_in_a_chain_of_links(s: Any, c: Any, t: Any) -> None:
    link = t.fail_after.s('in a link').on_error(t.errback_new.s())
    s.keep(t.add.apply_async((1, 2), link=link))


@scenario
def an_errback_of_a_retried_task(s: Any, c: Any, t: Any) -> None:
    s.keep(t.retry_for_ever.apply_async((True,), link_error=t.errback_new.s()))


@scenario
def an_errback_with_options(s: Any, c: Any, t: Any) -> None:
    s.keep(t.fail.apply_async(('options',), link_error=t.errback_old.s().set(priority=5, countdown=0.1)))
