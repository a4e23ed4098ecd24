"""``python -m compat.differential [NAME ...]``: run the check on servers of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if __name__ == '__main__':
    os.environ['SCENARIOS'] = ' '.join(name.replace(' ', '_') for name in sys.argv[1:])
    sys.exit(pytest.main(['-q', '-s', '--no-header', '-p', 'no:cacheprovider',
                          str(Path(__file__).parents[1] / 'test_differential.py')]))
