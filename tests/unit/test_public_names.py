"""The names that programs import from the package."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import canvaslite


def names_for_tools() -> set[str]:
    """What type checkers see: the imports under ``TYPE_CHECKING``."""
    tree = ast.parse(Path(canvaslite.__file__ or '').read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


@pytest.mark.parametrize('name', canvaslite.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(canvaslite, name) is not None
    assert name in dir(canvaslite)


def test_tools_see_the_names_that_programs_see() -> None:
    assert names_for_tools() | {'__version__'} == set(canvaslite.__all__)


def test_there_are_no_other_names() -> None:
    with pytest.raises(AttributeError, match='no_such_name'):
        canvaslite.no_such_name  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_else() -> None:
    loaded = run("import sys, canvaslite; print(*(name for name in sys.modules if name.startswith('canvaslite')))")
    assert set(loaded.split()) == {'canvaslite', 'canvaslite.version'}


@pytest.mark.parametrize('heavy', ['redis', 'sqlalchemy', 'click', 'canvaslite.worker', 'canvaslite.pools',
                                   'canvaslite.cli', 'canvaslite.publish', 'asyncio', 'billiard.pool'])
def test_having_tasks_does_not_load_what_a_client_may_not_need(heavy: str) -> None:
    loaded = run("import sys, canvaslite; canvaslite.Celery('x').tasks; print(*sys.modules)")
    assert heavy not in loaded.split()


def run(code: str) -> str:
    return subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout
