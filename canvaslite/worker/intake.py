"""`Intake`: what is decided about a message when it comes in, in this order.

Unreadable? Rejected, with one line in the log. An unknown task? A child records the failure,
then it is rejected. Delivered before, and done or running here? Its receipt goes to the run it belongs to. Revoked or
expired? A child records it. An ETA? The timer, and more is prefetched meanwhile. A rate limit? The task's bucket.
Whatever is left goes to the pool.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timezone
from typing import Any

from amqp.exceptions import FrameSyntaxError
from kombu.exceptions import ContentDisallowed, DecodeError

from canvaslite import signals
from canvaslite.context import Context
from canvaslite.exceptions import InvalidTaskError
from canvaslite.execution import announcing
from canvaslite.execution.message import MessageReader, describe, read_head
from canvaslite.protocol.v2 import LONGEST_NAME, is_name
from canvaslite.transport.table import peek
from canvaslite.utils.inflate import Limits
from canvaslite.utils.redact import for_log, one_line
from canvaslite.utils.time import parse_time
from canvaslite.utils.uuid import uuid
from canvaslite.wire import DECISIVE_HEADERS
from canvaslite.worker.connection import Prefetch
from canvaslite.worker.messages import KombuMessage, Received
from canvaslite.worker.policies import Policies, Policy
from canvaslite.worker.receipts import MessageReceipts, RawReceipts, Returns
from canvaslite.worker.request import Request, Stage
from canvaslite.worker.state import State

logger = logging.getLogger('celery.worker.strategy')

_DECISIVE = frozenset(DECISIVE_HEADERS)
_EXPECTED = (InvalidTaskError, ContentDisallowed, DecodeError, FrameSyntaxError)
_NO_LIMITS = [None, None]
#: Largest body that the worker's own process decodes, in bytes: protocol 1 says only there what is to be run.
LARGEST_HERE = 8 << 20
#: Seconds to its ETA below which a task is not handed to the broker: that counts in whole seconds.
_DELAYED_AT_LEAST = 2.0


class Intake:
    """Sees to it that each message of a connection goes where it belongs; `consumer` is the signals' sender."""

    def __init__(self, consumer: Any, receipts: RawReceipts | MessageReceipts, prefetch: Prefetch,
                 returns: Returns) -> None:
        app = consumer.app
        self.consumer = consumer
        self.receipts: Any = receipts
        self.prefetch = prefetch
        self.returns = returns
        self.hub = consumer.hub
        self.pool, self.submit = consumer.pool, consumer.submit
        self.state: State = consumer.state
        self.policies: Policies = consumer.policies
        self.timezone = app.timezone
        self.limits = Limits.of(app.conf)
        self.reader = MessageReader(app.conf.accept_content, consumer.hostname, self.limits)
        self.delays = consumer.delays
        #: Seconds to its ETA above which a task is handed to the broker; None where that cannot be.
        self.hold_time = self.delays.hold_time if isinstance(receipts, RawReceipts) else None
        #: The consumers of the queues.
        self.subscription: Any = None
        #: Nothing more is taken: what still comes in goes back at once.
        self.closed = False
        #: What still comes in is left to go back when the connection ends: till then the broker would send it again.
        self.deaf = False
        self._tells = logger.isEnabledFor(logging.INFO)

    # -- the common case

    def on_delivery(self, delivery: Any, receipts: Any = None) -> None:
        """A message of RabbitMQ, as bytes; `receipts` where they are not those of the channel."""
        receipts = receipts or self.receipts
        receipts.expect(delivery)
        received = Received(delivery, receipts, self.reader)
        if self.closed or self.deaf:
            if self.closed:
                received.reject(True)
            return
        try:
            self._take_raw(received, delivery)
        except Exception as exc:  # whatever a message does to us, the worker goes on
            self._refuse_invalid(received, exc)

    def on_message(self, message: Any) -> None:
        """A message of any other transport."""
        received = KombuMessage(message, self.receipts, self.reader)
        if self.closed or self.deaf:
            if self.closed:
                received.reject(True)
            return
        try:
            received.check()
            self._take(received)
        except Exception as exc:  # as above
            self._refuse_invalid(received, exc)

    def _take_raw(self, received: Received, delivery: Any) -> None:
        try:
            headers = peek(delivery.properties, _DECISIVE)
            policy = self.policies.known[headers['task']]
            id = headers['id']
        except (KeyError, TypeError, FrameSyntaxError, UnicodeDecodeError):
            self._take(received)
            return
        if (not is_name(id) or delivery.redelivered
                or headers.get('eta') is not None or headers.get('expires') is not None
                or headers.get('timelimit', _NO_LIMITS) != _NO_LIMITS):
            self._take(received)
            return
        self._admit(Request(received, id, policy, policy.limits))

    def _admit(self, request: Request) -> None:
        """A well-formed request without ETA: on to the pool, unless it was revoked or its rate is limited."""
        self._hold(request)
        state = self.state
        if state.revoked and state.is_revoked(request):
            self._discard(request, 'revoked')
            return
        if signals.task_received.receivers:
            signals.task_received.send(sender=self.consumer, request=request)
        self.submit(request)

    def _hold(self, request: Request) -> None:
        self.state.hold(request)
        if self._tells:
            shown = request.received.shown()
            data = {'id': request.id, 'name': shown.get('shadow') or request.policy.name, 'eta': request.eta,
                    'args': shown.get('argsrepr'), 'kwargs': shown.get('kwargsrepr')}
            logger.info(announcing.LOG_RECEIVED, data, extra={'data': data})

    # -- all other cases

    def _take(self, received: Received) -> None:
        if received.redelivered and self.returns.welcome(received):
            return
        try:
            headers = self._read_headers(received)
            name = _name_of(headers, 'task')
            policy = self.policies.find(name)
            try:
                id = _name_of(headers, 'id')
            except InvalidTaskError as exc:
                if self.reader.wants_signatures:
                    raise
                self._tell_invalid(received, exc)
                # Those who wait for what follows it may still be told.
                self._refuse(received, uuid(), policy or self.policies.unknown(name), 'invalid', str(exc))
                return
            if policy is None:
                self._refuse(received, id, self.policies.unknown(name), 'unknown', name)
                return
            try:
                request = self._make_request(received, id, policy, headers)
            except InvalidTaskError as exc:
                self._tell_invalid(received, exc)
                self._refuse(received, id, policy, 'invalid', str(exc))
                return
        except Exception as exc:
            self._refuse_invalid(received, exc)
        else:
            self._place(request)

    def _read_headers(self, received: Received) -> dict[str, Any]:
        """The headers that decide. An old message (protocol 1) has them in its body."""
        headers = received.peek(_DECISIVE)
        if headers.get('task') is None:
            context = vars(self._read_here(received))
            headers = {name: context.get(name) for name in DECISIVE_HEADERS}
        return headers

    def _read_here(self, received: Received) -> Context:
        job = received.job(None)
        if len(job.body) > LARGEST_HERE:
            raise InvalidTaskError(f'no header task, and more than {LARGEST_HERE} bytes in which to look for one')
        size = min(self.limits.size or LARGEST_HERE, LARGEST_HERE)
        reader = MessageReader(self.reader.accept, self.reader.hostname, self.limits._replace(size=size))
        return reader.read(job, read_head(job))

    def _make_request(self, received: Received, id: str, policy: Policy, headers: dict[str, Any]) -> Request:
        try:
            limits = policy.limits_of(headers.get('timelimit'))
        except ValueError as exc:
            raise InvalidTaskError(str(exc)) from None
        request = Request(received, id, policy, limits)
        for name in ('eta', 'expires'):
            value = headers.get(name)
            if value is not None:
                try:
                    setattr(request, name, parse_time(value, self.timezone))
                except ValueError as exc:
                    raise InvalidTaskError(f'invalid {name} value {value!r:.100}: {exc}') from None
        return request

    def _place(self, request: Request) -> None:
        if request.is_expired():
            self._hold(request)
            self._discard(request, 'expired')
        elif (left := self._seconds_to(request.eta)) > 0:
            self._schedule(request, left)
        else:
            self._admit(request)

    def _seconds_to(self, moment: datetime | None) -> float:
        return 0.0 if moment is None else (moment - datetime.now(timezone.utc)).total_seconds()

    def _schedule(self, request: Request, left: float) -> None:
        """Have the broker keep it until its ETA if that is far, else hold it here; have another in its place."""
        request.stage = Stage.SCHEDULED
        if self._is_far(left) and self.delays.takes(request, self.subscription.queue_of(request.message)):
            self.state.hold(request)
            logger.info('Task %s[%s] is kept by the broker until its ETA %s', request.name, request.id, request.eta)
        else:
            self._hold(request)
            if signals.task_received.receivers:
                signals.task_received.send(sender=self.consumer, request=request)
            self.hold_until_eta(request)
        self.prefetch.increment()

    def _is_far(self, seconds: float) -> bool:
        if self.hold_time is None or seconds < _DELAYED_AT_LEAST:
            return False
        return seconds > self.hold_time or self.prefetch.is_full

    def hold_until_eta(self, request: Request) -> None:
        """Keep it here."""
        request.timer = self.hub.call_at(time.monotonic() + self._seconds_to(request.eta), self._on_due, request)

    def _on_due(self, request: Request) -> None:
        request.timer = None
        if request.stage is not Stage.SCHEDULED or request.received.is_lost:
            return
        # The clock may have been set back, and a timer may be early.
        left = self._seconds_to(request.eta)
        if left > 0.001:
            request.timer = self.hub.call_at(time.monotonic() + left, self._on_due, request)
            return
        self.prefetch.decrement()
        request.stage = Stage.RESERVED
        if self.state.is_revoked(request):
            self._discard(request, 'revoked')
        else:
            self.submit(request)

    def _discard(self, request: Request, reason: str) -> None:
        logger.info('Discarding revoked task: %s[%s]', request.name, request.id)
        if reason == 'expired' and not self.reader.wants_signatures:  # nobody has checked yet whose id that is
            self.state.revoked.add(request.id)
        request.condemn(reason)
        self.pool.submit_first(request)

    # -- what is no task of ours

    def _refuse(self, received: Received, id: str, policy: Policy, verdict: str, detail: str) -> None:
        """A child tells those who wait for it, then it is rejected."""
        request = Request(received, id, policy, None)
        request.condemn(verdict, detail)
        self.state.hold(request)
        self.pool.submit_first(request)

    def _refuse_invalid(self, received: Received, exc: Exception) -> None:
        self._tell_invalid(received, exc)
        received.reject(False)

    def _tell_invalid(self, received: Received, exc: Exception) -> None:
        said = one_line(exc)[:500]
        if not isinstance(exc, _EXPECTED):
            said = f'{type(exc).__name__}: {said}'
            logger.debug('While taking a message:', exc_info=exc)
        logger.error('Received and rejected an invalid task message: %s', for_log(f'{said}. {_describe(received)}'))
        if signals.task_rejected.receivers:
            signals.task_rejected.send(sender=self.consumer, message=received.message, exc=exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """kombu could not make a message of what came (an unknown compression, say)."""
        self._refuse_invalid(KombuMessage(message, self.receipts, self.reader), exc)


def _name_of(headers: dict[str, Any], header: str) -> str:
    """The id or the task's name: text that can be shown in a line of the log."""
    name = headers.get(header)
    if not is_name(name):
        raise InvalidTaskError(f'the header {header} is {name!r:.100}, not a printable text of at most '
                               f'{LONGEST_NAME} characters')
    return name


def _describe(received: Received) -> str:
    try:
        job = received.job(None)
        return describe(job, read_head(job))
    except Exception as exc:
        return f'[its headers cannot be read: {type(exc).__name__}]'
