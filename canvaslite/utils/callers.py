"""Who called us."""

from __future__ import annotations

import sys

__all__ = ('user_stacklevel',)


def user_stacklevel() -> int:
    """The `stacklevel` with which the caller's `warnings.warn` points at the innermost line outside canvaslite."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and _is_ours(frame.f_globals.get('__name__', '')):
        frame, level = frame.f_back, level + 1
    return level


def _is_ours(module: str) -> bool:
    return module == 'canvaslite' or module.startswith('canvaslite.')
