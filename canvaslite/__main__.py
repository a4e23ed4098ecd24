"""``python -m canvaslite``, and the command ``canvaslite``: the command line."""

from __future__ import annotations

import sys

from canvaslite import cli, dropin


def main() -> None:
    """Run the command line and exit. Where a project says ``celery``, it gets canvaslite."""
    if 'celery' not in sys.modules:
        dropin.install()
    cli.main()


if __name__ == '__main__':
    main()
