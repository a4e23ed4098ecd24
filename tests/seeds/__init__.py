"""The pages that canvaslite was written for, and what runs their code."""

from __future__ import annotations

import ast
import re


def code_blocks(page: str) -> list[str]:
    """The code blocks of a page; taskito's names are canvaslite's."""
    return [block.replace('from taskito import', 'from canvaslite import')
            for block in re.findall(r'^```python\n(.*?)^```$', page, re.DOTALL | re.MULTILINE)]


def declarations(page: str) -> str:
    """What a worker needs of a page: its imports, its app and its tasks."""
    chosen = []
    for block in code_blocks(page):
        for statement in ast.parse(block).body:
            is_app = isinstance(statement, ast.Assign) and 'Celery(' in ast.unparse(statement)
            is_task = isinstance(statement, ast.FunctionDef) and statement.decorator_list
            if is_app or is_task or isinstance(statement, ast.ImportFrom):
                chosen.append(ast.unparse(statement))
    return '\n'.join(chosen) + '\n'
