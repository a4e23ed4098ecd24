"""Inside pytest: writes what becomes of each test as one line of JSON, at once, so that a crash loses nothing."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

# Taken now: tests patch them.
_getpid, _dumps = os.getpid, json.dumps
_OWN_PROCESS = _getpid()
_lines = open(os.environ['UPSTREAM_EVENTS'], 'a', buffering=1)  # noqa: SIM115
_skip = set(json.loads(os.environ.get('UPSTREAM_DONE', '[]')))
_running: dict[str, Any] = {}


def say(event: str, *values: Any) -> None:
    if _getpid() == _OWN_PROCESS:  # not in a forked child of a test
        _lines.write(_dumps([event, *values]) + '\n')


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    say('collected', [item.nodeid for item in items])
    left = [item for item in items if item.nodeid not in _skip]
    if len(left) != len(items):
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in _skip])
        items[:] = left


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        say('uncollected', _reason(report))


def pytest_runtest_logstart(nodeid: str) -> None:
    _running.update(outcome='passed', reason='')
    say('begun', nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and _running['outcome'] != 'failed':
        _running.update(outcome='failed', reason=f'{report.when}: {_reason(report)}')
    elif report.skipped and _running['outcome'] == 'passed':
        # A subtest that is skipped does not make the test skipped.
        if type(report) is pytest.TestReport:
            _running['outcome'] = 'xfailed' if hasattr(report, 'wasxfail') else 'skipped'
    elif report.outcome == 'rerun':  # type: ignore[comparison-overlap]
        _running.update(outcome='passed', reason='')


def pytest_runtest_logfinish(nodeid: str) -> None:
    say('ended', nodeid, _running['outcome'], _running['reason'])


def pytest_sessionfinish() -> None:
    celery = sys.modules.get('celery')
    folder = f'site-packages{os.sep}celery{os.sep}'
    foreign = [name for name, module in list(sys.modules.items()) if folder in str(_file_of(module))]
    say('finished', getattr(celery, '__name__', None), foreign)


def _file_of(module: Any) -> Any:
    try:
        return module.__dict__.get('__file__')
    except Exception:
        return None


def _reason(report: Any) -> str:
    crash = getattr(report.longrepr, 'reprcrash', None)
    text = str(crash.message if crash is not None else report.longrepr)
    lines = text.strip().splitlines() or ['']
    return (lines[0] if crash is not None else lines[-1])[:200]
