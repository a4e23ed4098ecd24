"""The bytes between a worker's parent and its children.

Both directions are streams of frames over a socket pair; a writer gathers many frames into one write, and a
reader takes what one read gave it. Lengths are little-endian and unpadded.

Job frame, parent to child::

    length u32 | seq u64 | flags u8 | route length u16 | head length u32 | route | head | body

`length` counts what follows it; the route is the exchange, a NUL and the routing key. A job with a verdict is rare
and goes as one pickled `Job` in place of route, head and body.

Report frame, child to parent::

    type u8 | seq u64 | kind u8 | runtime f32 | elapsed f32 | note length u16 | note
"""

from __future__ import annotations

import pickle
import socket
import struct
from functools import lru_cache
from typing import NamedTuple

from canvaslite.protocol.job import Job

_JOB = struct.Struct('<IQBHI')
_JOB_REST = _JOB.size - 4
_REPORT = struct.Struct('<BQBffH')

_REDELIVERED = 2
_PICKLED = 4
_CLOSE = 8
_FORM = 1

#: Report types: the child is up (or skipped what was taken back), a job started, a job ended.
READY, STARTED, FINISHED = 1, 2, 3

NOTE_LIMIT = 2048
READ_SIZE = 1 << 18
#: Exchanges and routing keys remembered as bytes and back: a worker sees few different ones.
_ROUTES_KEPT = 1000
#: The frame after which a child ends.
CLOSING = _JOB.pack(_JOB_REST, 0, _CLOSE, 0, 0)


@lru_cache(_ROUTES_KEPT)
def _pack_route(exchange: str, routing_key: str) -> bytes:
    return f'{exchange}\0{routing_key}'.encode('utf-8', 'surrogatepass')[:0xFFFF]


@lru_cache(_ROUTES_KEPT)
def _unpack_route(packed: bytes) -> tuple[str, str]:
    exchange, _, routing_key = packed.decode('utf-8', 'surrogatepass').partition('\0')
    return exchange, routing_key


def encode_job(seq: int, job: Job) -> bytes:
    """One job frame."""
    form, head, body, exchange, routing_key, redelivered, verdict = job
    if verdict is not None:
        pickled = pickle.dumps(job, 5)
        return _JOB.pack(_JOB_REST + len(pickled), seq, _PICKLED, 0, 0) + pickled
    route = _pack_route(exchange, routing_key)
    length = _JOB_REST + len(route) + len(head) + len(body)
    flags = form | _REDELIVERED if redelivered else form
    return b''.join((_JOB.pack(length, seq, flags, len(route), len(head)), route, head, body))


class JobReader:
    """Reads job frames from a child's blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b''

    def read(self) -> list[tuple[int, Job | None]]:
        """Wait for frames: (seq, job) of each, no job in the closing one. Raises `EOFError`: the parent is gone."""
        jobs: list[tuple[int, Job | None]] = []
        data = self._rest
        while True:
            offset = self._decode(data, jobs)
            if jobs:
                self._rest = data[offset:]
                return jobs
            data = data[offset:] + self._receive(data, offset)

    def _receive(self, data: bytes, offset: int) -> bytes:
        """What completes the frame at `offset`, if its length is known, or whatever comes next."""
        have = len(data) - offset
        missing = int.from_bytes(data[offset:offset + 4], 'little') + 4 - have if have >= 4 else 0
        chunks: list[bytes] = []
        while True:
            chunk = self._sock.recv(max(READ_SIZE, min(missing, 1 << 22)))
            if not chunk:
                raise EOFError
            chunks.append(chunk)
            missing -= len(chunk)
            if missing <= 0:
                return b''.join(chunks)

    def _decode(self, data: bytes, jobs: list[tuple[int, Job | None]]) -> int:
        offset, end, size = 0, len(data), _JOB.size
        unpack_from = _JOB.unpack_from
        while end - offset >= size:
            length, seq, flags, route_length, head_length = unpack_from(data, offset)
            stop = offset + 4 + length
            if stop > end:
                break
            head = offset + size + route_length
            if flags < _PICKLED:
                exchange, routing_key = _unpack_route(data[offset + size:head])
                body = head + head_length
                jobs.append((seq, Job(flags & _FORM, data[head:body], data[body:stop], exchange, routing_key,
                                      flags >= _REDELIVERED)))
            elif flags & _CLOSE:
                jobs.append((seq, None))
            else:
                jobs.append((seq, pickle.loads(data[offset + size:stop])))  # our own parent's bytes
            offset = stop
        return offset


class Report(NamedTuple):
    """What a child tells. `elapsed` is the whole time of the run, `runtime` that of the task's own code."""

    type: int
    seq: int
    kind: int = 0
    runtime: float = 0.0
    elapsed: float = 0.0
    note: str = ''


def encode_report(type_: int, seq: int, kind: int = 0, runtime: float = 0.0, elapsed: float = 0.0,
                  note: str = '') -> bytes:
    """One report frame."""
    if not note:
        return _REPORT.pack(type_, seq, kind, runtime, elapsed, 0)
    text = note.encode('utf-8', 'replace')[:NOTE_LIMIT]
    return _REPORT.pack(type_, seq, kind, runtime, elapsed, len(text)) + text


def decode_reports(data: bytes) -> tuple[list[Report], bytes]:
    """All whole reports in `data`, and the bytes left over."""
    reports: list[Report] = []
    offset, end, size = 0, len(data), _REPORT.size
    unpack_from = _REPORT.unpack_from
    while end - offset >= size:
        type_, seq, kind, runtime, elapsed, note_length = unpack_from(data, offset)
        stop = offset + size
        if not note_length:
            reports.append(Report(type_, seq, kind, runtime, elapsed))
        elif stop + note_length > end:
            break
        else:
            note = data[stop:stop + note_length].decode('utf-8', 'replace')
            stop += note_length
            reports.append(Report(type_, seq, kind, runtime, elapsed, note))
        offset = stop
    return reports, data[offset:]
