"""``python -m tests.faults.bad_messages``: messages that are no tasks, sent to a whole worker, and to Celery's.

A fixed corpus, and random ones by hypothesis: headers, properties, bodies, content types, encodings, compressions,
depths, sizes, and mutations of valid messages. After each of them the worker must live, the next good task end within
2 seconds, the message have run or lie in the dead-letter queue, and a refused one have made one line of at most 2 kB.
A password that most of them carry may not be printed.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import importlib
import json
import lzma
import pickle
import re
import shutil
import sys
import tempfile
import time
import uuid
import zlib
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from amqp.exceptions import AMQPError
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from canvaslite.transport.connection import BrokerConnection
from canvaslite.transport.properties import encode_properties
from canvaslite.transport.table import encode_entry, join_entries
from tests.workers import WorkerProcess

APPS = Path(__file__).parents[1] / 'apps'
QUEUE, DEAD = 'proj', 'dead'
#: What no log may show, and the ways in which messages carry it.
SECRET = 'hunter2-5ecr3t'
URL = f'amqp://somebody:{SECRET}@broker/vhost'
#: Seconds in which the next good task must end.
PATIENCE = 2.0
LONGEST_LINE = 2048
_REFUSED = re.compile(r': (ERROR|CRITICAL)/(?!.*(raised unexpected|INTERNAL ERROR): )')
_ENDED = re.compile(
    r'\] (succeeded in|raised (un)?expected|INTERNAL ERROR|retry: |ignored|rejected)|Discarding revoked')


class Message(NamedTuple):
    """A message as RabbitMQ gets it."""

    body: bytes = b''
    headers: dict[str, Any] | bytes | None = None
    content_type: str | None = 'application/json'
    content_encoding: str | None = 'utf-8'
    properties: dict[str, Any] | None = None
    #: Where it is sent; to the queue of tasks if empty.
    exchange: str = ''

    def encode(self) -> bytes:
        """The property list. Raises `amqp.exceptions.FrameSyntaxError` for what AMQP cannot say."""
        return encode_properties(self.headers, **{
            'content_type': self.content_type, 'content_encoding': self.content_encoding, **(self.properties or {})})


def task_headers(**changed: Any) -> dict[str, Any]:
    """Headers of a good message, with changes; those that are ``...`` are left out."""
    ident = str(uuid.uuid4())
    headers = {
        'lang': 'py', 'task': 'proj.add', 'id': ident, 'root_id': ident, 'parent_id': None, 'retries': 0, 'eta': None,
        'expires': None, 'group': None, 'timelimit': [None, None], 'argsrepr': f'(1, 2, {URL!r})',
        'kwargsrepr': f"{{'password': '{SECRET}'}}", 'origin': 'test@host', **changed,
    }
    return {name: value for name, value in headers.items() if value is not ...}


def task_body(*args: Any, embed: Any = None, **kwargs: Any) -> bytes:
    """The body of a good message."""
    after = {'callbacks': None, 'errbacks': None, 'chain': None, 'chord': None, **(embed or {})}
    return json.dumps([args, kwargs, after]).encode()


def good() -> Message:
    return Message(task_body(2, 2), task_headers())


#: More than the cap of 64 MB, and more than 200 times its compressed size; and what is only the latter.
BOMB, SMALL_BOMB = (b'[' + b'0,' * count + b'0]' for count in (40_000_000, 4_000_000))
_DEEP = b'[' * 100_000 + b']' * 100_000
_secret = json.dumps({'password': SECRET, 'url': URL}).encode()


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def corpus() -> dict[str, Message]:
    """Messages that were found to do harm, here or with Celery, and their like. None of them asks for a task."""
    with_headers = partial(Message, task_body(1, 2))
    return {
        'malformed JSON': Message(b'{"half' + _secret, task_headers()),
        'a body that is no triple': Message(_secret, task_headers()),
        'a body of the wrong parts': Message(b'[1, 2, 3]', task_headers()),
        'arguments that are a mapping': Message(b'[{"a": 1}, {}, {}]', task_headers()),
        'keyword arguments that are a list': Message(b'[[], [], {}]', task_headers()),
        'an embed that is a text': Message(b'[[], {}, "x"]', task_headers()),
        'an unknown task': Message(task_body(1, password=SECRET), task_headers(task='no.such.task')),
        'an unknown task with a long name': with_headers(task_headers(task='no' * 5000)),
        'a task name with line breaks': with_headers(task_headers(task='no\n[2020-01-01] such\ntask')),
        'an empty task name': with_headers(task_headers(task='')),
        'a wrong content type': Message(task_body(1, 2), task_headers(), 'application/x-unheard-of'),
        'a content type with a password': Message(task_body(1, 2), task_headers(), URL),
        'no content type': Message(task_body(1, 2), task_headers(), None, None),
        'no headers at all': Message(task_body(1, 2), {}),
        'no header table': Message(task_body(1, 2), None),
        'no properties at all': Message(_secret, None, None, None),
        'no id': with_headers(task_headers(id=...)),
        'an id that is no text': with_headers(task_headers(id=17)),
        'an id that is null': with_headers(task_headers(id=None)),
        'an id that is a list': with_headers(task_headers(id=['x'])),
        'an id that is bytes': with_headers(task_headers(id=b'\xff\xfe')),
        'a long id': with_headers(task_headers(id='x' * 100_000)),
        'an id with line breaks': with_headers(task_headers(id='x\n[2020-01-01: ERROR/MainProcess] made up\n')),
        'a task that is no text': with_headers(task_headers(task=['proj.add'])),
        'a task that is a number': with_headers(task_headers(task=5)),
        'a task that is a mapping': with_headers(task_headers(task={'a': URL})),
        'an eta that is no time': with_headers(task_headers(eta='tomorrow')),
        'an eta that is a number': with_headers(task_headers(eta=1e300)),
        'an eta out of range': with_headers(task_headers(eta='0001-01-01T00:00:00+14:00')),
        'an expiry that is no time': with_headers(task_headers(expires={'a': 1})),
        'an expiry that is a number': with_headers(task_headers(expires=-5)),
        'time limits that are no pair': with_headers(task_headers(timelimit='soon')),
        'time limits that are three': with_headers(task_headers(timelimit=[1, 2, 3])),
        'time limits that are text': with_headers(task_headers(timelimit=['1', '2'])),
        'a time limit that is no number': with_headers(task_headers(timelimit=[float('nan'), None])),
        'a time limit below zero': with_headers(task_headers(timelimit=[-1, -1])),
        'a pickle, which is not accepted': Message(
            pickle.dumps(((1, 2), {'password': SECRET}, {})), task_headers(), 'application/x-python-serialize',
            'binary'),
        'a pickle that exits': Message(
            b'cos\n_exit\n(I70\ntR.', task_headers(), 'application/x-python-serialize', 'binary'),
        'a pickle under the name of JSON': Message(pickle.dumps(((1, 2), {}, {})), task_headers()),
        'YAML': Message(b'!!python/object/apply:os._exit [70]', task_headers(), 'application/x-yaml'),
        'a compression that is unknown': with_headers(task_headers(compression='application/x-squeeze')),
        'a compression that is a number': with_headers(task_headers(compression=5)),
        'a compression that is a list': with_headers(task_headers(compression=['gzip'])),
        'a compressed body that is not compressed': with_headers(task_headers(compression='application/x-gzip')),
        'a compressed body that is cut': Message(
            zlib.compress(task_body(1, 2))[:-6], task_headers(compression='application/x-gzip')),
        'a gzip bomb': Message(zlib.compress(BOMB), task_headers(compression='application/x-gzip')),
        'a bzip2 bomb': Message(bz2.compress(SMALL_BOMB), task_headers(compression='application/x-bz2')),
        'an lzma bomb': Message(lzma.compress(SMALL_BOMB, preset=0), task_headers(compression='lzma')),
        'a gzip bomb without a task': Message(zlib.compress(BOMB), {'compression': 'application/x-gzip'}),
        'deeply nested JSON': Message(_DEEP, task_headers()),
        'deeply nested JSON without headers': Message(_DEEP, {}),
        'deeply nested mappings': Message(b'{"a":' * 50_000 + b'1' + b'}' * 50_000, task_headers()),
        'deeply nested headers': with_headers(task_headers(stamps=_nested(2000))),
        'a deeply nested id': with_headers(task_headers(id=_nested(2000))),
        'a deeply nested eta': with_headers(task_headers(eta=_nested(2000))),
        'bytes that are no text': Message(b'\xff\xfe\x00\x01', task_headers()),
        'an empty body': Message(b'', task_headers()),
        'a body that is null': Message(b'null', task_headers()),
        'a body that is a long number': Message(b'9' * 100_000, task_headers()),
        'a body in UTF-16': Message('[[], {}, {}]'.encode('utf-16'), task_headers(), 'application/json', 'utf-16'),
        'a type of JSON that is none': Message(
            b'[[{"__type__": "datetime", "__value__": "' + SECRET.encode() + b'"}], {}, {}]', task_headers()),
        'protocol 1 without a task': Message(b'{"id": "x", "args": [], "password": "' + SECRET.encode() + b'"}', {}),
        'protocol 1 with a wrong eta': Message(
            b'{"id": "x", "task": "proj.add", "args": [1, 2], "kwargs": {}, "eta": "soon"}', {}),
        'protocol 1 with a list as its id': Message(b'{"id": [], "task": "proj.add", "args": [1, 2]}', {}),
        'protocol 1 with text as arguments': Message(
            b'{"id": "x", "task": "proj.add", "args": "no", "kwargs": {}}', {}),
        'protocol 1 with a list of keyword arguments': Message(
            b'{"id": "x", "task": "proj.add", "args": [], "kwargs": [1]}', {}),
        'headers that fill a frame': with_headers(task_headers(id=5, more={str(n): 'x' * 200 for n in range(500)})),
        'a priority and replies to nobody': Message(
            b'{', task_headers(), properties={'priority': 255, 'reply_to': URL, 'correlation_id': 'x' * 255}),
        'a timestamp out of range': Message(b'{', task_headers(), properties={'timestamp': 2**64 - 1}),
        'a header with a time out of range': with_headers(
            _with_entry(task_headers(), b'\x04when' + b'T' + b'\xff' * 8)),
        'a header of a type that is none': with_headers(_with_entry(task_headers(), b'\x04what' + b'?')),
        'every property': Message(b'{', task_headers(), properties=dict.fromkeys(
            ('message_id', 'type', 'app_id', 'correlation_id', 'reply_to'), URL)),
    }


def remote_control() -> dict[str, Message]:
    """Messages to a worker's mailbox that are no commands, or ask for what cannot be."""

    def call(method: Any, **said: Any) -> bytes:
        return json.dumps({'method': method, 'arguments': {}, 'destination': None, 'pattern': None, 'matcher': None,
                           **said}).encode()

    calls: list[tuple[Any, Any]] = [
        ([], {}), (5, {}), ('no_such', {'password': SECRET}), ('ping', [1]), ('ping', 'x'), ('rate_limit', {'a': 1}),
        ('rate_limit', {'task_name': 'proj.add', 'rate_limit': {'a': 1}}),
        ('rate_limit', {'task_name': ['x'], 'rate_limit': 'x'}),
        ('time_limit', {'task_name': 'proj.add', 'hard': 'x', 'soft': []}), ('revoke', {'task_id': {'a': []}}),
        ('revoke', {'task_id': [[1], None], 'terminate': True, 'signal': 'no'}),
        ('revoke_by_stamped_headers', {'headers': 5}), ('pool_grow', {'n': 'x'}), ('pool_shrink', {'n': 100}),
        ('add_consumer', {'queue': 5}), ('add_consumer', {'queue': 'x' * 300}), ('cancel_consumer', {'queue': ['x']})]
    options: list[dict[str, Any]] = [
        {'destination': 5}, {'pattern': '(((', 'matcher': 'pcre'}, {'pattern': 'x', 'matcher': 'no'},
        {'reply_to': 5, 'ticket': []}, {'reply_to': {'exchange': 5, 'routing_key': ['x']}, 'ticket': {'x': 1}}]
    bodies = [b'{"half', b'null', b'[1]', b'5', b'{}', b'\xff\xfe', _DEEP,
              *(call(method, arguments=arguments) for method, arguments in calls),
              *(call('ping', **said) for said in options)]
    ping = call('ping')
    sent = [
        *(Message(body, {}) for body in bodies), Message(ping, {'clock': 'x'}), Message(ping, {'clock': [1]}),
        Message(ping, {'expires': 1e300, 'clock': -1}), Message(ping, {}, None, None), Message(ping, {}, 'text/plain'),
        Message(b'cos\n_exit\n(I70\ntR.', {}, 'application/x-python-serialize', 'binary'),
        Message(zlib.compress(SMALL_BOMB), {'compression': 'application/x-gzip'}),
        Message(ping, {'compression': ['x']})]
    return {f'control: {message.body[:60]!r} {message.headers!r:.60}': message._replace(exchange='celery.pidbox')
            for message in sent}


def _with_entry(headers: dict[str, Any], entry: bytes) -> bytes:
    """The table of `headers` and of one more, as AMQP writes it."""
    return join_entries([entry, *(encode_entry(name, value) for name, value in headers.items())])


# --- random ones ------------------------------------------------------------------------------------------------

_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-2**63, 2**63 - 1), st.floats(), st.text(max_size=20), st.binary(max_size=20),
    st.sampled_from(['', 'proj.add', '2020-01-01T00:00:00', '\0', '\n', URL, '9' * 400, 'x' * 3000]))
_values = st.recursive(
    _scalars, lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=8), some, max_size=3),
    max_leaves=8)
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just(SECRET)),
    lambda some: st.one_of(st.lists(some, max_size=4), st.dictionaries(st.text(max_size=8), some, max_size=4)),
    max_leaves=10)
_HEADERS = ('task', 'id', 'root_id', 'parent_id', 'retries', 'expires', 'group', 'group_index', 'timelimit', 'argsrepr',
            'kwargsrepr', 'origin', 'ignore_result', 'shadow', 'lang', 'stamps', 'stamped_headers', 'compression',
            'replaced_task_nesting', 'canvaslite_window', 'canvaslite_attempt')
_PARTS = ('callbacks', 'errbacks', 'chain', 'chord')
_types = st.one_of(st.none(), st.text(max_size=20), st.sampled_from(
    ['application/json', 'application/x-python-serialize', 'application/data', 'text/plain', 'application/x-yaml',
     'application/x-msgpack', 'json', 'pickle', URL]))
_encodings = st.one_of(st.none(), st.text(max_size=10), st.sampled_from(['utf-8', 'binary', 'utf-16', 'zlib', 'idna']))
_compressors: dict[str, Any] = {'application/x-gzip': zlib.compress, 'application/x-bz2': bz2.compress,
                                'application/x-lzma': lzma.compress}


@st.composite
def _bodies(draw: Any) -> bytes:
    kind = draw(st.sampled_from(['bytes', 'json', 'triple', 'embed', 'deep', 'long', 'mutated', 'pickle']))
    if kind == 'bytes':
        return bytes(draw(st.binary(max_size=200)))
    if kind == 'json':
        return json.dumps(draw(_json)).encode()
    if kind == 'triple':
        return json.dumps([draw(_json), draw(_json), draw(_json)]).encode()
    if kind == 'embed':
        return task_body(1, 2, embed={draw(st.sampled_from(_PARTS)): draw(_json)})
    if kind == 'deep':
        depth = draw(st.integers(1, 50_000))
        return draw(st.sampled_from([b'[', b'{"a":', b'[[], {}, {"chain": ['])) * depth  # type: ignore[no-any-return]
    if kind == 'long':
        return b'[["' + b'x' * draw(st.integers(1, 1_000_000)) + draw(st.sampled_from([b'"], {}, {}]', b'']))
    if kind == 'pickle':
        return pickle.dumps(draw(_json))
    body = bytearray(task_body(1, 2, password=SECRET))
    for place in draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=5)):
        body[place] = draw(st.integers(0, 255))
    return bytes(body[:draw(st.integers(0, len(body)))] if draw(st.booleans()) else body)


@st.composite
def messages(draw: Any) -> Message:
    """Any message; some are valid."""
    headers = task_headers()
    for name in draw(st.lists(st.sampled_from(_HEADERS), max_size=3, unique=True)):
        headers[name] = draw(st.one_of(_values, st.just(...)))
    if draw(st.integers(0, 9)) == 0:
        headers = draw(st.dictionaries(st.text(max_size=10), _values, max_size=5))
    if draw(st.integers(0, 4)) == 0:
        headers['eta'] = draw(st.one_of(st.text(max_size=5), st.lists(_scalars, max_size=2), st.just('2001-01-01')))
    body, compression = draw(_bodies()), draw(st.sampled_from([None, None, None, *_compressors]))
    if compression:
        headers['compression'], body = compression, _compressors[compression](body)
    properties = {name: draw(st.text(max_size=20)) for name in draw(
        st.lists(st.sampled_from(['correlation_id', 'reply_to', 'message_id', 'type', 'app_id']), max_size=2))}
    plain = draw(st.integers(0, 2)) < 2
    return Message(body, {name: value for name, value in headers.items() if value is not ...},
                   'application/json' if plain else draw(_types), 'utf-8' if plain else draw(_encodings), properties)


def draw_messages(count: int, number: int) -> dict[str, Message]:
    """`count` random messages, the same for the same `number`."""
    drawn: list[Message] = []

    @seed(number)
    @settings(max_examples=count, database=None, deadline=None, phases=(Phase.generate,),
              suppress_health_check=list(HealthCheck))
    @given(messages())
    def keep(message: Message) -> None:
        with contextlib.suppress(Exception):  # what AMQP cannot say
            message.encode()
            drawn.append(message)

    keep()
    return {f'random {number}/{place}': message for place, message in enumerate(drawn)}


def try_random(lane: Lane, count: int, number: int) -> None:
    """Send `count` random messages, the same for the same `number`. One that does harm is made as small as it can be in
    a few minutes while it still does: that is the example which the error shows."""

    @seed(number)
    @settings(max_examples=count, database=None, deadline=None, phases=(Phase.generate, Phase.shrink),
              suppress_health_check=list(HealthCheck), report_multiple_bugs=False)
    @given(messages())
    def does_no_harm(message: Message) -> None:
        try:
            message.encode()
        except Exception:  # what AMQP cannot say
            return
        before = len(lane.toll.faults)
        lane.try_one('random', message)
        assert len(lane.toll.faults) == before, lane.toll.faults

    does_no_harm()


# --- workers ----------------------------------------------------------------------------------------------------


@dataclass
class Toll:
    """What the messages did to a worker."""

    messages: int = 0
    refused: int = 0
    ended: list[str] = field(default_factory=list)  #: the messages that ended it
    stuck: list[str] = field(default_factory=list)  #: after which the next good task did not end in time
    lost: list[str] = field(default_factory=list)  #: that neither ran nor lie in the dead-letter queue
    lines: list[str] = field(default_factory=list)  #: that were refused with another number of lines than one
    told: list[str] = field(default_factory=list)  #: lines with the password, or too long ones
    slowest: float = 0.0
    peak_kib: int = 0

    @property
    def faults(self) -> list[str]:
        return [f'{kind}: {name}' for kind in ('ended', 'stuck', 'lost', 'lines', 'told') for name in vars(self)[kind]]

    def __str__(self) -> str:
        counts = ', '.join(f'{kind} {len(vars(self)[kind])}' for kind in ('ended', 'stuck', 'lost', 'lines', 'told'))
        return (f'{self.messages} messages, {self.refused} dead-lettered; {counts}; slowest good task '
                f'{self.slowest:.2f} s; peak of the main process {self.peak_kib // 1024} MB')


class Lane:
    """One worker, `package`'s, and what is sent to it. `broker` is a vhost of its own, `backend` a Redis database."""

    def __init__(self, package: str, broker: str, backend: str, *options: str, patience: float = PATIENCE) -> None:
        self.package = package
        self.patience = patience
        self.options = options or ('-c', '2')
        self.env = {'PYTHONPATH': str(APPS), 'CANVAS_PACKAGE': package, 'BROKER': broker, 'BACKEND': backend,
                    'DEAD_LETTERS': DEAD}
        self.folder = Path(tempfile.mkdtemp(prefix='bad-messages-'))
        self.connection = BrokerConnection(broker)
        self.channel: Any = None
        self.toll = Toll()
        # Only to see when the good task ends; both packages keep results alike.
        self.app = importlib.import_module('canvaslite').Celery(broker=broker, backend=backend, set_as_current=False)
        self.worker: WorkerProcess | None = None
        self._seen = 0
        self._counts: Counter[str] = Counter()

    def __enter__(self) -> Lane:
        self.start()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        if self.worker is not None:
            self.worker.kill()
        self.connection.release()
        self.app.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the worker, and have the queues empty."""
        self.channel = self.connection.default_channel
        self.channel.queue_declare(DEAD, auto_delete=False)
        self.channel.queue_declare(QUEUE, durable=True, auto_delete=False, arguments={
            'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': DEAD})
        for queue in (DEAD, QUEUE):
            self.channel.queue_purge(queue)
        self._seen, self._counts = 0, Counter()
        self.worker = WorkerProcess(
            [sys.executable, '-m', self.package, '-A', 'proj', 'worker', '-l', 'INFO', *self.options,
             # Celery's does not start while the broker has not noticed the death of one of the same name.
             '-n', f'{self.package}-{uuid.uuid4().hex[:6]}@%h'], self.env, self.folder)
        self.worker.await_line(r'\bready\.$')
        self.send(good())
        self.worker.await_line(r'\] succeeded in')
        self._count()

    def send(self, message: Message) -> None:
        """Publish it. The broker may refuse what is no message, and then closes the connection."""
        self.channel.publish_raw(message.exchange, '' if message.exchange else QUEUE, message.encode(), message.body)

    def try_all(self, messages: dict[str, Message]) -> Toll:
        for name, message in messages.items():
            self.try_one(name, message)
        return self.toll

    def try_one(self, name: str, message: Message) -> None:
        """Send `message`, then a good one, and see what happens."""
        toll, before, worker = self.toll, Counter(self._counts), self.worker
        assert worker is not None
        toll.messages += 1
        try:
            self.send(message)
            self.channel.queue_declare(DEAD, passive=True)  # an answer: the broker took it
        except (AMQPError, OSError):
            self.connection.collect()
            self.channel = self.connection.default_channel
            return
        answered = not message.exchange or self._await_answer()
        follower = good()
        began = time.monotonic()
        self.send(follower)
        ended = self._await_result(follower.headers['id'])  # type: ignore[index, call-overload]
        toll.slowest = max(toll.slowest, time.monotonic() - began)
        if not (ended and answered):
            (toll.stuck if worker.process.poll() is None else toll.ended).append(name)
            self.note_peak()
            worker.kill()
            self.start()
            return
        if message.exchange:
            if self._count()['refused'] - before['refused'] > 1:
                toll.lines.append(name)
            return
        until = time.monotonic() + self.patience
        while (counts := self._count() - before)['ran'] + counts['dead'] < 2 and time.monotonic() < until:
            time.sleep(0.002)
        if counts['dead']:
            toll.refused += 1
            while not self._count()['refused'] - before['refused'] and time.monotonic() < until:
                time.sleep(0.002)
        elif counts['ran'] < 2:
            toll.lost.append(name)
        if (told := self._counts['refused'] - before['refused']) != counts['dead']:
            toll.lines.append(f'{name} ({told})')

    def _await_answer(self) -> bool:
        """Whether the worker answers remote control, and so has seen what was sent to it before."""
        return bool(self.app.control.inspect(timeout=self.patience, limit=1).ping())

    def _await_result(self, ident: str) -> bool:
        """Whether that task succeeds in time."""
        assert self.worker is not None
        until = time.monotonic() + self.patience
        result = self.app.AsyncResult(ident)
        while time.monotonic() < until and self.worker.process.poll() is None:
            if result.state == 'SUCCESS':
                return True
            time.sleep(0.002)
        return False

    def _count(self) -> Counter[str]:
        """What has come of all messages since the start: those that ran, are dead, and lines of refusals."""
        assert self.worker is not None
        lines, self._seen = self.worker.lines[self._seen:], len(self.worker.lines)
        for line in lines:
            self._counts['ran'] += bool(_ENDED.search(line))
            self._counts['refused'] += bool(_REFUSED.search(line))
            if SECRET in line or len(line.encode()) > LONGEST_LINE:
                self.toll.told.append(line[:300])
        self._counts['dead'] = self.channel.queue_declare(DEAD, passive=True).message_count
        return self._counts

    def note_peak(self) -> None:
        """Remember how large the worker's main process was at most."""
        assert self.worker is not None
        with contextlib.suppress(OSError):  # it is gone
            found = re.search(r'VmHWM:\s*(\d+)', Path(f'/proc/{self.worker.pid}/status').read_text())
            self.toll.peak_kib = max(self.toll.peak_kib, int(found[1]) if found else 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--broker', default='amqp://guest:guest@127.0.0.1:5672/bad-messages', help='an own vhost')
    parser.add_argument('--backend', default='redis://127.0.0.1:6379/15', help='an own Redis database')
    parser.add_argument('--random', type=int, default=300, help='how many random messages')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--only', help='those of the corpus with this in their names')
    parser.add_argument('--package', choices=['canvaslite', 'celery', 'both'], default='both')
    parser.add_argument('--pool', default='prefork')
    args = parser.parse_args()
    sent = {name: message for name, message in {**corpus(), **remote_control()}.items() if (args.only or '') in name}
    sent.update(draw_messages(args.random, args.seed) if args.random else {})
    code = 0
    for package in ('canvaslite', 'celery') if args.package == 'both' else (args.package,):
        with Lane(package, args.broker, args.backend, '-c', '2', '-P', args.pool) as lane:
            toll = lane.try_all(sent)
            lane.note_peak()
        print(f'{package}: {toll}', flush=True)
        for fault in toll.faults:
            print(f'    {fault}')
        code |= package == 'canvaslite' and bool(toll.faults)
    return code


if __name__ == '__main__':
    sys.exit(main())
