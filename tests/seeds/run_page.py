"""Run the code blocks of a page one statement after the other; print, as JSON, what each of them said.

Usage: ``run_page.py MODULE PAGE``. The statements run in the module, which has what the page leaves undefined.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from tests.seeds import code_blocks


def run(page: Path, namespace: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """For each block, for each statement: its source, what it printed, the error that it raised, and the value of the
    handle that it made."""
    said: list[list[dict[str, Any]]] = []
    for block in code_blocks(page.read_text()):
        said.append([])
        for statement in ast.parse(block).body:
            source = ast.get_source_segment(block, statement)
            if isinstance(statement, ast.Expr):
                statement = ast.copy_location(ast.Assign([ast.Name('_', ast.Store())], statement.value), statement)
                ast.fix_missing_locations(statement)
            printed, error, value = io.StringIO(), None, None
            with contextlib.redirect_stdout(printed):
                try:
                    exec(compile(ast.Module([statement], []), str(page), 'exec'), namespace)
                except Exception as exc:
                    error = f'{type(exc).__name__}: {exc}'
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name) and not error:
                handle = namespace[statement.targets[0].id]
                value = handle.result(timeout=60) if callable(getattr(handle, 'result', None)) else None
            said[-1].append({'source': source, 'printed': printed.getvalue().rstrip('\n'), 'error': error,
                             'value': value})
    return said


if __name__ == '__main__':
    module, path = sys.argv[1:]
    print(json.dumps(run(Path(path), vars(importlib.import_module(module)))))
