"""Which messages the broker has answered for."""

from __future__ import annotations

import pytest
from amqp.exceptions import ChannelError
from hypothesis import given
from hypothesis import strategies as st

from canvaslite.transport.confirms import BurstNacked, Confirms, Returned


@given(st.integers(1, 30), st.data())
def test_any_mixture_of_answers_settles_each_message_once(count: int, data: st.DataObject) -> None:
    confirms = Confirms()
    confirms.expect(count)
    left = set(range(1, count + 1))
    refused = set()

    while left:
        tag = data.draw(st.sampled_from(sorted(left)))
        multiple, accepted = data.draw(st.booleans()), data.draw(st.booleans())
        settled = {each for each in left if each <= tag} if multiple else {tag}
        confirms.settle(tag, multiple, accepted)
        left -= settled
        refused |= set() if accepted else settled
        assert confirms.outstanding == len(left)

    if not refused:
        confirms.raise_for_refused()
        return
    with pytest.raises(BurstNacked) as caught:
        confirms.raise_for_refused()
    assert caught.value.positions == tuple(tag - 1 for tag in sorted(refused))


def test_positions_count_from_the_last_verdict() -> None:
    confirms = Confirms()
    confirms.expect(3)
    confirms.settle(3, multiple=True, accepted=True)
    confirms.raise_for_refused()
    confirms.expect(2, [('', 'first'), ('orders', 'second')])
    confirms.settle(4, multiple=False, accepted=True)
    confirms.settle(5, multiple=False, accepted=False)

    with pytest.raises(BurstNacked, match="exchange 'orders' with routing key 'second'") as caught:
        confirms.raise_for_refused()

    assert caught.value.positions == (1,)


def test_tag_zero_answers_for_all() -> None:
    confirms = Confirms()
    confirms.expect(4)

    confirms.settle(0, multiple=True, accepted=True)

    assert confirms.outstanding == 0


def test_answers_after_giving_up_are_ignored() -> None:
    confirms = Confirms()
    confirms.expect(2)
    confirms.give_up()
    confirms.expect(1)

    confirms.settle(2, multiple=True, accepted=False)

    assert confirms.outstanding == 1
    confirms.settle(3, multiple=False, accepted=True)
    confirms.raise_for_refused()


def test_a_returned_message_is_told_even_when_others_were_refused() -> None:
    confirms = Confirms()
    confirms.expect(2)
    confirms.add_return(Returned(312, 'NO_ROUTE', 'orders', 'nowhere'))
    confirms.settle(1, multiple=False, accepted=True)
    confirms.settle(2, multiple=False, accepted=False)

    with pytest.raises(BurstNacked):
        confirms.raise_for_refused()
    with pytest.raises(ChannelError, match="exchange 'orders' with routing key 'nowhere': NO_ROUTE"):
        confirms.raise_for_refused()
