"""`Manager`: waits for tasks and workers in tests."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any, TextIO

from kombu.exceptions import ContentDisallowed
from kombu.utils.functional import retry_over_time

from canvaslite import states
from canvaslite.exceptions import TimeoutError
from canvaslite.result import ResultSet

__all__ = ('Manager', 'ManagerMixin', 'Sentinel')


#: How `ManagerMixin.wait_for` waits where it is not told.
_POLICY = {'max_retries': 10, 'interval_start': 0.1, 'interval_step': 0.5, 'interval_max': 5.0}


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

    def wait_for(self, fun: Callable[..., Any], catch: Any, desc: str = 'thing', args: Any = (), kwargs: Any = None,
                 errback: Callable[..., Any] | None = None, emit_warning: bool = False, **policy: Any) -> Any:
        """Call `fun` until it does not raise `catch`, with growing intervals between the calls."""
        def on_error(exc: BaseException, intervals: Iterator[float], retries: int) -> float:
            interval = next(intervals)
            if emit_warning:
                when = f'in {interval:.2f} seconds' if interval else 'now'
                print(f'Still waiting for {desc}.  Trying again {when}: {exc!r}', file=self.stderr)
            if errback is not None:
                errback(exc, interval, retries)
            return interval
        return retry_over_time(fun, catch, args=args, kwargs=kwargs or {}, errback=on_error, **{**_POLICY, **policy})

    def ensure_not_for_a_while(self, fun: Callable[..., Any], catch: Any, **policy: Any) -> Any:
        """As `wait_for`, for what must not happen: with the last `catch` all is well."""
        try:
            policy = {'max_retries': 20, 'interval_step': 0.02, 'interval_max': 1.0, **policy}
            return self.wait_for(fun, catch, **policy)
        except catch:
            return None

    def join(self, r: Any, propagate: bool = False, max_retries: int | None = 10, **options: Any) -> Any:
        """The values of `r`, a result or several; asks again when there is none in time, or no connection."""
        if self.no_join:
            return None
        results = r if isinstance(r, ResultSet) else self.app.ResultSet([r])
        for _ in range(max_retries) if max_retries else count():
            try:
                return results.get(propagate=propagate, **options)
            except (TimeoutError, OSError) as exc:  # those of sockets and of connections among them
                missing = [result.id for result in results if not result.ready()]
                self.remark(f'Still waiting for {len(missing)}/{len(results)}: [{", ".join(missing)[:128]}]: {exc!r}',
                            '!')
            except self.connerrors as exc:
                self.remark(f'join: connection lost: {exc!r}', '!')
        raise AssertionError('Test failed: Missing task results')

    def inspect(self, timeout: float = 3.0) -> Any:
        return self.app.control.inspect(timeout=timeout)

    def query_task_states(self, ids: Iterable[str], timeout: float = 0.5) -> dict[str, set[str]]:
        """The ids by the state in which a worker has them."""
        found: dict[str, set[str]] = defaultdict(set)
        for reply in (self.inspect(timeout).query_task(*ids) or {}).values():
            for task_id, (state, _) in reply.items():
                found[state].add(task_id)
        return found

    def assert_accepted(self, ids: Iterable[str], interval: float = 0.5, desc: str = 'waiting for tasks to be accepted',
                        **policy: Any) -> Any:
        return self.wait_for(self._assert_states, Sentinel, desc, (ids, ('active', 'ready'), interval), **policy)

    def assert_received(self, ids: Iterable[str], interval: float = 0.5, desc: str = 'waiting for tasks to be received',
                        **policy: Any) -> Any:
        return self.wait_for(self._assert_states, Sentinel, desc, (ids, ('reserved', 'active', 'ready'), interval),
                             **policy)

    def _assert_states(self, ids: Iterable[str], states: Iterable[str], timeout: float) -> None:
        found = self.query_task_states(ids, timeout)
        if not set(ids) <= set().union(*(found.get(state, ()) for state in states)):
            raise Sentinel

    def assert_result_tasks_in_progress_or_completed(self, async_results: Iterable[Any], interval: float = 0.5,
                                                     desc: str = 'waiting for tasks to be started or completed',
                                                     **policy: Any) -> Any:
        def assert_them() -> None:
            if any(result.state not in (states.STARTED, states.SUCCESS) for result in async_results):
                raise Sentinel
        return self.wait_for(assert_them, Sentinel, desc, **policy)

    def wait_until_idle(self) -> None:
        """Delete what waits in the queues, and wait until no worker has anything to do."""
        with self.app.connection() as connection:
            while self.app.control.purge(connection=connection):
                pass
            inspect = self.app.control.inspect(connection=connection)
            with suppress(ContentDisallowed):  # the reply shows arguments of a kind that this app does not accept
                while any((inspect.active() or {}).values()):
                    pass


class Manager(ManagerMixin):
    """Waits for tasks and workers of `app`."""

    def __init__(self, app: Any, **options: Any) -> None:
        self.app = app
        self._init_manager(**options)
