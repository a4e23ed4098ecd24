"""The code on the two pages that describe the canvas does what they say, or what `docs/differences.md` says of it."""

from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import canvaslite
from canvaslite import chord, chunks, group, signature, starmap, xstarmap
from tests.seeds import code_blocks, declarations

ROOT = Path(__file__).parents[2]
SEEDS = ROOT / 'tests' / 'seeds'
TASKITO, CELERY = SEEDS / 'taskito-workflows.txt', SEEDS / 'celery-canvas-api.txt'

#: The programs on Celery's page say ``celery``.
HOOK = 'import canvaslite.dropin\ncanvaslite.dropin.install()\n'

Said = list[dict[str, Any]]


@pytest.fixture
def run_page(
    broker_url: str, redis_url: str, tmp_path: Path, start_worker: Callable[..., Any]
) -> Callable[..., tuple[Said, Any]]:
    """Start a worker of a module that declares the page's tasks, and run the page; what was said, and the worker."""

    def run(module: str, page: Path, head: str, package: str = 'canvaslite') -> tuple[Said, Any]:
        (tmp_path / f'{module}.py').write_text(head + declarations(page.read_text()))
        env = {'BROKER': broker_url, 'BACKEND': redis_url, 'CELERY_BROKER_URL': broker_url,
               'CELERY_RESULT_BACKEND': redis_url, 'LOG': str(tmp_path / 'log'), 'PYTHONUNBUFFERED': '1',
               'PYTHONPATH': os.pathsep.join([str(tmp_path), str(ROOT)])}
        worker = start_worker(module, '-l', 'INFO', '-c', '8', package=package, **env)
        done = subprocess.run([sys.executable, str(SEEDS / 'run_page.py'), module, str(page)],
                              env={**os.environ, **env}, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return [one for block in json.loads(done.stdout) for one in block], worker

    return run


def lines_of(page: Path) -> int:
    """How many statements the code blocks of a page have."""
    return sum(len(ast.parse(block).body) for block in code_blocks(page.read_text()))


def test_taskitos_page_runs_as_printed(
    run_page: Callable[..., tuple[Said, Any]], tmp_path: Path
) -> None:
    said, _ = run_page('workflows', TASKITO, (SEEDS / 'taskito_standins.py').read_text())
    assert len(said) == lines_of(TASKITO)
    assert [one for one in said if one['error']] == []
    assert [one['printed'] for one in said if one['printed']] == [
        '2',  # extract, transform, load
        str({f'https://api{n}.example.com': 1 for n in (1, 2, 3)}),
    ]
    merged = {f'https://api{n}.example.com': 1 for n in (1, 2, 3)}
    assert [one['value'] for one in said if one['value'] is not None] == [
        2,
        ['independent', 'b', 'c'],
        [10, 20, 30],
        merged,
        [[[n] for n in range(start, start + 100)] for start in range(0, 1000, 100)],
        1000,
        [3, 7, 11],
        [{f'https://limited.example.com/{n}': 1} for n in range(12)],
        3,
    ]
    running, most = 0, 0
    for _, change in sorted(map(str.split, (tmp_path / 'log').read_text().splitlines())):
        running += int(change)
        most = max(most, running)
    assert 1 < most <= 5


#: Where Celery's page says what Celery does not do: a statement, and the beginning of the error that it ends in.
CONTRADICTED = [
    ('print(result.get())', "NotRegistered: 'add'"),  # the task is called example.add
    ('print(result.get())', "AttributeError: 'int' object has no attribute 'get'"),  # sig() is the value
    ('result = callback_workflow.apply_async()', "AttributeError: 'AsyncResult' object has no attribute"),  # it is sent
    ('batch_results = result.get()', 'TypeError: example.process_batch() argument after * must be an iterable'),
    ('print(len(batch_results))', "NameError: name 'batch_results' is not defined"),
    ('results = job.apply_async().get()', "TypeError: add() missing 1 required positional argument: 'y'"),  # xmap
    ('results = job.apply_async().get()', 'TypeError: process_user() takes 2 positional arguments but 3 were given'),
]


def test_celerys_page_runs_as_printed_where_celery_does_what_it_says(
    run_page: Callable[..., tuple[Said, Any]],
) -> None:
    said, worker = run_page('example', CELERY, HOOK)
    assert len(said) == lines_of(CELERY)
    raised = [(one['source'], one['error']) for one in said if one['error']]
    assert len(raised) == len(CONTRADICTED)
    for (source, error), (expected_source, expected_error) in zip(raised, CONTRADICTED, strict=True):
        assert source == expected_source
        assert error.startswith(expected_error)
    assert [one['printed'] for one in said if one['printed']] == [
        '30', '20',  # chains
        '[4, 8, 16, 32]', 'True', 'True',  # a group
        '[4, 8, 16, 32]',  # of that group: the chord's result was not assigned
        "Chord failed: 'AsyncResult' object has no attribute 'apply_async'",
        '[4, 8, 16, 32]',  # the same: xmap failed
        '[3, 7, 11]',  # xstarmap
        'aggregated_3_items',
    ]
    worker.await_line('Success: 10')


def test_celery_itself_does_the_same_with_its_page(run_page: Callable[..., tuple[Said, Any]]) -> None:
    pytest.importorskip('celery')
    said, _ = run_page('example', CELERY, '', package='celery')
    raised = [(one['source'], one['error'].partition(':')[0]) for one in said if one['error']]
    # It does not accept `chunks(it, n, task)`.
    expected = [*CONTRADICTED[:3], ('result = job.apply_async()', 'TypeError: '), *CONTRADICTED[5:]]
    assert raised == [(source, error.partition(':')[0]) for source, error in expected]
    assert said[-1]['error'] is None
    assert [one['printed'] for one in said if one['printed']].count('aggregated_3_items') == 1


def test_what_to_type_instead_does_what_the_page_means(
    broker_url: str, redis_url: str, tmp_path: Path, start_worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = declarations(CELERY.read_text()).replace('from celery import', 'from canvaslite import')
    (tmp_path / 'example.py').write_text(text)
    for name, value in {'CELERY_BROKER_URL': broker_url, 'CELERY_RESULT_BACKEND': redis_url}.items():
        monkeypatch.setenv(name, value)
    worker = start_worker('example', '-l', 'INFO', '-c', '2', PYTHONPATH=str(tmp_path))
    example: Any = ModuleType('example')
    exec(text, vars(example))
    add, mul, header = example.add, example.mul, [example.add.s(1, 1), example.add.s(2, 2)]

    assert signature('example.add', args=(2, 3), app=example.app).apply_async().get(timeout=60) == 5
    assert add.s(2, 3).delay().get(timeout=60) == ~add.s(2, 3) == 5
    assert chord(header)(example.sum_results.s()).get(timeout=60) == 6
    assert chord(header, example.sum_results.s()).apply_async().get(timeout=60) == 6
    assert chord(header)(example.sum_results.s() | mul.s(5)).get(timeout=60) == 30
    batches = chunks(example.process_batch, list(range(100)), chunk_size=10).apply_async().get(timeout=60)
    assert batches == [[2 * n for n in range(start, start + 10)] for start in range(0, 100, 10)]
    assert chunks([(1, 2), (3, 4)], 1, add.s()).apply_async().get(timeout=60) == [[3], [7]]
    assert xstarmap(add.s(), [(1, 2), (3, 4), (5, 6)]).apply_async().get(timeout=60) == [3, 7, 11]
    actions = [(1, 'login', {'timestamp': '2023-01-01'}), (2, 'logout', {'timestamp': '2023-01-02'})]
    users = group(example.process_user.s(*args, **options) for *args, options in actions)
    assert users.apply_async().get(timeout=60) == ['User 1: login', 'User 2: logout']
    assert starmap(add, [(1, 2)]).apply_async().get(timeout=60) == [3]
    failing = example.may_fail.s(-1).on_error(example.handle_failure.s())
    failed = failing.apply_async()
    assert isinstance(failed.get(timeout=20, propagate=False), ValueError)
    assert failed.id in worker.await_line('Task <Context.* failed: Negative numbers not allowed')


#: Names of arguments on Celery's page that are others in Celery, and so here.
NAMED_OTHERWISE = {('freeze', 'id'), ('signature', 'task')}


def test_every_call_that_celerys_page_describes_is_there() -> None:
    described = [node for block in code_blocks(CELERY.read_text()) if 'import' not in block
                 for node in ast.parse(block).body]
    assert len(described) == 13
    for node in described:
        assert isinstance(node, (ast.ClassDef, ast.FunctionDef))
        ours = getattr(canvaslite, node.name)
        methods = [method for method in node.body if isinstance(method, ast.FunctionDef)]
        for call in methods if isinstance(node, ast.ClassDef) else [node]:
            function = getattr(ours, call.name) if isinstance(node, ast.ClassDef) else ours
            names = [argument.arg for argument in call.args.args]
            by_name = {name for name in names if name != 'self' and (call.name, name) not in NAMED_OTHERWISE}
            parameters = inspect.signature(function)
            parameters.bind(*names)
            if by_name == set(names) - {'self'}:
                parameters.bind(*names[:len(names) - len(by_name)], **dict.fromkeys(by_name))
