"""The demo's app: read, tokenise and count the names in the source files of Python packages."""

from __future__ import annotations

import importlib.util
import io
import keyword
import os
import tokenize
from collections import Counter
from pathlib import Path

from canvaslite import Celery

app = Celery('etl', broker=os.environ['ETL_BROKER'], backend=os.environ['ETL_BACKEND'])
app.conf.task_default_queue = os.environ.get('ETL_QUEUE', 'etl')
app.conf.task_track_started = True
if folder := os.environ.get('ETL_FOLDER'):
    # The embedded broker: one folder, which the worker and this process both read and write.
    folders = ('data_folder_in', 'data_folder_out', 'control_folder')
    app.conf.broker_transport_options = dict.fromkeys(folders, folder)


def source_files(package: str) -> list[Path]:
    """The ``.py`` files of an importable package, its tests aside."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f'{package} is no package'
    files = Path(next(iter(spec.submodule_search_locations))).rglob('*.py')
    return sorted(path for path in files if not {'test', 'tests'} & set(path.parts))


def count_names(text: str) -> Counter[str]:
    """How often each name, keywords aside, stands in a Python source text."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return Counter(
        token.string for token in tokens if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
    )


@app.task
def extract(package: str) -> dict[str, str]:
    """Read the source files of a package: text by path."""
    return {str(path): path.read_text(encoding='utf-8') for path in source_files(package)}


@app.task
def transform(texts: dict[str, str]) -> dict[str, object]:
    """Count the names of all texts."""
    names: Counter[str] = Counter()
    for text in texts.values():
        names.update(count_names(text))
    return {'files': len(texts), 'bytes': sum(map(len, texts.values())), 'names': names}


@app.task
def load(parts: list[dict[str, object]]) -> dict[str, object]:
    """Merge the counts of all packages into totals and a table of the most used names."""
    names: Counter[str] = Counter()
    for part in parts:
        names.update(part['names'])
    return {
        'files': sum(part['files'] for part in parts),
        'bytes': sum(part['bytes'] for part in parts),
        'tokens': sum(names.values()),
        'names': len(names),
        'top': names.most_common(10),
    }
