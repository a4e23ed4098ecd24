from __future__ import annotations

import pytest

from canvaslite.control import Inspect, flatten_reply
from canvaslite.exceptions import DuplicateNodenameWarning


def test_answers_are_gathered_by_node() -> None:
    assert flatten_reply([{'a@x': 1}, {'b@x': 2}]) == {'a@x': 1, 'b@x': 2}


def test_a_node_that_answers_twice_is_warned_of() -> None:
    with pytest.warns(DuplicateNodenameWarning, match='a@x'):
        flatten_reply([{'a@x': 1}, {'a@x': 2}])


class Control:
    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, object]]] = []

    def broadcast(self, command: str, **options: object) -> list[dict[str, object]]:
        self.sent.append((command, options))
        return [{'a@x': command}, {'b@x': command}]


class App:
    def __init__(self) -> None:
        self.control = Control()


def test_one_destination_gives_the_answer_itself() -> None:
    app = App()
    assert Inspect(destination='a@x', app=app).stats() == 'stats'
    assert app.control.sent[0][1]['destination'] == ['a@x']
    assert Inspect(destination=['a@x', 'b@x'], app=app).stats() == {'a@x': 'stats', 'b@x': 'stats'}


def test_a_pattern_chooses_nodes() -> None:
    assert Inspect(pattern='b*', matcher='glob', app=App()).ping() == {'b@x': 'ping'}
