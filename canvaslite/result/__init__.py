"""Results: what a caller gets for a task or a group, and waits on.

`AsyncResult` stands for one task, `GroupResult` for a group, `ResultSet` for any collection, `EagerResult` for a task
that was called locally. `result_from_tuple` rebuilds them from the form in which they are stored.
"""

from __future__ import annotations

from canvaslite.result.async_result import AsyncResult, EagerResult
from canvaslite.result.blocking import (
    allow_join_result,
    assert_will_not_block,
    denied_join_result,
    set_task_join_will_block,
    task_join_will_block,
)
from canvaslite.result.result_set import GroupResult, ResultSet
from canvaslite.result.stored import ResultBase, result_from_tuple
from canvaslite.result.tree import CanvasTree

__all__ = (
    'AsyncResult', 'CanvasTree', 'EagerResult', 'GroupResult', 'ResultBase', 'ResultSet', 'allow_join_result',
    'assert_will_not_block', 'denied_join_result', 'result_from_tuple', 'set_task_join_will_block',
    'task_join_will_block',
)
