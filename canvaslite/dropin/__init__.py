"""The drop-in: programs that say ``celery`` get canvaslite, unmodified.

`install` puts a finder in front of Python's own; ``python -m canvaslite.dropin script.py ...`` does it for a program.
`homes` says where each of Celery's modules is here, `finder` serves them.
"""

from __future__ import annotations

from canvaslite.dropin.finder import install

__all__ = ('install',)
