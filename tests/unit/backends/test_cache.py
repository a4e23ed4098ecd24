"""Results in memory: what is shared, what is not, and what a user gets wrong."""

from __future__ import annotations

import multiprocessing
import threading
import warnings
from typing import Any

import pytest

from canvaslite import Celery, states
from canvaslite.backends.cache import memory
from canvaslite.exceptions import ImproperlyConfigured

fork = multiprocessing.get_context('fork')


def make(backend: str = 'cache+memory://', **settings: Any) -> Any:
    return Celery('unit', broker='memory://', backend=backend, set_as_current=False, changes=settings)


def test_all_apps_of_a_process_share_the_memory() -> None:
    make().backend.mark_as_done('shared', 1)
    assert make('cache', cache_backend='memory').backend.get_result('shared') == 1
    assert make('memory://').backend.get_result('shared') == 1


def test_a_result_waited_for_in_one_app_may_be_stored_in_another() -> None:
    storing = threading.Timer(0.05, make().backend.mark_as_done, ('elsewhere', 'value'))
    storing.start()
    assert make().AsyncResult('elsewhere').get(timeout=5) == 'value'


def test_a_child_process_is_told_once_that_nobody_sees_its_results() -> None:
    backend = make().backend
    told = fork.SimpleQueue()

    def store() -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            backend.mark_as_done('in-a-child', 1)
            backend.mark_as_done('in-a-child-too', 2)
        told.put([str(warning.message) for warning in caught])

    child = fork.Process(target=store)
    child.start()
    (warning,) = told.get()
    child.join()

    assert 'solo or threads' in warning
    assert backend.get_state('in-a-child') == states.PENDING


def test_a_fork_while_another_thread_holds_the_memory_harms_nobody() -> None:
    backend = make().backend
    with memory.changed:
        child = fork.Process(target=backend.mark_as_done, args=('forked', 1))
        child.start()
        child.join(10)
    assert child.exitcode == 0


def test_an_unknown_cache_is_named() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"no cache is called 'nosuch'; use cache\+memory:// or"):
        make('cache+nosuch://').backend
