"""Private names of Celery that others are seen to import, in terms of what does their work here."""

from __future__ import annotations

from typing import Any

from canvaslite import current
from canvaslite.canvas.chains import _chain
from canvaslite.canvas.chords import _as_header
from canvaslite.canvas.freezing import bind_end
from canvaslite.canvas.members import is_signature
from canvaslite.canvas.steps import Steps, fold_chain

#: Each worker has a `Shutdown` of its own here; of the process nothing is ever asked.
should_stop = should_terminate = None
_TLS = current._Current


def __getattr__(name: str) -> Any:
    if name == 'default_app':
        return current.default_app()
    raise AttributeError(name)


def _clear_chord_option(sig: Any) -> None:
    bind_end(sig, None, None)


def _fold_chain(tasks: Any) -> Any:
    return fold_chain(tasks, _chain)


def _merge_chain_step(steps: Any, other: Any, clone_other: bool = True) -> Any:
    if not is_signature(other):
        return NotImplemented
    merged = Steps(list(steps))
    merged.add(other.clone() if clone_other else other)
    return merged.steps


def _maybe_group(tasks: Any, app: Any) -> Any:
    return _as_header(tasks, app)


def _strip_chord_header_links(sig: Any) -> None:
    for part in filter(is_signature, (sig['kwargs'].get('header'), *(sig['kwargs'].get('tasks') or ()))):
        if sig.KIND == 'chord':
            bind_end(part, None, None)
        _strip_chord_header_links(part)
