"""Bodies of messages whose chain or chord is left undecoded."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from canvaslite.utils.undecoded import ChainTail, Undecoded, read_body

FOLLOWED = {'callbacks': None, 'errbacks': None, 'chain': None, 'chord': None}


def step(name: str, *args: Any, **options: Any) -> dict[str, Any]:
    return {'task': name, 'args': list(args), 'kwargs': {}, 'options': options, 'subtask_type': None,
            'immutable': False}


def body(args: Any = (), **embed: Any) -> str:
    return json.dumps([args, {}, {**FOLLOWED, **embed}])


def plain(payload: Any) -> Any:
    args, kwargs, embed = payload
    return [args, kwargs, {name: value.decode() if isinstance(value, Undecoded) else value
                           for name, value in embed.items()}]


TEXTS = st.text(alphabet='a"\\{}[], :task', max_size=20)
STEPS = st.recursive(
    st.builds(step, TEXTS, TEXTS),
    lambda inner: st.builds(lambda tasks, name: {**step(name), 'kwargs': {'tasks': tasks}}, st.lists(inner), TEXTS),
    max_leaves=12,
)


@given(st.lists(STEPS, min_size=1))
def test_a_chain_is_taken_from_its_end_step_by_step(steps: list[Any]) -> None:
    rest: Any = ChainTail(json.dumps(steps))
    taken = []
    while rest:
        taken_step, rest = rest.split() if isinstance(rest, ChainTail) else (rest[-1], rest[:-1])
        taken.append(taken_step)
    assert taken[::-1] == steps


def test_a_step_is_taken_without_decoding_the_others() -> None:
    tail = ChainTail('[what is no JSON, {"task": "a", "args": [{"task": "x"}, {"task": "y"}]}]')
    taken, rest = tail.split()
    assert taken == {'task': 'a', 'args': [{'task': 'x'}, {'task': 'y'}]}
    assert rest.encode(lambda value: b'') == b'[what is no JSON]'


@pytest.mark.parametrize('dumps', [json.dumps, lambda value: json.dumps(value, separators=(',', ':'))],
                         ids=['as kombu writes it', 'as another writes it'])
def test_a_long_body_says_the_same_whoever_wrote_it(dumps: Any) -> None:
    steps = [step(f'task {number}', number, queue='"}, {"task": ') for number in range(100)]
    for embed in ({'chain': steps}, {'chord': {**step('body'), 'kwargs': {'all': steps}}},
                  {'chain': steps, 'chord': step('body')}, {'callbacks': steps}):
        payload = [[1], {}, {**FOLLOWED, **embed}]
        assert plain(read_body(dumps(payload))) == payload


def test_a_long_chain_and_a_long_chord_stay_undecoded() -> None:
    steps = [step('task', number) for number in range(100)]
    assert isinstance(read_body(body(chain=steps))[2]['chain'], ChainTail)
    assert isinstance(read_body(body(chord={**step('body'), 'kwargs': {'all': steps}}))[2]['chord'], Undecoded)


def test_types_of_kombu_are_read_in_arguments_and_in_steps() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    steps = [step('task', moment) for _ in range(100)]
    args, _, embed = read_body(kombu_json.dumps([[moment], {}, {**FOLLOWED, 'chain': steps}]))
    assert args == [moment]
    assert embed['chain'].split()[0] == step('task', moment)


@pytest.mark.parametrize('text', ['', 'no JSON', '[1, 2', '[[], {}, {"callbacks": null, "errbacks": null, "chain": ['
                                  + '1, ' * 3000 + ']', '{"a": ' + '1' * 5000])
def test_a_body_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_body(text)


def test_what_many_messages_carry_is_encoded_once() -> None:
    encoded = []

    def encode(value: Any) -> bytes:
        encoded.append(value)
        return json.dumps(value).encode()

    carried = Undecoded(value={'task': 'body'})
    assert {carried.encode(encode) for _ in range(3)} == {b'{"task": "body"}'}
    assert encoded == [{'task': 'body'}]
    assert carried.decode() == {'task': 'body'}


def test_a_long_body_after_which_no_step_is_left_has_an_empty_chain() -> None:
    embed = {'callbacks': [{'task': 'x' * 5000}], 'errbacks': None, 'chain': [], 'chord': None}
    body = read_body(kombu_json.dumps([[1], {}, embed]))
    assert body[2]['chain'] == []
    assert not body[2]['chain']
