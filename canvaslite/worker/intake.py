"""`Intake`: what is decided about a message when it comes in, in this order.

Unreadable? One line in the log, acknowledged or rejected as Celery does. An unknown task? A child records the failure,
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
from canvaslite.exceptions import InvalidTaskError
from canvaslite.execution import announcing
from canvaslite.execution.message import MessageReader
from canvaslite.transport.table import peek
from canvaslite.utils.redact import one_line
from canvaslite.utils.time import parse_time
from canvaslite.wire import DECISIVE_HEADERS
from canvaslite.worker.connection import Prefetch
from canvaslite.worker.messages import KombuMessage, Received
from canvaslite.worker.policies import Policies, Policy
from canvaslite.worker.receipts import MessageReceipts, RawReceipts, Returns
from canvaslite.worker.request import Request, Stage
from canvaslite.worker.state import State

logger = logging.getLogger('celery.worker.strategy')

_DECISIVE = frozenset(DECISIVE_HEADERS)
_NO_LIMITS = [None, None]
_SHOWN = 300


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
        self.reader = MessageReader(app.conf.accept_content, consumer.hostname)
        #: Nothing more is taken: what still comes in goes back at once.
        self.closed = False
        self._tells = logger.isEnabledFor(logging.INFO)

    # -- the common case

    def on_delivery(self, delivery: Any, receipts: Any = None) -> None:
        """A message of RabbitMQ, as bytes; `receipts` where they are not those of the channel."""
        receipts = receipts or self.receipts
        receipts.expect(delivery)
        received = Received(delivery, receipts, self.reader)
        if self.closed:
            received.reject(True)
            return
        try:
            self._take_raw(received, delivery)
        except Exception as exc:  # whatever a message does to us, the worker goes on
            logger.exception('Error of the worker while it took a message')
            self._refuse_invalid(received, exc)

    def on_message(self, message: Any) -> None:
        """A message of any other transport."""
        received = KombuMessage(message, self.receipts, self.reader)
        if self.closed:
            received.reject(True)
            return
        try:
            self._take(received)
        except Exception as exc:  # whatever a message does to us, the worker goes on
            logger.exception('Error of the worker while it took a message')
            self._refuse_invalid(received, exc)

    def _take_raw(self, received: Received, delivery: Any) -> None:
        try:
            headers = peek(delivery.properties, _DECISIVE)
            policy = self.policies.known[headers['task']]
            id = headers['id']
        except (KeyError, TypeError, FrameSyntaxError, UnicodeDecodeError):
            self._take(received)
            return
        if (id.__class__ is not str or delivery.redelivered or headers.get('eta') is not None
                or headers.get('expires') is not None or headers.get('timelimit', _NO_LIMITS) != _NO_LIMITS):
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
            id, name = _task_of(headers)
            policy = self.policies.find(name)
            if policy is None:
                self._refuse_unknown(received, id, name)
                return
            request = self._make_request(received, id, policy, headers)
        except (InvalidTaskError, ContentDisallowed) as exc:
            self._refuse_invalid(received, exc)
        except (DecodeError, FrameSyntaxError) as exc:
            self._drop_unreadable(received, exc)
        except Exception as exc:
            logger.debug('While reading a message:', exc_info=True)
            self._refuse_invalid(received, exc)
        else:
            self._place(request)

    def _read_headers(self, received: Received) -> dict[str, Any]:
        """The headers that decide. An old message (protocol 1) has them in its body."""
        headers = received.peek(_DECISIVE)
        if headers.get('task') is None:
            context = vars(received.read())
            headers = {name: context.get(name) for name in DECISIVE_HEADERS}
        return headers

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
        elif request.eta is not None and self._seconds_to(request.eta) > 0:
            self._schedule(request)
        else:
            self._admit(request)

    def _seconds_to(self, moment: datetime) -> float:
        return (moment - datetime.now(timezone.utc)).total_seconds()

    def _schedule(self, request: Request) -> None:
        """Keep it until its ETA, and have another message in its place."""
        assert request.eta is not None
        self._hold(request)
        if signals.task_received.receivers:
            signals.task_received.send(sender=self.consumer, request=request)
        request.stage = Stage.SCHEDULED
        self.prefetch.increment()
        request.timer = self.hub.call_at(time.monotonic() + self._seconds_to(request.eta), self._on_due, request)

    def _on_due(self, request: Request) -> None:
        request.timer = None
        if request.stage is not Stage.SCHEDULED or request.received.is_lost:
            return
        # The clock may have been set back, and a timer may be early.
        left = self._seconds_to(request.eta) if request.eta is not None else 0.0
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
        if reason == 'expired':
            self.state.revoked.add(request.id)
        request.condemn(reason)
        self.pool.submit_first(request)

    # -- what is no task of ours

    def _refuse_unknown(self, received: Received, id: str, name: str) -> None:
        """A child tells those who wait for it, then it is rejected; the line in the log comes with the outcome."""
        request = Request(received, id, self.policies.unknown(name), None)
        request.condemn('unknown', name)
        self.state.hold(request)
        self.pool.submit_first(request)

    def _refuse_invalid(self, received: Received, exc: Exception) -> None:
        logger.error('Received and rejected an invalid task message: %.500s. %s', one_line(exc), describe(received))
        received.reject(False)
        if signals.task_rejected.receivers:
            signals.task_rejected.send(sender=self.consumer, message=received.message, exc=exc)

    def _drop_unreadable(self, received: Received, exc: Exception) -> None:
        logger.critical("Can't decode message body: %.500s. %s", one_line(exc), describe(received))
        received.acknowledge()

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """kombu could not make a message of what came (an unknown compression, say)."""
        self._drop_unreadable(KombuMessage(message, self.receipts, self.reader), exc)


def _task_of(headers: dict[str, Any]) -> tuple[str, str]:
    id, name = headers.get('id'), headers.get('task')
    if not isinstance(name, str):
        raise InvalidTaskError(f'the header task is {name!r:.100}, not a name')
    if not isinstance(id, str):
        raise InvalidTaskError(f'the header id is {id!r:.100}, not a text')
    return id, name


def describe(received: Received) -> str:
    """A message for the log, on one line."""
    try:
        job = received.job(None)
    except Exception as exc:
        return f'[it cannot be shown: {exc!r:.200}]'
    return (f'[body: {job.body[:_SHOWN]!r} ({len(job.body)}b), exchange: {job.exchange!r}, '
            f'routing key: {job.routing_key!r}]')
