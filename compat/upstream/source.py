"""The source package of Celery: fetched once, kept in a cache folder, without the package itself."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = '5.7.0'


def cache_folder() -> Path:
    """Where fetched and computed things are kept between runs."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    folder = Path(base) / 'canvaslite' / f'celery-{VERSION}'
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tests_of_celery(cache: Path) -> Path:
    """The folder with Celery's tests, fetched with pip if it is not in `cache` yet."""
    tree = cache / 'source'
    if not tree.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            archive = _download(Path(scratch))
            with tarfile.open(archive) as tar:
                for member in tar.getmembers():
                    # Without the implementation, and without its metadata: nothing there must look like a Celery.
                    inner = member.name.partition('/')[2]
                    if member.isfile() and inner and not inner.startswith(('celery/', 'celery.egg-info/')):
                        tar.extract(member, scratch)
            # Two processes may do this at once: the first to end wins.
            try:
                next(Path(scratch).glob('celery-*/')).rename(tree)
            except OSError:
                if not tree.exists():
                    raise
    return tree


def _download(folder: Path) -> Path:
    done = subprocess.run(
        [sys.executable, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps',
         '--no-binary', 'celery', '--dest', str(folder), f'celery=={VERSION}'], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f'the source package of Celery {VERSION} could not be fetched:\n{done.stderr}')
    return next(folder.glob('celery-*.tar.gz'))
