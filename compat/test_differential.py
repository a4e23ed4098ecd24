"""Celery and canvaslite, doing the same, differ where it is intended and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compat.differential.differences import DIFFERENCES
from compat.differential.running import Servers, run

DOCUMENT = Path(__file__).parents[1] / 'docs' / 'differences.md'


@pytest.fixture
def servers(rabbitmq_proc: Any, vhosts: Any, rabbitmqctl: Callable[..., str], redis_url: str) -> dict[str, Servers]:
    """For each package its own virtual host, with tracing, and two databases."""
    found = {}
    for place, package in enumerate(('celery', 'canvaslite')):
        vhost = vhosts.take()
        rabbitmqctl('eval', f'rabbit_trace:start(<<"{vhost}">>).')
        database = redis_url.rpartition('/')[0]
        found[package] = Servers(f'amqp://guest:guest@127.0.0.1:{rabbitmq_proc.port}/{vhost}',
                                 f'{database}/{1 + 2 * place}', f'{database}/{2 + 2 * place}')
    return found


def test_both_packages_do_the_same_but_for_what_is_intended(servers: dict[str, Servers], tmp_path: Path) -> None:
    names = os.environ.get('SCENARIOS', '').split()
    comparison = run(servers, tmp_path, [name.replace('_', ' ') for name in names])
    assert comparison.agrees, 'see what is printed above'


def test_each_intended_difference_is_documented() -> None:
    documented = DOCUMENT.read_text()
    assert [entry.row for entry in DIFFERENCES if f'\n| {entry.row}' not in documented] == []
