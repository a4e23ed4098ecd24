"""docs/celery-faults.md names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Cells of each row: its number, Celery, canvaslite, the tests.
ROWS = [[cell.strip() for cell in line.strip('| \n').split(' | ')]
        for line in (ROOT / 'docs/celery-faults.md').read_text().splitlines() if re.match(r'\| \d', line)]


def test_every_row_of_the_survey_is_there_once() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, 51))


@pytest.mark.parametrize('row', ROWS, ids=lambda row: f'row {row[0]}')
def test_a_row_names_tests_that_are_there_or_says_that_it_is_open(row: list[str]) -> None:
    assert len(row) == 4
    named = re.findall(r'`([^`]+\.py)::(\w+)`', row[3])
    assert named or row[3] == 'open'
    for file, name in named:
        tree = ast.parse((ROOT / 'tests' / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f'{file}::{name}'
