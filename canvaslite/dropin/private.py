"""Names of Celery that nothing here has, for programs that import them: public helpers, and private names."""

from __future__ import annotations

import pickle as _pickle
import platform
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

from canvaslite import current
from canvaslite.canvas.chains import _chain
from canvaslite.canvas.chords import _as_header
from canvaslite.canvas.freezing import bind_end
from canvaslite.canvas.members import is_signature
from canvaslite.canvas.steps import Steps, fold_chain
from canvaslite.utils.time import UTC, local_timezone

#: What programs take us for.
VERSION = (5, 7, 0)

pickle = _pickle

#: Each worker has a `Shutdown` of its own here; of the process nothing is ever asked.
should_stop = should_terminate = None
_TLS = current._Current

pyimplementation = platform.python_implementation
Bunch = SimpleNamespace
LocalTimezone = local_timezone
localize = datetime.astimezone
timezone = SimpleNamespace(utc=UTC, local=local_timezone(), get_timezone=ZoneInfo)
#: A configuration before it is read.
unconfigured: dict[str, Any] = {}


def to_utc(time: datetime) -> datetime:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)


class utf8dict(dict[str, Any]):
    def __init__(self, m: Mapping[Any, Any], encoding: str = 'utf-8') -> None:
        super().__init__((k.decode(encoding) if isinstance(k, bytes) else k,
                          v.decode(encoding) if isinstance(v, bytes) else v) for k, v in m.items())


class DictAttribute(Mapping[str, Any]):
    def __init__(self, obj: Any) -> None:
        self.obj = obj

    def __getitem__(self, name: str) -> Any:
        if hasattr(self.obj, name):
            return getattr(self.obj, name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dir(self.obj))

    def __len__(self) -> int:
        return len(dir(self.obj))


def __getattr__(name: str) -> Any:
    if name == 'default_app':
        return current.default_app()
    raise AttributeError(name)


_clear_chord_option = partial(bind_end, group_id=None, chord=None)
_fold_chain = partial(fold_chain, chain_class=_chain)
_maybe_group = _as_header


def _merge_chain_step(steps: Any, other: Any, clone_other: bool = True) -> Any:
    if not is_signature(other):
        return NotImplemented
    merged = Steps(list(steps))
    merged.add(other.clone() if clone_other else other)
    return merged.steps


def _strip_chord_header_links(sig: Any) -> None:
    for part in filter(is_signature, (sig['kwargs'].get('header'), *(sig['kwargs'].get('tasks') or ()))):
        if sig.KIND == 'chord':
            _clear_chord_option(part)
        _strip_chord_header_links(part)


def _reprtask(task: Any, fmt: Any = None, flags: Any = None) -> str:
    return repr(task)
