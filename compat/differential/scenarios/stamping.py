"""Stamps, with every hook of a visitor."""

from __future__ import annotations

from typing import Any

from compat.differential.scenarios import scenario


def visitor_of(c: Any, s: Any = None, **stamps: Any) -> Any:
    """A visitor that stamps with the name of each hook, and notes in which order they were called."""
    class Visitor(c.StampingVisitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.called: list[str] = []

        def _stamp(self, hook: str, sig: Any) -> dict[str, Any]:
            self.called.append(f'{hook} {getattr(sig, "task", type(sig).__name__).rpartition(".")[2]}')
            return {hook: f'{hook} was here', **stamps}

        def on_signature(self, sig: Any, **headers: Any) -> Any:
            return self._stamp('on_signature', sig)

        def on_group_start(self, group: Any, **headers: Any) -> Any:
            return self._stamp('on_group_start', group)

        def on_group_end(self, group: Any, **headers: Any) -> None:
            self._stamp('on_group_end', group)

        def on_chain_start(self, chain: Any, **headers: Any) -> Any:
            return self._stamp('on_chain_start', chain)

        def on_chain_end(self, chain: Any, **headers: Any) -> None:
            self._stamp('on_chain_end', chain)

        def on_chord_header_start(self, chord: Any, **headers: Any) -> Any:
            self._stamp('on_chord_header_start', chord)
            return super().on_chord_header_start(chord, **headers)

        def on_chord_header_end(self, chord: Any, **headers: Any) -> None:
            self._stamp('on_chord_header_end', chord)

        def on_chord_body(self, chord: Any, **headers: Any) -> Any:
            return self._stamp('on_chord_body', chord)

        def on_callback(self, callback: Any, **headers: Any) -> Any:
            return self._stamp('on_callback', callback)

        def on_errback(self, errback: Any, **headers: Any) -> Any:
            return self._stamp('on_errback', errback)
    return Visitor()


def stamp(s: Any, c: Any, canvas: Any, **stamps: Any) -> None:
    """Stamp a canvas by a visitor with every hook, note what comes of it, and send it."""
    visitor = visitor_of(c)
    canvas.stamp(visitor, **stamps)
    s.note('called', visitor.called)
    s.note('stamped', canvas)
    s.send(canvas)


@scenario
def a_stamped_task(s: Any, c: Any, t: Any) -> None:
    stamp(s, c, t.describing.s(1), own='stamp')


@scenario
def stamps_without_a_visitor(s: Any, c: Any, t: Any) -> None:
    sig = t.describing.s()
    s.note('returned', sig.stamp(one=1, two=['a', 'b'], three={'x': 1}))
    s.send(sig)
    for name, canvas in (('chain', t.add.s(1, 1) | t.describing.s()), ('group', c.group(t.describing.s(1))),
                         ('chord', c.chord([t.add.s(2, 1)], t.describing.s()))):
        s.note(f'returned by a {name}', canvas.stamp(tag='stamped'))
        s.note(name, canvas)
        s.send(canvas)


@scenario
def a_stamped_chain(s: Any, c: Any, t: Any) -> None:
    stamp(s, c, t.add.s(1, 1) | t.add.s(2) | t.describing.s())


@scenario
def a_stamped_group(s: Any, c: Any, t: Any) -> None:
    stamp(s, c, c.group(t.describing.s(1), t.describing.s(2)))


@scenario
def a_stamped_chord(s: Any, c: Any, t: Any) -> None:
    stamp(s, c, c.chord([t.add.s(1, 1), t.add.s(2, 2)], t.describing.s()))


@scenario
def stamped_links(s: Any, c: Any, t: Any) -> None:
    stamp(s, c, t.add.s(1, 1).set(link=[t.linked.s('link')], link_error=[t.errback_old.s()]))


@scenario
def stamped_errbacks(s: Any, c: Any, t: Any) -> None:
    stamp(s, c, t.fail.s('stamped').on_error(t.errback_old.s()))


@scenario
def a_stamped_nested_canvas(s: Any, c: Any, t: Any) -> None:
    stamp(s, c, c.chain(t.add.s(1, 1), c.group(t.add.s(2) | t.add.s(3), t.add.s(4)), t.describing.s()))


@scenario
def stamps_given_twice(s: Any, c: Any, t: Any) -> None:
    for append in (False, True):
        sig = t.describing.s(append)
        sig.stamp(tag='first', listed=['a'], mapped={'a': 1})
        sig.stamp(append_stamps=append, tag='second', listed=['b'], mapped={'b': 2})
        s.note(f'append {append}', sig)
        s.send(sig)


@scenario
def stamps_of_retries(s: Any, c: Any, t: Any) -> None:
    sig = t.succeed_after.s(1)
    sig.stamp(tag='through retries')
    s.send(sig)


@scenario
def stamps_of_a_replacement(s: Any, c: Any, t: Any) -> None:
    sig = t.replaced.s(t.describing.s('replacement'))
    sig.stamp(tag='of the replaced')
    s.send(sig)


@scenario
def stamps_by_options(s: Any, c: Any, t: Any) -> None:
    s.send(t.describing.s(1), stamped_headers=['tag'], tag='by option')
    s.send(t.describing.s(2), tag='not listed')
    s.send(t.add.s(4, 4) | t.describing.s(), stamped_headers=['tag'], tag='by option')
    s.attempt('absent', lambda: s.send(t.describing.s(3), stamped_headers=['absent']) and None)


@scenario
def a_visitor_with_only_the_required_hook(s: Any, c: Any, t: Any) -> None:
    class Visitor(c.StampingVisitor):  # type: ignore[name-defined, misc]
        def on_signature(self, sig: Any, **headers: Any) -> Any:
            return {'number': 1, 'stamped_headers': ['number']}
    for canvas in (t.describing.s(1), t.add.s(1, 1) | t.describing.s(), c.chord([t.add.s(2, 2)], t.describing.s())):
        canvas.stamp(Visitor())
        s.note(f'stamped {type(canvas).__name__}', canvas)
        s.send(canvas)


@scenario
def a_visitor_without_stamps(s: Any, c: Any, t: Any) -> None:
    class Visitor(c.StampingVisitor):  # type: ignore[name-defined, misc]
        def on_signature(self, sig: Any, **headers: Any) -> Any:
            return None
    sig = t.describing.s(1)
    s.attempt('stamped', lambda: sig.stamp(Visitor()))
    s.note('afterwards', sig)


@scenario
def cloned_and_frozen_stamps(s: Any, c: Any, t: Any) -> None:
    sig = t.describing.s(1)
    sig.stamp(tag='original')
    s.note('clone', sig.clone())
    s.send(sig.clone(), tag='overridden')
    s.note('set', sig.set(tag='set'))


@scenario
def stamped_links_only(s: Any, c: Any, t: Any) -> None:
    sig = t.add.s(1, 1).set(link=[t.linked.s('link')])
    sig.stamp_links(visitor_of(c), own='stamp')
    s.note('stamped', sig)
    s.send(sig)
