"""One schedule: the processes of a fleet, what happens to them, and what must be true in the end.

A `Lab` has a store and the nodes on which processes run, for many schedules; a `World` is one of these. In it a
publisher sends a canvas, workers run what arrives, sweepers look after chords, and Celery's workers (where the store is
Redis) take parts too. An *action* says what happens next: a process does its next step, dies there, or gets an error
instead of an answer; a message comes twice; time passes; somebody sweeps. `World.settle` lets all of it come to rest,
and `World.check` asks whether the promises were kept.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any
from unittest.mock import patch

from canvaslite import Celery, chord, current, states
from canvaslite.backends import database
from canvaslite.execution import tracer
from canvaslite.execution.entry import Executor
from canvaslite.execution.outcome import Kind
from canvaslite.protocol.job import AMQP_PROPERTIES, Job, Verdict
from canvaslite.worker import outcomes
from tests.model import celery_worker
from tests.model.broker import Broker, ChannelPool, Message
from tests.model.processes import FAIL, GO, LOSE, Clock, Died, Node, here, pause
from tests.model.stores import Store

#: What a process says that waits for a message.
WAITING = 'waiting'
#: Seconds after which a chord fails that is not complete.
DEADLINE = 3600
#: How long, in seconds, it may take until all is over, once nothing more happens to the processes.
SETTLED_WITHIN = 300.0
#: Seconds between two sweeps, then.
BETWEEN_SWEEPS = 5.0
#: How often something of a kind happens in one schedule.
AT_MOST = {'kill': 3, 'crash': 2, 'burn': 2, 'fail': 4, 'lose': 4, 'outage': 1, 'copy': 4, 'tick': 5, 'sweep': 4}
ACTIONS = (*['go'] * 12, *AT_MOST)
TICKS, OUTAGES = (0.7, 2.5, 9.0, 31.0), (5.0, 50.0)

Action = tuple[str, int]
Process = Generator[str, Any, None]


class Violation(AssertionError):
    """A promise was not kept."""


class Plan:
    """A canvas, and how its tasks behave. `shape` is what the body must get, with the names of slots for values; slots
    in `fails` fail, those in `recovers` only when they run for the first time."""

    def __init__(self, name: str, shape: list[Any], fails: str = '', recovers: str = '', early: bool = False) -> None:
        self.name, self.shape, self.fails, self.recovers, self.early = name, shape, fails, recovers, early

    def canvas(self, app: Any) -> Any:
        """What is sent."""
        body = app.tasks['body'].s()
        if self.name == 'streamed':
            sig = chord((self._member(app, slot) for slot in self.shape), body, app=app)
        else:
            sig = chord([self._member(app, slot) for slot in self.shape], body, app=app)
        body.link_error(app.tasks['told'].s())
        return sig

    def _member(self, app: Any, slot: Any) -> Any:
        if isinstance(slot, list):
            return chord([self._member(app, inner) for inner in slot], app.tasks['inner'].s(), app=app)
        if self.name == 'chained':
            return app.tasks['first'].si(slot) | app.tasks['member'].si(slot)
        return app.tasks['early' if self.early else 'member'].si(slot)

    def __repr__(self) -> str:
        return (f'Plan({self.name!r}, {self.shape!r}, fails={self.fails!r}, recovers={self.recovers!r}, '
                f'early={self.early!r})')


PLANS = (
    Plan('flat', ['a', 'b']),
    Plan('flat', ['a', 'b', 'c']),
    Plan('failing', ['a', 'b', 'c'], fails='b'),
    Plan('flaky', ['a', 'b'], recovers='b'),
    Plan('nested', [['a', 'b'], 'c']),
    Plan('nested failing', [['a', 'b'], 'c'], fails='a'),
    Plan('streamed', ['a', 'b']),
    Plan('chained', ['a', 'b']),
    Plan('early', ['a', 'b'], early=True),
    Plan('extended', ['a', 'b']),
)


class Run:
    """One run of a task that ended, or was said to have: its value (None for a failure), and between which steps of the
    schedule it was recorded."""

    def __init__(self, slot: str, value: str | None, begun: float) -> None:
        self.slot, self.value, self.begun, self.ended = slot, value, begun, float('inf')


class Actor:
    """A process on its way."""

    def __init__(self, name: str, process: Process, node: Node | None) -> None:
        self.name, self.process, self.node = name, process, node
        self.at, self.ended = next(process), False

    @property
    def works(self) -> bool:
        """Whether it stands before a step."""
        return not self.ended and self.at != WAITING

    def go(self, order: Any = None) -> None:
        """Let it do its next step."""
        self._after(lambda: self.process.send(order))

    def kill_child(self) -> None:
        """Kill what runs the task; its parent lives."""
        self._after(lambda: self.process.throw(Died()))

    def crash(self) -> None:
        """Kill all of it."""
        self.process.close()
        self.ended = True

    def _after(self, go_on: Callable[[], str]) -> None:
        try:
            self.at = go_on()
        except StopIteration:
            self.ended = True

    def __repr__(self) -> str:
        return f'{self.name} before {self.at}'


_worlds: list[World] = []


class _UserCode(threading.local):
    running = False


class Lab:
    """A store, and the nodes on which processes run."""

    def __init__(self, store: Store, workers: int = 2, **settings: Any) -> None:
        self.store = store
        self.clock = Clock(store.pass_time)
        self.broker = Broker()
        self._settings = {'result_chord_deadline': DEADLINE, **store.settings, **settings}
        store.observer = self._make_app()
        self._patches = contextlib.ExitStack()
        self._patches.enter_context(store.stepping())
        for name, module in list(sys.modules.items()):
            if name.startswith(('canvaslite.backends', 'canvaslite.execution')) and getattr(
                    module, 'time', None) is time:
                self._patches.enter_context(patch.object(module, 'time', self.clock))
        self._patches.enter_context(patch.object(database, 'utc_now', lambda: self._now().replace(tzinfo=None)))
        # What a process has one of, and here each thread must have: whether it is within the code of a task.
        self._patches.enter_context(patch.object(tracer, 'user_code', _UserCode()))
        self._patches.callback(current.set_default_app, current.default_app())
        logging.disable(logging.CRITICAL)
        self._patches.callback(logging.disable, logging.NOTSET)
        self.publisher = self._make_node('publisher')
        self.workers = [self._make_node(f'worker {number}') for number in range(1, workers + 1)]
        self.sweepers = [self._make_node(f'sweeper {number}') for number in (1, 2)]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now, timezone.utc)

    def _make_app(self) -> Any:
        app = Celery('model', set_as_current=False, changes={
            'result_backend': self.store.url, 'broker_url': 'memory://', 'result_backend_thread_safe': True,
            'task_acks_late': True, 'result_canvas_index': False, **self._settings})
        app.task(_member, name='member', bind=True, shared=False)
        app.task(_member, name='early', bind=True, acks_late=False, shared=False)
        app.task(_first, name='first', bind=True, shared=False)
        app.task(_body, name='body', bind=True, shared=False)
        app.task(_body, name='inner', bind=True, shared=False)
        app.task(_told, name='told', bind=True, shared=False)
        app.now = self._now
        app.backend  # it is made here, not in a step
        return app

    def _make_node(self, name: str) -> Node:
        app = self._make_app()
        app.publisher._raw, app.publisher._pool = True, ChannelPool(app, self.broker)
        return Node(name, app, lambda: Executor(app, name))

    def nodes(self) -> Iterator[Node]:
        """All of them."""
        yield from (self.publisher, *self.workers, *self.sweepers)

    def begin(self) -> None:
        """Nothing is left of the last schedule."""
        self.broker.__init__()  # type: ignore[misc]
        for node in self.nodes():
            self.reset(node)
        self.store.clear()
        self.store.torn = False
        self.clock.begin()

    def reset(self, node: Node) -> None:
        """Kill the node's process; another one begins."""
        node.kill()
        node.unconfirmed = []
        self.store.forget(node)

    def close(self) -> None:
        """End all threads."""
        for node in self.nodes():
            node.close()
        self._patches.close()
        for node in self.nodes():
            node.app.close()
        self.store.close()
        self.store.observer.close()


class World:
    """One schedule of a plan. `peers` are versions of Celery whose workers take part (``'5.7'``, ``'5.6'``)."""

    def __init__(self, lab: Lab, plan: Plan, peers: Sequence[str] = (), requeues: bool = True) -> None:
        self.lab, self.plan, self.peers, self.requeues = lab, plan, peers, requeues
        self.broker, self.clock = lab.broker, lab.clock
        lab.begin()
        _worlds[:] = [self]
        self.steps = 0
        #: At which steps a process dies (``kill`` or ``crash``), beside what the actions do.
        self.deaths: dict[int, str] = {}
        self.story: list[str] = []
        self.happened: dict[str, int] = {}
        self.away_until = 0.0
        self.settling = False
        self.runs: dict[str, list[Run]] = {}
        #: Runs of bodies and errbacks: task id, what it got.
        self.bodies: list[tuple[str, str, Any]] = []
        #: How many of them were cut short, by task id; how many copies the model made.
        self.cut: dict[str, int] = {}
        self.copies: dict[str, int] = {}
        #: The result of the canvas, and whether its sender is to know that it is not to be relied on.
        self.result: Any = None
        self.refused = self.may_expire = False
        self.idle_sweepers = list(lab.sweepers)
        self.actors = [Actor('publisher', self._publish(lab.publisher), lab.publisher)]
        for number, node in enumerate(lab.workers):
            version = peers[number] if number < len(peers) else ''
            process = celery_worker.work(self, version) if version else self._work(node)
            self.actors.append(Actor(f'celery {version}' if version else node.name, process, None if version else node))

    # -- what the processes do -----------------------------------------------------------------------------------------

    def _publish(self, node: Node) -> Process:
        def send() -> Any:
            return self.plan.canvas(node.app).apply_async()

        yield 'begin'
        try:
            self.result = yield from node.run(send)
        except Died:
            self._die(node)
            self.may_expire = True
        except Exception as exc:
            self.story.append(f'the publisher got {exc!r:.100}')
            self.refused = self.may_expire = True
        finally:
            if node.busy:
                self._die(node)
                self.may_expire = True

    def _look_after(self, node: Node) -> Process:
        try:
            yield 'begin'
            job = Job(AMQP_PROPERTIES, b'', b'', verdict=Verdict('sweep'))
            with contextlib.suppress(Died):
                yield from node.run(lambda: node.executor.run(job))
        finally:
            self._die(node)
            self.idle_sweepers.append(node)

    def deliverable(self, wanted: Callable[[Message], bool] | None = None) -> list[Message]:
        """The messages that may be tried now."""
        return [message for message in self.broker.ready
                if message.not_before <= self.clock.now and (wanted is None or wanted(message))]

    def _work(self, node: Node) -> Process:
        """A worker: the parent is here, its child is the node."""
        while True:
            which = (yield WAITING) or 0
            messages = self.deliverable()
            message = messages[which % len(messages)]
            self.broker.take(message)
            early = message.task == 'early'
            try:
                yield from self._deal_with(node, message, early)
            finally:
                if message in self.broker.unacknowledged:  # the whole worker died
                    self._cut_short(node, message)
                    self.broker.settle(message, requeue=True)
                    self._die(node)
                elif node.busy:
                    self.may_expire = True
                    self._cut_short(node, message)
                    self._die(node)

    def _deal_with(self, node: Node, message: Message, early: bool) -> Process:
        """As `worker.outcomes.Outcomes`."""
        verdict: Verdict | None = None
        if early:
            yield 'acknowledge early'
            self.broker.settle(message)
        while True:
            job, lost = message.job(verdict), None
            if verdict is not None:
                lost = Run('', None, self.steps)
                self.runs.setdefault(message.id, []).append(lost)
            try:
                outcome = yield from node.run(lambda job=job: node.executor.run(job))
            except Died:
                self._cut_short(node, message)
                self._die(node)
                if verdict is None and not early and self.requeues:
                    self.broker.settle(message, requeue=True)
                    return
                verdict = Verdict('lost', 'the model killed it')
                continue
            recorded = outcome.kind not in (Kind.UNRECORDED, Kind.HELD, Kind.REQUEUED)
            if lost is not None and outcome.kind is Kind.FAILURE:
                lost.ended = self.steps
            elif lost is not None:
                self.runs[message.id].remove(lost)
            if node.run_now is not None and recorded:
                node.run_now.ended = self.steps
            elif outcome.kind is Kind.UNRECORDED:
                self._cut_short(node, message)
            node.run_now = None
            if early:
                if not recorded:
                    self.may_expire = True  # it was acknowledged: nobody will do it again
                return
            yield f'settle {outcome.kind.name}'
            if outcome.kind is Kind.HELD:
                self.broker.settle(message)
                again = message.copy(message.redelivered)
                again.not_before = self.clock.now + outcomes.HELD_DELAY
                self.broker.ready.append(again)
            else:
                self.broker.settle(message, requeue=not recorded)
            return

    def _cut_short(self, node: Node | None, message: Message) -> None:
        if message.id in self.lab.store.ran:
            return
        self.cut[message.id] = self.cut.get(message.id, 0) + 1

    def _die(self, node: Node) -> None:
        self.lab.reset(node)

    # -- what the tasks do ---------------------------------------------------------------------------------------------

    def run_member(self, task_id: str, slot: str) -> Run:
        """The outcome of another run of a header task."""
        runs = self.runs.setdefault(task_id, [])
        number = 1 + sum(run.slot == slot for run in runs)
        failed = slot in self.plan.fails or (slot in self.plan.recovers and number == 1)
        if '5.6' in self.peers:
            number = 1  # such a worker takes two results of one task for two parts
        run = Run(slot, None if failed else f'{slot}.{number}', self.steps)
        runs.append(run)
        return run

    # -- what happens ------------------------------------------------------------------------------------------------

    def enabled(self) -> list[Actor]:
        """The processes that can do something."""
        return [actor for actor in self.actors if not actor.ended and (
            actor.at != WAITING or self.deliverable(
                celery_worker.takes if actor.node is None else None))]

    def act(self, action: Action) -> None:
        """Let something happen, if it can."""
        kind, number = action
        if self.happened.get(kind, 0) >= AT_MOST.get(kind, sys.maxsize):
            kind = 'go'
        doing = getattr(self, f'_{kind}')
        if doing(number):
            self.happened[kind] = self.happened.get(kind, 0) + 1

    def _go(self, number: int) -> bool:
        enabled = self.enabled()
        if enabled:
            self.advance(enabled[number % len(enabled)], number // len(enabled))
        return bool(enabled)

    def advance(self, actor: Actor, which: int = 0, order: str = GO) -> None:
        """Let a process do its next step."""
        self.steps += 1
        self.clock.now += 0.001
        death = self.deaths.pop(self.steps, '')
        if death and actor.works:
            self.happened[death] = self.happened.get(death, 0) + 1
            (self.crash if death == 'crash' or actor.node is None or not actor.node.busy else self.kill)(actor)
            return
        if self.clock.now < self.away_until and (self.lab.store.fails or actor.at in ('write', 'confirm')):
            order = FAIL
        if not self.settling or 'sweeper' not in actor.name:
            self.story.append(f'{actor}{"" if order == GO else f" ({order})"}')
        actor.go(which if actor.at == WAITING else order)
        self.lab.store.collect(self.broker)

    def _working(self, *kinds: str) -> list[Actor]:
        return [actor for actor in self.actors if actor.works and (not kinds or actor.at in kinds)]

    def _kill(self, number: int) -> bool:
        working = [actor for actor in self._working() if actor.node is None or actor.node.busy]
        if working:
            actor = working[number % len(working)]
            self.kill(actor)
        return bool(working)

    def kill(self, actor: Actor) -> None:
        """Kill the child of a worker; or a publisher or sweeper."""
        self.story.append(f'{actor} is killed')
        self._lose_some(actor)
        actor.kill_child()

    def _lose_some(self, actor: Actor) -> None:
        """Of what it has written, the half may have come to the broker."""
        if actor.node is not None and actor.node.unconfirmed:
            arrive, actor.node.unconfirmed = actor.node.unconfirmed[:self.steps % 3], []
            self.broker.arrive(arrive)

    def _crash(self, number: int) -> bool:
        working = self._working()
        if working:
            self.crash(working[number % len(working)])
        return bool(working)

    def crash(self, actor: Actor) -> None:
        """Kill a whole worker, which is started again; or a publisher or sweeper."""
        self.story.append(f'{actor} is killed with its parent')
        self._lose_some(actor)
        actor.crash()
        place = self.actors.index(actor)
        if actor.name.startswith('worker'):
            assert actor.node is not None
            self.actors[place] = Actor(actor.name, self._work(actor.node), actor.node)
        elif actor.name.startswith('celery'):
            self.actors[place] = Actor(actor.name, celery_worker.work(self, actor.name.split()[1]), None)

    def _burn(self, number: int) -> bool:
        """Kill a process within a step, where it changes several files."""
        working = self._working('step', '_replace')
        if working:
            actor = working[number % len(working)]
            assert actor.node is not None
            actor.node.fuse = number // len(working) % 5
            self.lab.store.torn = True
            self.story.append(f'{actor} is to die there, after {actor.node.fuse} changes')
            self.steps += 1
            actor.go()
            if actor.node is not None:
                actor.node.fuse = None
        return bool(working)

    def _failing(self, order: str, number: int) -> bool:
        working = [actor for actor in self._working() if actor.node is not None and actor.node.busy
                   and (self.lab.store.fails or actor.at in ('write', 'confirm')) and actor.at not in ('code', 'sleep')]
        if working:
            self.advance(working[number % len(working)], order=order)
        return bool(working)

    def _fail(self, number: int) -> bool:
        return self._failing(FAIL, number)

    def _lose(self, number: int) -> bool:
        return self._failing(LOSE, number)

    def _outage(self, number: int) -> bool:
        self.away_until = self.clock.now + OUTAGES[number % len(OUTAGES)]
        self.story.append(f'store and broker are away until {self.away_until - self.clock.now:.0f} s from now')
        return True

    def _copy(self, number: int) -> bool:
        """A message comes twice."""
        known = [*self.broker.unacknowledged, *self.broker.log]
        if known:
            message = known[number % len(known)]
            self.copies[message.id] = self.copies.get(message.id, 0) + 1
            self.story.append(f'{message} comes again')
            self.broker.ready.append(message.copy(number % 2 == 0))
        return bool(known)

    def _tick(self, number: int) -> bool:
        seconds = TICKS[number % len(TICKS)]
        self.story.append(f'{seconds} s pass')
        self.clock.advance(seconds)
        return True

    def _sweep(self, number: int) -> bool:
        return self._sweep_begins() is not None

    def _sweep_begins(self) -> Actor | None:
        if not self.idle_sweepers:
            return None
        node = self.idle_sweepers.pop(0)
        self.actors = [actor for actor in self.actors if not actor.ended]
        self.actors.append(Actor(node.name, self._look_after(node), node))
        return self.actors[-1]

    # -- the end ---------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Let all come to rest, check, deliver everything once more, check again."""
        self.settle()
        self.check()
        for message in [message for message in self.broker.log if message.task in ('member', 'early')]:
            self.broker.ready.append(message.copy(True))
        self.story.append('the header comes once more')
        sent = [message.id for message in self.broker.log if message.task in ('body', 'inner', 'told')]
        self.settle()
        again = [message.id for message in self.broker.log if message.task in ('body', 'inner', 'told')]
        self.demand(self.plan.name == 'chained' or sent == again, 'what was over was sent again')
        self.check()
        left = self.lab.store.left_after_cleanup()
        self.demand(not left, f'even when all has expired there is {left}')

    def settle(self) -> None:
        """Nothing more happens to the processes: let them go on until all is over."""
        self.away_until, self.settling = 0.0, True
        begun = self.clock.passed
        deadline_came = False
        while True:
            self.run_all()
            held = [message.not_before for message in self.broker.ready]
            if held:
                self.clock.advance(max(0.0, min(held) - self.clock.now) + 0.001)
                continue
            if not self.unfinished():
                return
            self.may_expire = self.may_expire or self._adds_in_vain()
            if self.clock.passed - begun > (SETTLED_WITHIN / 5 if self.may_expire else SETTLED_WITHIN):
                self.demand(self.may_expire and not deadline_came,
                            f'a chord never ends: {self.unfinished()}, {self.lab.store.left()}')
                deadline_came = True
                self.clock.advance(DEADLINE)
                begun = self.clock.passed
            self.clock.advance(BETWEEN_SWEEPS)
            if self._sweep_begins() is None:
                self.run_all()

    def _adds_in_vain(self) -> bool:
        """Whether a task may have failed after it had said that there is a part more, and before that was sent."""
        return self.plan.name == 'extended' and bool(self.cut or set(self.happened) & {'fail', 'lose', 'outage'})

    def run_all(self) -> None:
        """Let all processes go on as long as there is something to do, turn by turn."""
        turns = 0
        while enabled := self.enabled():
            for actor in enabled:
                if actor in self.enabled():
                    self.advance(actor)
            turns += 1
            self.demand(turns < 2000, 'the processes never come to rest')

    def unfinished(self) -> list[str]:
        """The chords that somebody would still have to look at."""
        return self.lab.store.unfinished(self.clock.now)

    def demand(self, kept: Any, promise: str) -> None:
        """Raise `Violation` with the whole story unless the promise was kept."""
        if not kept:
            story = '\n'.join(f'    {number:3} {line}' for number, line in enumerate(self.story, 1))
            raise Violation(f'{promise}\n  {self.plan}, peers {self.peers}, requeues {self.requeues}, on '
                            f'{self.lab.store.name}:\n{story}')

    @property
    def disturbed(self) -> bool:
        """Whether anything happened that may make somebody send a message again."""
        return any(self.happened.get(kind) for kind in ('kill', 'crash', 'burn', 'fail', 'lose', 'outage', 'tick'))

    def check(self) -> None:
        """Raise `Violation` if a promise was not kept."""
        self.demand(not self.broker.unacknowledged, 'a message was never settled')
        left = self.lab.store.left()
        self.demand(not left, f'something is left in the store: {left}')
        self._check_sendings()
        self._check_bodies()
        if self.result is not None:
            self._check_result()

    def _check_sendings(self) -> None:
        followers = {message.id: message for message in self.broker.log if message.task in ('body', 'inner', 'told')}
        for task_id, message in followers.items():
            sent = self.broker.sent(task_id)
            self.demand(len(sent) == 1 or self.disturbed or '5.6' in self.peers,
                        f'{message} was sent {len(sent)} times without need')
            sure = [other.content[0] for other in sent if not other.unsure]
            self.demand(all(args == sure[0] for args in sure), f'{message} was sent with {sure}')
            runs = sum(task_id == ran for ran, _, _ in self.bodies)
            allowed = 1 + self.cut.get(task_id, 0) + self.copies.get(task_id, 0)
            if message.task == 'told':  # also by a body that fails itself, which is recorded again when that was cut
                allowed += sum(self.cut.get(other, 0) for other in followers)
            if '5.6' in self.peers:  # which claims nothing, and marks no copies
                allowed += len(sent) - 1
            self.demand(runs <= allowed, f'{message} ran {runs} times, and was cut short {allowed - 1} times')
            self.demand(runs or not self.lab.store.keeps or self.lab.store.state(task_id)[0] in states.EXCEPTION_STATES,
                        f'{message} never ran')
        for task in () if '5.6' in self.peers else ('body', 'told'):
            ids = {task_id for task_id, message in followers.items() if message.task == task}
            self.demand(len(ids) <= 1, f'{task} was sent under several ids')

    def _check_bodies(self) -> None:
        for task_id, task, got in self.bodies:
            if task == 'told' or any(message.unsure for message in self.broker.sent(task_id)):
                continue
            shape = self.plan.shape if task == 'body' else next(
                member for member in self.plan.shape if isinstance(member, list))
            self.demand(self._fits(got, shape), f'{task} got {got}, not the values of {shape}')
            for value in _flat(got):
                self._check_value(value)

    def _fits(self, got: Any, shape: Any) -> bool:
        names = _names(got)
        if self.plan.name == 'extended':
            return bool(names.count('x') == 1 and [name for name in names if name != 'x'] == shape)
        return bool(names == shape)

    def _check_value(self, value: str) -> None:
        """It must be the first outcome of its slot: nobody had recorded another one before it was known."""
        for task_id, runs in self.runs.items():
            if not any(run.value == value for run in runs):
                continue
            first = self._first_outcomes(task_id)
            self.demand(value in first, f'{value} counted, and the first outcome was {first}')
            if self.lab.store.keeps and not self.peers:
                state, result = self.lab.store.state(task_id)
                self.demand(state != states.SUCCESS or result == value,
                            f'{value} counted, and the result says {result}')

    def _first_outcomes(self, task_id: str) -> set[str | None]:
        runs = self.runs[task_id]
        earliest = min((run.ended for run in runs), default=0)
        return {run.value for run in runs if run.begun <= earliest}

    def _check_result(self) -> None:
        told = sum(task == 'told' for _, task, _ in self.bodies)
        ran = any(task == 'body' for _, task, _ in self.bodies)
        if not self.lab.store.keeps:
            self.demand(ran or self.refused or any(message.task in ('told', 'body') for message in self.broker.log),
                        'the chord never ended')
            return
        state, value = self.lab.store.state(self.result.id)
        self.demand(state in states.READY_STATES, f'the result of the chord is {state} for ever')
        if state == states.SUCCESS:
            self.demand(ran and (not told or self.cut.get(self.result.id)),
                        f'the body succeeded, ran: {ran}, errbacks: {told}')
        elif ran:
            # It ran, and its process died: that is an end of the body, not of the chord.
            self.demand(self.cut.get(self.result.id), f'the body ran and is {state}: {value!r}')
        else:
            told = sum(message.task == 'told' for message in self.broker.log)
            self.demand(told or state == states.REVOKED, f'the chord is {state}, and no errback was sent')
            self._check_failure(str(value))

    def _check_failure(self, reason: str) -> None:
        if 'deadline' in reason:
            self.demand(self.may_expire, f'nothing was lost, but: {reason}')
        else:
            failed = any(None in self._first_outcomes(task_id) for task_id in self.runs)
            self.demand(failed or any(self.cut.values()), f'no slot failed, but: {reason}')


def _names(value: Any) -> Any:
    if isinstance(value, list):
        return [_names(member) for member in value]
    return str(value).partition('.')[0]


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for member in value:
            yield from _flat(member)
    else:
        yield value


# -- the tasks ---------------------------------------------------------------------------------------------------------

def _member(self: Any, slot: str) -> str:
    world = _worlds[0]
    pause('code')
    node = here()
    assert node is not None
    if world.plan.name == 'extended' and slot == 'a':
        try:
            self.add_to_chord(self.si('x'))
        except Exception:
            node.run_now = Run(slot, None, world.steps)
            world.runs.setdefault(self.request.id, []).append(node.run_now)
            raise
    run = node.run_now = world.run_member(self.request.id, slot)
    if run.value is None:
        raise ValueError(f'{slot} fails')
    return run.value


def _first(self: Any, slot: str) -> str:
    pause('code')
    return slot


def _body(self: Any, values: Any) -> Any:
    _worlds[0].bodies.append((self.request.id, self.name, values))
    pause('code')
    return values


def _told(self: Any, task_id: str) -> None:
    _worlds[0].bodies.append((self.request.id, 'told', task_id))
    pause('code')
