"""Celery's own unit tests of tasks and canvases, on canvaslite."""

from __future__ import annotations

import pytest

from compat.upstream.__main__ import USUAL, main


def test_celerys_tests_of_tasks_and_canvases_pass_but_for_those_that_are_listed(
        capsys: pytest.CaptureFixture[str]) -> None:
    status = main(['--no-baseline', *USUAL])
    assert status == 0, capsys.readouterr().out
