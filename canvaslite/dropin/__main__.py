"""``python -m canvaslite.dropin script.py args...`` or ``... -m module args...``: run a program on canvaslite."""

from __future__ import annotations

import os
import runpy
import sys

from canvaslite.dropin import install


def main(arguments: list[str]) -> None:
    """Run the program that the arguments name, as ``python`` would. Raises `SystemExit` where none is named."""
    if not arguments or arguments == ['-m']:
        sys.exit('usage: python -m canvaslite.dropin (script.py | -m module) [argument ...]')
    install()
    if arguments[0] == '-m':
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name='__main__')


if __name__ == '__main__':
    main(sys.argv[1:])
