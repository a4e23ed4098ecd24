"""`Manager`: waits for tasks and workers in tests."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from typing import Any, TextIO

from kombu.exceptions import ContentDisallowed
from kombu.utils.functional import retry_over_time

from canvaslite import states
from canvaslite.exceptions import TimeoutError
from canvaslite.result import ResultSet

__all__ = ('Manager', 'ManagerMixin', 'Sentinel')


class Sentinel(Exception):
    """What is waited for has not happened yet."""


class ManagerMixin:
    """What `Manager` can do, for a class that has an `app` and calls `_init_manager`."""

    app: Any

    def _init_manager(self, block_timeout: float = 30 * 60.0, no_join: bool = False, stdout: TextIO | None = None,
                      stderr: TextIO | None = None) -> None:
        self.stdout = sys.stdout if stdout is None else stdout
        self.stderr = sys.stderr if stderr is None else stderr
        self.connerrors = self.app.connection().recoverable_connection_errors
        self.block_timeout = block_timeout
        self.no_join = no_join

    def remark(self, text: str, sep: str = '-') -> None:
        print(f'{sep}{text}', file=self.stdout)

    def warn(self, text: str) -> None:
        print(text, file=self.stderr)

    def missing_results(self, r: Iterable[Any]) -> list[str]:
        """The ids of those results that are not known yet."""
        return [result.id for result in r if not result.ready()]

    def wait_for(self, fun: Callable[..., Any], catch: Any, desc: str = 'thing', args: Any = (), kwargs: Any = None,
                 errback: Callable[..., Any] | None = None, max_retries: int | None = 10, interval_start: float = 0.1,
                 interval_step: float = 0.5, interval_max: float = 5.0, emit_warning: bool = False,
                 **options: Any) -> Any:
        """Call `fun` until it does not raise `catch`, with growing intervals between the calls."""
        def on_error(exc: BaseException, intervals: Iterator[float], retries: int) -> float:
            interval = next(intervals)
            if emit_warning:
                when = f'in {interval:.2f} seconds' if interval else 'now'
                self.warn(f'Still waiting for {desc}.  Trying again {when}: {exc!r}')
            if errback is not None:
                errback(exc, interval, retries)
            return interval
        return self.retry_over_time(fun, catch, args=args, kwargs=kwargs or {}, errback=on_error,
                                    max_retries=max_retries, interval_start=interval_start,
                                    interval_step=interval_step, interval_max=interval_max, **options)

    def ensure_not_for_a_while(self, fun: Callable[..., Any], catch: Any, desc: str = 'thing', max_retries: int = 20,
                               interval_start: float = 0.1, interval_step: float = 0.02, interval_max: float = 1.0,
                               emit_warning: bool = False, **options: Any) -> Any:
        """As `wait_for`, for what must not happen: with the last `catch` all is well."""
        try:
            return self.wait_for(fun, catch, desc=desc, max_retries=max_retries, interval_start=interval_start,
                                 interval_step=interval_step, interval_max=interval_max, emit_warning=emit_warning,
                                 **options)
        except catch:
            return None

    def retry_over_time(self, *args: Any, **kwargs: Any) -> Any:
        return retry_over_time(*args, **kwargs)

    def join(self, r: Any, propagate: bool = False, max_retries: int | None = 10, **options: Any) -> Any:
        """The values of `r`, a result or several; asks again when there is none in time, or no connection."""
        if self.no_join:
            return None
        results = r if isinstance(r, ResultSet) else self.app.ResultSet([r])
        for _ in range(max_retries) if max_retries else count():
            try:
                return results.get(propagate=propagate, **options)
            except (TimeoutError, OSError) as exc:  # those of sockets and of connections among them
                missing = self.missing_results(results)
                self.remark(f'Still waiting for {len(missing)}/{len(results)}: [{", ".join(missing)[:128]}]: {exc!r}',
                            '!')
            except self.connerrors as exc:
                self.remark(f'join: connection lost: {exc!r}', '!')
        raise AssertionError('Test failed: Missing task results')

    def inspect(self, timeout: float = 3.0) -> Any:
        return self.app.control.inspect(timeout=timeout)

    def query_tasks(self, ids: Iterable[str], timeout: float = 0.5) -> Iterator[tuple[str, Any]]:
        """Each worker's name, and what it knows of these tasks."""
        yield from (self.inspect(timeout).query_task(*ids) or {}).items()

    def query_task_states(self, ids: Iterable[str], timeout: float = 0.5) -> dict[str, set[str]]:
        """The ids by the state in which a worker has them."""
        found: dict[str, set[str]] = defaultdict(set)
        for _, reply in self.query_tasks(ids, timeout=timeout):
            for task_id, (state, _) in reply.items():
                found[state].add(task_id)
        return found

    def assert_accepted(self, ids: Iterable[str], interval: float = 0.5, desc: str = 'waiting for tasks to be accepted',
                        **policy: Any) -> Any:
        return self.assert_task_worker_state(self.is_accepted, ids, interval=interval, desc=desc, **policy)

    def assert_received(self, ids: Iterable[str], interval: float = 0.5, desc: str = 'waiting for tasks to be received',
                        **policy: Any) -> Any:
        return self.assert_task_worker_state(self.is_received, ids, interval=interval, desc=desc, **policy)

    def assert_result_tasks_in_progress_or_completed(
            self, async_results: Iterable[Any], interval: float = 0.5,
            desc: str = 'waiting for tasks to be started or completed', **policy: Any) -> Any:
        return self.assert_task_state_from_result(self.is_result_task_in_progress, async_results, interval=interval,
                                                  desc=desc, **policy)

    def assert_task_worker_state(self, fun: Callable[..., bool], ids: Iterable[Any], interval: float = 0.5,
                                 **policy: Any) -> Any:
        """Wait until ``fun(ids, timeout=interval)`` is true. Raises `Sentinel` when it does not become so."""
        return self.wait_for(partial(self.true_or_raise, fun, ids, timeout=interval), (Sentinel,), **policy)

    assert_task_state_from_result = assert_task_worker_state

    @staticmethod
    def is_result_task_in_progress(results: Iterable[Any], **kwargs: Any) -> bool:
        return all(result.state in (states.STARTED, states.SUCCESS) for result in results)

    def is_received(self, ids: Iterable[str], **kwargs: Any) -> bool:
        return self._are_in(('reserved', 'active', 'ready'), ids, **kwargs)

    def is_accepted(self, ids: Iterable[str], **kwargs: Any) -> bool:
        return self._are_in(('active', 'ready'), ids, **kwargs)

    def _are_in(self, expected: Iterable[str], ids: Iterable[str], timeout: float = 0.5) -> bool:
        found = self.query_task_states(ids, timeout=timeout)
        return set(ids) <= set().union(*(found.get(state, ()) for state in expected))

    def true_or_raise(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What ``fun(...)`` returns; raises `Sentinel` where that is false."""
        value = fun(*args, **kwargs)
        if not value:
            raise Sentinel
        return value

    def wait_until_idle(self) -> None:
        """Delete what waits in the queues, and wait until no worker has anything to do."""
        with self.app.connection() as connection:
            while self.app.control.purge(connection=connection):
                pass
            inspect = self.app.control.inspect(connection=connection)
            try:
                while any((inspect.active() or {}).values()):
                    pass
            except ContentDisallowed:  # the reply shows arguments of a kind that this app does not accept
                pass


class Manager(ManagerMixin):
    """Waits for tasks and workers of `app`."""

    def __init__(self, app: Any, **options: Any) -> None:
        self.app = app
        self._init_manager(**options)
