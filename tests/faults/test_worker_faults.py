"""What a worker meets, as the commands beside this file, made small."""

from __future__ import annotations

import pytest

from tests.faults.backlog import start_on
from tests.faults.children import try_fault
from tests.faults.many_tasks import growth, run_many


@pytest.mark.alone
@pytest.mark.parametrize(('fault', 'ended'), [('stuck', 'TimeLimitExceeded'), ('leaking', 'replaced')])
def test_a_child_that_is_stuck_in_c_code_or_bloated_is_replaced(
    broker_url: str, redis_url: str, fault: str, ended: str
) -> None:
    came_to, seconds = try_fault(broker_url, redis_url, 'canvaslite', fault)
    assert (came_to, seconds < 20) == (ended, True)


@pytest.mark.alone
def test_a_worker_that_finds_many_messages_takes_few_and_gives_them_back(broker_url: str) -> None:
    start = start_on(broker_url, 'canvaslite', 2000, '--prefetch-multiplier=0')
    assert (start.lost, start.code) == (0, 0)
    assert start.first < 20 and start.stop < 20


def test_tasks_leave_nothing_in_the_memory_of_their_worker(broker_url: str) -> None:
    assert max(growth(run_many(broker_url, 'canvaslite', 5000))) <= 0.05
