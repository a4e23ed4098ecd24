from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

from canvaslite.execution.outcome import Kind
from canvaslite.pools.base import Pace
from canvaslite.pools.prefork.pool import PreforkPool
from canvaslite.protocol.job import Verdict

from .conftest import Loop, Request


def short() -> Pace:
    pace = Pace()
    pace.note(0.0001)
    return pace


def test_tasks_run_in_child_processes(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 2)
    loop.run(pool, *[Request('pid') for _ in range(20)])
    pids = set(map(int, loop.recorder.notes()))
    assert len(loop.recorder.finished) == 20
    assert pids <= {child.pid for child in pool.children}
    assert os.getpid() not in pids


def test_thousands_of_short_tasks_run_once_each(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 2)
    pace = short()
    requests = [Request('nothing', pace=pace) for _ in range(5000)]
    loop.run(pool, *requests)
    assert {id(entry[0]) for entry in loop.recorder.finished} == set(map(id, requests))
    assert len(loop.recorder.finished) == 5000


def test_a_long_task_holds_no_short_one_behind_it(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 2)
    pace = short()
    long = Request('sleep 3', pace=pace)
    pool.submit(long)
    shorts = [Request('nothing', pace=pace) for _ in range(200)]
    for request in shorts:
        pool.submit(request)
    loop.turn_until(lambda: len(loop.recorder.finished) == 200)
    assert long in loop.recorder.started
    assert list(pool.running()) == [long]


def test_a_killed_child_loses_only_the_task_it_ran(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 2)
    pace = short()
    requests = [Request('kill 9' if n % 50 == 25 else 'nothing', pace=pace) for n in range(300)]
    loop.run(pool, *requests)
    assert sorted(request.body for request, _ in loop.recorder.lost) == ['kill 9'] * 6
    assert len(loop.recorder.finished) == 294
    assert 'signal 9 (SIGKILL)' in loop.recorder.lost[0][1]
    loop.turn_until(lambda: len(pool.children) == 2)


def test_a_child_that_dies_after_its_last_task_and_before_its_report_is_given_no_more(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 1)
    loop.run(pool, Request())
    dying = pool.children[0]
    pool.submit(Request())
    pool.pump()
    while dying.page.finished < dying.seq:
        time.sleep(0.001)
    dying.send_signal(signal.SIGKILL)
    while dying.process.exitcode is None:
        time.sleep(0.001)
    with contextlib.suppress(BlockingIOError):
        dying.sock.recv(1 << 18)  # as if it had not come to writing it
    loop.run(pool, *[Request() for _ in range(5)])
    assert len(loop.recorder.finished) == 7 and not loop.recorder.lost


def test_a_task_that_exits_is_lost_and_its_process_replaced(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 1)
    loop.run(pool, Request('exit 3'), Request('nothing'))
    assert [reason for _, reason in loop.recorder.lost] == ['Worker exited prematurely: exitcode 3 Job: 1.']
    assert len(loop.recorder.finished) == 1


def test_a_stopped_child_does_not_block_the_others(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 2)
    loop.turn_until(lambda: len(pool.idle) == 2)
    stopped = pool.children[0]
    os.kill(stopped.pid, signal.SIGSTOP)
    pace = short()
    big = 'size ' + 'x' * 3_000_000
    loop.run(pool, *[Request(big if n == 0 else 'nothing', pace=pace) for n in range(300)])
    assert len(loop.recorder.finished) == 300
    os.kill(stopped.pid, signal.SIGCONT)
    loop.turn_until(lambda: len(pool.idle) == 2)
    loop.run(pool, *[Request('sleep 0.05') for _ in range(2)])
    assert len(loop.recorder.finished) == 302


def test_ten_megabyte_bodies_pass_through(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 2)
    loop.run(pool, *[Request('size ' + 'x' * 10_000_000) for _ in range(4)], Request('size 1'))
    assert sorted(loop.recorder.notes()) == ['10000005'] * 4 + ['6']


def test_children_are_replaced_after_their_last_task(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 1, max_tasks_per_child=3)
    loop.run(pool, *[Request('pid', pace=short()) for _ in range(9)])
    assert len(set(loop.recorder.notes())) == 3
    assert not loop.recorder.lost


def test_children_are_replaced_when_they_use_too_much_memory(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 1, max_memory_per_child=1)
    loop.run(pool, *[Request('pid') for _ in range(3)])
    assert len(set(loop.recorder.notes())) == 3


def test_the_soft_limit_is_raised_in_the_task(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 1)
    limited = Request('sleep 5', limits=(None, 0.1))
    loop.run(pool, limited)
    assert loop.recorder.timeouts == [(limited, True, 0.1)]
    assert loop.recorder.notes() == ['SoftTimeLimitExceeded()']


def test_the_hard_limit_kills_the_process(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 1)
    limited = Request('sleep 5', limits=(0.1, None))
    loop.run(pool, limited, Request('nothing'))
    assert loop.recorder.timeouts == [(limited, False, 0.1)]
    assert not loop.recorder.lost
    assert len(loop.recorder.finished) == 1


def test_term_ends_a_child_only_when_the_parent_says_so(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 1)
    request = Request('sleep 5')
    pool.submit(request)
    loop.turn_until(lambda: loop.recorder.started)
    os.kill(pool.children[0].pid, signal.SIGTERM)
    os.kill(pool.children[0].pid, signal.SIGINT)
    time.sleep(0.2)
    assert not loop.recorder.lost and list(pool.running()) == [request]
    assert pool.terminate_job(request, signal.SIGTERM)
    loop.turn_until(lambda: loop.recorder.lost)
    assert f'exitcode {128 + signal.SIGTERM}' in loop.recorder.lost[0][1]


def test_a_verdict_reaches_the_child(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 1)
    request = Request()
    request.verdict = Verdict('lost', 'gone')
    pool.submit_first(request)
    loop.turn_until(lambda: not pool.pending())
    assert loop.recorder.finished[0][1:] == (Kind.FAILURE, 0.0, 'lost gone')


def test_withdrawn_requests_do_not_run(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 1)
    pace = short()
    requests = [Request('sleep 0.3', pace=pace), *[Request('nothing', pace=pace) for _ in range(100)]]
    for request in requests:
        pool.submit(request)
    loop.turn_until(lambda: loop.recorder.started)
    withdrawn = pool.withdraw(lambda request: True)
    loop.turn_until(lambda: not pool.pending())
    assert set(map(id, withdrawn)) | {id(entry[0]) for entry in loop.recorder.finished} == set(map(id, requests))
    assert len(withdrawn) + len(loop.recorder.finished) == 101
    assert len(withdrawn) > 60


def test_the_pool_grows_and_shrinks(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 1)
    pool.grow(2)
    loop.turn_until(lambda: len(pool.idle) == 3)
    pool.shrink(2)
    loop.turn_until(lambda: len(pool.children) == 1)
    assert pool.num_processes == 1
    loop.run(pool, Request('nothing'))
    assert len(loop.recorder.finished) == 1


def test_what_was_to_end_for_good_is_not_replaced_when_the_pool_is_restarted(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 3)
    for _ in range(3):
        pool.submit(Request('sleep 1'))
    loop.turn_until(lambda: len(loop.recorder.started) == 3)
    pool.shrink(2)
    pool.restart()
    old = list(pool.children)
    loop.turn_until(lambda: not set(old).intersection(pool.children))
    assert len(pool.children) == pool.num_processes == 1


def test_children_do_not_hold_each_others_sockets(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 3)
    loop.turn_until(lambda: len(pool.idle) == 3)
    counts = []
    for child in pool.children:
        links = [os.readlink(f'/proc/{child.pid}/fd/{fd}') for fd in os.listdir(f'/proc/{child.pid}/fd')]
        counts.append(sum(link.startswith('socket:') for link in links))
    parents: Any = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if fd.isdigit()
                    and os.path.lexists(f'/proc/self/fd/{fd}')]
    inherited = sum(link.startswith('socket:') for link in parents) - 3 - 2  # ours of the children, the hub's waker
    assert max(counts) <= 1 + max(inherited, 0)


def test_stop_lets_children_end_by_themselves(loop: Loop) -> None:
    pool = loop.start(PreforkPool, 2)
    loop.run(pool, Request('nothing'))
    processes = [child.process for child in pool.children]
    pool.stop(5)
    assert [process.exitcode for process in processes] == [0, 0]
