"""The chord join: when the last header task ends, its body is sent, once.

A slot is ``task_id:group_index``; the first outcome of a slot counts, later ones change nothing. The chord is complete
when the store has as many slots as the chord has parts. The one who completes it gets the `Claim`: a lease to send the
body. It sends the body (whose id was fixed beforehand), then finishes by compare-and-set on the claim's token.

Whoever dies on the way is replaced: the store knows when somebody must look at a chord again, and every worker does
(`backends.sweeping`). A claim whose lease has ended is claimed anew, an outcome that was stored but not counted is
counted, and a chord whose deadline has passed fails.

A store implements `ChordJoin`; each of its methods is one atomic step. What is done between the steps is here.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, NamedTuple

from kombu.exceptions import EncodeError, OperationalError, SerializerNotInstalled
from kombu.serialization import dumps, loads, prepare_accept_content
from kombu.utils.encoding import ensure_bytes

from canvaslite import states, wire
from canvaslite.backends.heads import ChordHead, Opening, Outbox, Slot
from canvaslite.canvas.records import part_of_a_canvas
from canvaslite.context import Context
from canvaslite.exceptions import ChordError, TaskRevokedError
from canvaslite.result import GroupResult, allow_join_result, result_from_tuple
from canvaslite.result.stored import tasks_of
from canvaslite.utils.undecoded import decode_json, encode_json

__all__ = ('ChordJoin', 'Claim', 'Opening', 'Outbox', 'Part', 'Report', 'Slot', 'act_on_report', 'open_chord',
           'part_of', 'return_part', 'send_unlock_task')

logger = logging.getLogger('celery.backends.chords')

#: Seconds for which a claim holds, and for which it is renewed before the body is sent.
CLAIM_LEASE = 8
#: Seconds after which an open chord is looked at again, and more for each of so many parts that are missing.
LOOK_INTERVAL, MISSING_PER_SECOND = 8.0, 500
#: Seconds after which a chord is looked at whose claim was given back.
RELEASED_PAUSE = 2.0
#: Seconds for which a finished chord is remembered, so that late copies of its parts change nothing.
DONE_KEPT = 86400

# Reports of `ChordJoin.part` and `ChordJoin.look`.
RECORDED = 'recorded'
CLAIMED = 'claimed'
BUSY = 'busy'
DONE = 'done'
UNKNOWN_CHORD, GONE = 'unknown', 'gone'

#: In place of a copy's number: one has run to its end.
ENDED = 'ended'
#: Seconds for which a copy of a chord's body holds the others back, unless a result says that it has ended.
RUN_KEPT = 3600.0

#: Why a chord that is not complete is claimed, beside what `sweeping.end_chord` is told.
OVERDUE = 'overdue'

class Part(NamedTuple):
    """The outcome of one header task, as it is counted."""

    group_id: str
    task_id: str
    #: Place in the header, None if the message did not say.
    place: int | None
    state: str
    #: What `Backend.encode_result` made of the return value or exception.
    result: Any
    #: Number of parts the chord waits for at least, as far as the message said it.
    size: int | None = None


class Claim(NamedTuple):
    """The right to send the body, until the lease ends."""

    group_id: str
    token: str
    #: Number of parts the chord waited for.
    size: int
    #: How often the chord was claimed: from the second time on the body may have been sent already.
    attempt: int = 1
    #: Why the chord ends although parts are missing.
    reason: str | None = None


#: Stands in a `Report` for a shape that the store did not look up.
UNKNOWN: Any = object()


class Report(NamedTuple):
    """What became of a part, or of a look at a chord."""

    #: RECORDED (more are missing), CLAIMED (send the body), BUSY (somebody else is sending it), DONE (it is out),
    #: UNKNOWN_CHORD (nothing was recorded: `ChordJoin.adopt` it), or GONE (somebody else has removed its parts).
    status: str
    claim: Claim | None = None
    #: The parts (their `task_id`, `state`, `result`) in order, if the store could hand them over with the claim.
    parts: Sequence[Part] | None = None
    #: The header's `GroupResult` as a tuple (or as it is) if it was saved, None if not; UNKNOWN: ask the store.
    shape: Any = UNKNOWN


class ChordJoin(ABC):
    """How one store joins chords. Each method is one atomic step, and may be repeated without harm."""

    #: Whether a chord may begin before its size and shape are known.
    begins_unsized = True
    #: Whether `due` and `head` tell of chords that are not due.
    can_be_examined = True
    #: Whether the join itself keeps the header's shape, not ``Backend.save_group``; and what `take_run` says.
    keeps_shape, keeps_runs = False, True

    @abstractmethod
    def open(self, chord: Opening) -> None:
        """A chord begins (or begins anew, under the id of an old one)."""

    @abstractmethod
    def set_size(self, group_id: str, size: int, slots: Sequence[Slot] = ()) -> None:
        """The chord has `size` parts, which are to come from `slots`."""

    @abstractmethod
    def extend(self, group_id: str, task_id: str | None = None) -> None:
        """The chord has a part more than `size` says. Said twice of the same task it is the same part."""

    @abstractmethod
    def part(self, part: Part) -> Report:
        """A header task ended. Claims the sending of the body if that makes the chord complete and nobody holds it."""

    def adopt(self, part: Part, callback: Mapping[str, Any]) -> Report:
        """As `part`, of a chord that the store does not know, with its body: Celery sent it, or the store was lost."""
        return Report(RECORDED)

    @abstractmethod
    def parts(self, claim: Claim) -> Sequence[Part]:
        """The parts in the order of the header."""

    @abstractmethod
    def renew(self, claim: Claim, seconds: float) -> bool:
        """Hold the claim for `seconds` from now. False if somebody else has it: stop."""

    def sending(self, claim: Claim, app: Any) -> AbstractContextManager[Any]:
        """Within ``with`` the body is sent, by the producer that it gives; after that it is known to have arrived."""
        return nullcontext() if app.conf.task_always_eager else app.publisher.arriving()

    def failing(self, claim: Claim, app: Any) -> AbstractContextManager[Any]:
        """Within ``with`` the chord fails: what is called then is sent, and results are kept."""
        return nullcontext()

    def name_copy(self, claim: Claim, body: Any) -> Any:
        """What tells the copy of the body that is sent now from others."""
        return claim.attempt

    @abstractmethod
    def release(self, claim: Claim) -> None:
        """Give the claim back: the body could not be sent. The next copy of a part, or a sweep, claims it again."""

    @abstractmethod
    def finish(self, claim: Claim, failed: bool = False) -> bool:
        """The body is out (or has `failed` for good): drop the state, remember that it is done. False if lost."""

    @abstractmethod
    def due(self, now: float, limit: int) -> Sequence[str]:
        """Ids of at most `limit` chords that a worker of this app must look at by `now`, the longest due first."""

    @abstractmethod
    def look(self, group_id: str, now: float, reason: str | None = None) -> Report:
        """Look at a chord that is due: claim it if it is complete or its deadline has passed, or because of `reason`
        whatever is missing; else put it off. BUSY if it is not due (any more)."""

    @abstractmethod
    def outbox(self, group_id: str) -> Outbox | None:
        """What was kept of the chord when it began; None if nothing was."""

    def head(self, group_id: str) -> ChordHead | None:
        """What is known of the chord; None if it is not known, or the store cannot tell."""
        return None

    @abstractmethod
    def missing(self, group_id: str, slots: Sequence[Slot]) -> Sequence[Slot]:
        """Those of the slots that have no part."""

    @abstractmethod
    def forget(self, group_id: str) -> None:
        """Remove whatever is known of the chord."""

    def take_run(self, task_id: str, attempt: str, seconds: float) -> str:
        """Let the copy `attempt` of a body run if no other one does; which copy runs from now on, for `seconds`.

        A copy that died is delivered again, and then takes what it has already. ENDED is what a copy that has run to
        its end leaves to the others, if no result tells them.
        """
        return attempt

    def end_run(self, task_id: str, attempt: str, told: bool) -> None:
        """The copy `attempt` of a body has run to its end; it was `told` if a result says so."""
        if not told:
            self.take_run(task_id, ENDED, RUN_KEPT)


def pause_before_look(missing: int) -> float:
    """Seconds until an open chord with so many `missing` parts is looked at again."""
    return LOOK_INTERVAL + max(missing, 0) / MISSING_PER_SECOND


# -- the beginning ------------------------------------------------------------------------------------------------

def open_chord(backend: Any, join: ChordJoin, header_result_args: tuple[Any, ...], body: Any,
               slots: Sequence[Slot] = ()) -> None:
    """Prepare the join of a chord whose header has the result ``GroupResult(*header_result_args)``.

    Groups inside the header make the value of the body's argument a nested list: its shape is saved.
    """
    group_id, results = header_result_args[:2]
    header = None
    if any(isinstance(result, GroupResult) for result in results):
        header = backend.app.GroupResult(*header_result_args)
    join.open(Opening(group_id, body.get('chord_size'), body, pack_callback(backend.app, body), slots,
                      deadline_from_now(backend.app.conf),
                      header.as_stored_tuple() if header is not None and join.keeps_shape else None,
                      backend.app.publisher.sends_again, home_of(backend.app.conf)))
    if header is not None and not join.keeps_shape:
        backend.save_group(group_id, header)


def home_of(conf: Any) -> str:
    """A name for the apps that look after each other's chords: those with the same default queue, for only they send a
    body where it belongs. Empty for Celery's."""
    queue = str(conf.task_default_queue)
    return '' if queue == 'celery' else queue


def deadline_from_now(conf: Any) -> float | None:
    """When a chord that begins now fails if it is not complete (``result_chord_deadline``)."""
    seconds = longest_open(conf)
    return time.time() + seconds if seconds else None


def longest_open(conf: Any) -> float | None:
    """Seconds that a chord may take, None or 0 for any (``result_chord_deadline``)."""
    given = conf.result_chord_deadline
    return given.total_seconds() if isinstance(given, timedelta) else given


def pack_callback(app: Any, body: Mapping[str, Any]) -> bytes:
    """The body's signature, in a form of which messages are; empty if none can hold it: then only a message of the
    header can end the chord."""
    for serializer in (app.conf.task_serializer, (body.get('options') or {}).get('serializer'), 'pickle'):
        try:
            if serializer == 'json':
                return b'application/json\n' + encode_json(body).encode()
            if serializer:
                content_type, _, payload = dumps(body, serializer)
                return content_type.encode() + b'\n' + ensure_bytes(payload)
        except (EncodeError, SerializerNotInstalled):
            continue
    return b''


def unpack_callback(app: Any, packed: bytes) -> Any:
    """The body's signature. Raises `ContentDisallowed` if ``accept_content`` does not have its form."""
    content_type, _, payload = packed.partition(b'\n')
    if content_type == b'application/json':
        return app.signature(decode_json(payload.decode()))
    accepted = prepare_accept_content(app.conf.accept_content)
    return app.signature(loads(payload, content_type.decode(), 'binary', accept=accepted))


# -- the parts ---------------------------------------------------------------------------------------------------------

def return_part(backend: Any, join: ChordJoin, request: Any, state: str, result: Any) -> None:
    """Count the outcome of the header task of `request`; send the body if it was the last one."""
    part = part_of(backend, request, state, result)
    if part is not None:
        part = part._replace(size=request.chord.get('chord_size'))
        act_on_part(backend, join, part, join.part(part), request)


def is_part(request: Any) -> bool:
    """Whether `request` (or None) is that of a header task."""
    return bool(request is not None and (
        request.awaited_by_chord if isinstance(request, Context) else request.chord))


def part_of(backend: Any, request: Any, state: str, result: Any) -> Part | None:
    """The part that this outcome is, or None for a request without group or id."""
    if not request.group or not request.id:
        return None
    return Part(request.group, request.id, request.group_index, state, backend.encode_result(result, state))


def act_on_part(backend: Any, join: ChordJoin, part: Part, report: Report, request: Any) -> None:
    """Do what follows from the part that `request` was."""
    if report.status == UNKNOWN_CHORD:
        body_id = (request.chord.get('options') or {}).get('task_id')
        if body_id and backend.get_task_meta(body_id, cache=False)['status'] in states.READY_STATES:
            return  # it ended so long ago that the store has forgotten it
        report = join.adopt(part, request.chord)
    act_on_report(backend, join, report, request)


def act_on_report(backend: Any, join: ChordJoin, report: Report, request: Any) -> None:
    """Do what follows from the part that `request` was, or from a look at a chord (None): send the body if it is ours
    to send.

    If the broker or the store goes away meanwhile, that is no failure of the chord: the claim is given back and the
    error raised, so that the header task's message comes again, and its part, counted already, claims again.
    """
    claim = report.claim
    if report.status != CLAIMED or claim is None:
        return
    try:
        body = _body_of(backend, join, claim, request)
        if body is not None:
            _send_or_fail(backend, join, claim, report, body)
    except BaseException:
        _give_back(join, claim)
        raise


def _body_of(backend: Any, join: ChordJoin, claim: Claim, request: Any) -> Any:
    if request is not None:
        return backend.app.signature(request.chord)
    outbox = join.outbox(claim.group_id)
    if outbox is None or not outbox.callback:
        logger.error('Chord %r cannot be ended: its body was not kept', claim.group_id)
        join.release(claim)
        return None
    return unpack_callback(backend.app, outbox.callback)


def _send_or_fail(backend: Any, join: ChordJoin, claim: Claim, report: Report, body: Any) -> None:
    error: Exception | None = _why_it_ends(claim)
    values: list[Any] = []
    if error is None:
        try:
            values = gather_values(backend, join, claim, report)
        except ChordError as exc:
            logger.error('Chord %r failed: %s', claim.group_id, exc)
            error = exc
        except Exception as exc:
            error = _unless_outage(backend, claim, 'Join error', exc)
    if not join.renew(claim, CLAIM_LEASE):
        logger.warning('Chord %r: somebody else sends the body', claim.group_id)
        return
    if error is None:
        try:
            with (part_of_a_canvas(), backend.app.publisher.marked(_marks(claim, join.name_copy(claim, body))),
                  join.sending(claim, backend.app) as producer):
                body.apply_async((values,), **({} if producer is None else {'producer': producer}))
        except Exception as exc:
            error = _unless_outage(backend, claim, 'Callback error', exc)
    if isinstance(error, TaskRevokedError):
        backend._fail_chain([body], error, state=states.REVOKED)
    elif error is not None:
        with backend.app.publisher.marked(_marks(claim, claim.attempt)), join.failing(claim, backend.app):
            backend.chord_error_from_stack(body, error)
    if not join.finish(claim, error is not None):
        logger.warning('Chord %r: the claim was lost while the body was sent', claim.group_id)


def _marks(claim: Claim, copy: Any) -> dict[str, Any]:
    """Headers by which the copies of a body are told apart, so that one of them runs."""
    marks: dict[str, Any] = {wire.ATTEMPT_HEADER: copy}
    return marks if claim.attempt == 1 else {**marks, wire.AGAIN_HEADER: True}


def _why_it_ends(claim: Claim) -> Exception | None:
    """The error of a chord that ends although parts are missing."""
    if claim.reason is None:
        return None
    if claim.reason != OVERDUE:
        logger.info('Chord %r ends: %s', claim.group_id, claim.reason)
        return TaskRevokedError(claim.reason)
    logger.error('Chord %r failed: it was not complete in time (result_chord_deadline)', claim.group_id)
    return overdue(claim.group_id)


def overdue(group_id: str) -> ChordError:
    """The error of a chord that was not complete in time."""
    return ChordError(f'The chord {group_id} was not complete before its deadline (result_chord_deadline): '
                      'a task of its header was lost, or takes longer than that')


def _unless_outage(backend: Any, claim: Claim, what: str, exc: Exception) -> ChordError:
    """The failure of the chord that `exc` is; raises it if it says no more than that something is away."""
    if is_outage(backend, exc):
        raise exc
    logger.exception('Chord %r: %s: %r', claim.group_id, what, exc)
    return chord_error(f'{what}: {exc!r}', exc)


def is_outage(backend: Any, exc: BaseException) -> bool:
    """Whether `exc` says that the broker or the store is away, not that anything is wrong."""
    return isinstance(exc, (OperationalError, ConnectionError)) or bool(backend.exception_safe_to_retry(exc))


def _give_back(join: ChordJoin, claim: Claim) -> None:
    try:
        join.release(claim)
    except Exception as exc:
        # It ends by itself; until then the next copy of the part finds the chord busy.
        logger.warning('Chord %r: the claim could not be given back: %r', claim.group_id, exc)


def gather_values(backend: Any, join: ChordJoin, claim: Claim, report: Report) -> list[Any]:
    """The values of the header tasks, in order and in the header's shape. Raises `ChordError` if one failed."""
    parts = join.parts(claim) if report.parts is None else report.parts
    shape = backend.restore_group(claim.group_id, cache=False) if report.shape is UNKNOWN else report.shape
    header = result_from_tuple(shape, backend.app) if shape else None
    if header is not None:  # a part may have its place in a group within the header
        places = {result.id: place for place, result in enumerate(tasks_of(header))}
        parts = sorted(parts, key=lambda part: places.get(part.task_id, len(places)))
    values: list[Any] = []
    failures: list[tuple[str, Any]] = []
    for part in parts:
        value = part.result
        if part.state in states.EXCEPTION_STATES:
            value = backend.exception_to_python(value)
        if part.state in states.PROPAGATE_STATES:
            failures.append((f'Dependency {part.task_id} raised {value!r}', value))
            if not backend.app.conf.canvas_strict:
                break
        values.append(value)
    if failures:
        raise chord_error('; '.join(message for message, _ in failures), failures[0][1])
    if header is None:
        return values
    known = {part.task_id: value for part, value in zip(parts, values, strict=True)}
    try:
        return shaped_values(header, known)
    except KeyError:
        # The header has members that are not parts themselves: their values are with their results.
        with allow_join_result():
            return header.get(timeout=backend.app.conf.result_chord_join_timeout)  # type: ignore[no-any-return]


def shaped_values(header: GroupResult, known: Mapping[str, Any]) -> list[Any]:
    """The values in `known` (by task id), nested as the groups of the header are. Raises `KeyError`."""
    values: list[Any] = []
    waiting: list[tuple[Any, list[Any]]] = [(member, values) for member in reversed(header.results)]
    while waiting:
        result, place = waiting.pop()
        if isinstance(result, GroupResult):
            inner: list[Any] = []
            place.append(inner)
            waiting.extend((member, inner) for member in reversed(result.results))
        else:
            place.append(known[result.id])
    return values


def chord_error(message: str, cause: Any = None) -> ChordError:
    """A `ChordError` that keeps what caused it."""
    error = ChordError(message)
    if isinstance(cause, Exception):
        error.__cause__ = cause
    return error


def send_unlock_task(backend: Any, header_result: Any, body: Any, countdown: float = 1, **kwargs: Any) -> None:
    """Send the task that polls until the header is ready: for stores that cannot join."""
    kwargs['result'] = [result.as_tuple() for result in header_result]
    app = backend.app
    options = dict(body.options)
    queue = options.get('queue')
    if queue is None:
        queue = app.amqp.router.route(kwargs, body.task)['queue'].name
    stamped: Iterable[str] = options.get('stamped_headers') or ()
    routing = {name: options[name] for name in ('exchange', 'exchange_type', 'routing_key', 'headers')
               if name not in stamped and options.get(name) is not None}
    app.tasks[wire.CHORD_UNLOCK].apply_async((header_result.id, body), kwargs, countdown=countdown, queue=queue,
                                             priority=options.get('priority', 0), **routing)
