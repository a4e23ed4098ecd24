"""Results as files: what a user gets wrong, what a reader sees, what a cleanup leaves."""

from __future__ import annotations

import importlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from canvaslite import Celery
from canvaslite.exceptions import ImproperlyConfigured


def make(backend: str, **settings: Any) -> Any:
    return Celery('unit', broker='memory://', backend=backend, set_as_current=False, changes=settings).backend


@pytest.mark.parametrize('url, message', [
    ('file:///no/such/folder', 'cannot write to the folder /no/such/folder .*make it'),
    ('file', 'needs a folder; write file:///path/to/folder'),
    ('file://', 'needs a folder; write file:///path/to/folder'),
])
def test_a_wrong_folder_is_one_line_that_says_what_to_write(url: str, message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f'result_backend: .*{message}') as caught:
        make(url)
    assert '\n' not in str(caught.value)


def test_a_url_with_localhost_is_the_same_folder(tmp_path: Path) -> None:
    make(f'file://{tmp_path}').mark_as_done('id', 1)
    assert make(f'file://localhost{tmp_path}').get_result('id') == 1


def test_a_reader_never_sees_half_a_result(tmp_path: Path) -> None:
    backend, reader = make(f'file://{tmp_path}'), make(f'file://{tmp_path}')
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            backend.store_result('id', 'x' * 200_000, 'PROGRESS')

    writing = threading.Thread(target=write)
    writing.start()
    try:
        lengths = {len(reader.get_task_meta('id')['result'] or '') for _ in range(200)}
    finally:
        stop.set()
        writing.join()
    assert lengths <= {0, 200_000}


def test_the_cleanup_removes_what_has_expired_and_nothing_else(tmp_path: Path) -> None:
    backend = make(f'file://{tmp_path}', result_expires=60)
    backend.mark_as_done('old', 1)
    backend.mark_as_done('new', 1)
    (tmp_path / '.writing-by-nobody').write_text('')
    (tmp_path / 'not-ours').write_text('')
    backend.apply_chord(('old-chord', []), {'task': 'body'})
    backend.apply_chord(('new-chord', []), {'task': 'body'})
    long_ago = time.time() - 7200
    for name in ('celery-task-meta-old', '.writing-by-nobody', 'not-ours'):
        os.utime(tmp_path / name, (long_ago, long_ago))
    backend.join.step('old-chord', lambda record: record.write(record.read()._replace(state='done', due=long_ago)))

    backend.cleanup()

    kept = sorted(name for name in os.listdir(tmp_path) if not name.startswith('.lock'))
    assert kept == ['canvaslite-join-new-chord', 'celery-task-meta-new', 'not-ours']


def test_celery_s_cleanup_does_not_stumble_over_our_chords(tmp_path: Path) -> None:
    celery = importlib.import_module('celery')
    backend = make(f'file://{tmp_path}')
    backend.apply_chord(('chord', []), {'task': 'body'})
    theirs = celery.Celery('theirs', backend=f'file://{tmp_path}', set_as_current=False)
    theirs.conf.result_expires = 0.000001

    theirs.backend.cleanup()

    assert os.listdir(tmp_path) == ['canvaslite-join-chord']
