"""The ``canvaslite`` command."""

from canvaslite.cli.root import main

__all__ = ('main',)
