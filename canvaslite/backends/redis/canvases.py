"""Records of canvases on Redis: a list for each run, and for each span of time a hash of the ids in it, each of which
names its run. A record is kept by one script, however many ids it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from canvaslite import wire
from canvaslite.backends.canvases import CanvasStore, Found, Spans
from canvaslite.backends.redis import scripts
from canvaslite.result.nodes import CanvasRecord


class RedisCanvases(CanvasStore):
    """The records of a `RedisBackend`."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._prefix = (backend._global_keyprefix() + wire.CANVAS_PREFIX).encode()
        self._spans = Spans(backend.expires)

    def _indexes(self) -> list[bytes]:
        return [b'%sids-%d' % (self._prefix, span) for span in self._spans.known()]

    def keep(self, record: CanvasRecord) -> None:
        indexes = self._indexes() if record.within else self._indexes()[:1]
        # Who sends a canvas does not wait for its record.
        self._backend.link.tell(scripts.KEEP_CANVAS, tuple(indexes), (
            self._prefix, record.run.encode(), record.data, b'%d' % self._spans.kept,
            '\n'.join(record.ids).encode(), *(task_id.encode() for task_id in record.within)), record.opens)

    def find(self, task_id: str) -> Found | None:
        found = self._backend.ask(scripts.FIND_CANVAS, tuple(self._indexes()), (self._prefix, task_id.encode()))
        return (found[0].decode(), found[1]) if found else None

    def drop(self, run: str, ids: Sequence[str]) -> None:
        self._backend.run_script(scripts.DROP_CANVAS, tuple(self._indexes()), (
            self._prefix, run.encode(), '\n'.join(ids).encode()))
