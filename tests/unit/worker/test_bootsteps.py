from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from canvaslite import bootsteps


class Recorded(bootsteps.StartStopStep):
    def __init__(self, parent: Any, **kwargs: Any) -> None:
        self.log = parent.log

    def start(self, parent: Any) -> None:
        self.log.append(f'start {self.alias}')

    def stop(self, parent: Any) -> None:
        self.log.append(f'stop {self.alias}')


class First(Recorded):
    pass


class Second(Recorded):
    requires = (First,)


class Last(Recorded):
    last = True


class Absent(Recorded):
    enabled = False


def parent() -> Any:
    return SimpleNamespace(steps=[], log=[])


def test_steps_start_after_what_they_require_and_stop_in_reverse() -> None:
    one = parent()
    blueprint = bootsteps.Blueprint(steps=[Last, Second, Absent])
    blueprint.apply(one)
    blueprint.start(one)
    blueprint.stop(one)
    assert one.log == ['start First', 'start Second', 'start Last', 'stop Last', 'stop Second', 'stop First']
    assert blueprint.human_state() == 'terminating'


def test_steps_that_require_each_other_are_refused() -> None:
    class Chicken(bootsteps.Step):
        requires = ()

    class Egg(bootsteps.Step):
        requires = (Chicken,)

    Chicken.requires = (Egg,)
    with pytest.raises(KeyError, match='require each other'):
        bootsteps.Blueprint(steps=[Egg]).apply(parent())


def test_a_step_that_fails_to_stop_does_not_keep_others_from_stopping() -> None:
    class Broken(Recorded):
        requires = (First,)

        def stop(self, parent: Any) -> None:
            raise ValueError('broken')

    one = parent()
    blueprint = bootsteps.Blueprint(steps=[Broken])
    blueprint.apply(one)
    blueprint.start(one)
    blueprint.stop(one)
    assert one.log[-1] == 'stop First'
