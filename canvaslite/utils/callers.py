"""Who called us."""

from __future__ import annotations

import sys


def user_stacklevel() -> int:
    """The `stacklevel` with which the caller's `warnings.warn` points at the innermost line outside canvaslite."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get('__name__', '').partition('.')[0] == 'canvaslite':
        frame, level = frame.f_back, level + 1
    return level
