"""Celery's own integration tests, with canvaslite as the name ``celery`` and servers of the test run's own.

Here only those run that take no more than a few minutes; ``python -m compat.upstream t/integration/test_canvas.py
t/integration/test_tasks.py --broker URL --backend URL`` runs all of them.
"""

from __future__ import annotations

import pytest

from compat.upstream import source
from compat.upstream.running import Setting, run_file
from compat.upstream.verdict import compare, read_list


@pytest.mark.parametrize('path, chosen', [
    ('t/integration/test_canvas.py', 'test_result_set or test_generator or test_nested_chord or add_to_chord'),
    ('t/integration/test_tasks.py', 'test_class_based_tasks or pydantic or reject or test_apply_tasks or trace_log or '
                                    'redis_result or replacement or signal or pool_acquire'),
])
def test_what_celery_asks_of_canvases_and_tasks_is_so(
    path: str, chosen: str, broker_url: str, redis_url: str
) -> None:
    tree = source.tests_of_celery(source.cache_folder())
    setting = Setting(tree, broker=broker_url, backend=redis_url, chosen=chosen)
    passed, _, unexpected, _ = compare(path, run_file(setting, path), None, read_list())
    assert not unexpected
    assert len(passed) > 15
