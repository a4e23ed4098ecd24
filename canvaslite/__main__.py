"""``python -m canvaslite``: the command line."""

from __future__ import annotations

import sys

from canvaslite.cli import main

if __name__ == '__main__':
    sys.exit(main())
