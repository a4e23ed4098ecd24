"""Celery and canvaslite processes share one broker and one result store."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.fixtures import load_app

PACKAGES = ('canvaslite', 'celery')
TIMEOUT = 30


def load_project(package: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The app of tests/apps/proj.py, made with `package`, in this process."""
    monkeypatch.setenv('CANVAS_PACKAGE', package)
    return load_app('proj')


@pytest.fixture
def servers(broker_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    env = {'BROKER': broker_url, 'BACKEND': redis_url}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def worker_of(servers: dict[str, str], start_worker: Callable[..., Any]) -> Callable[[str], Any]:
    def start(package: str) -> Any:
        return start_worker(
            'proj', '-c', '2', '-l', 'INFO', '-n', f'{package}@%h', package=package, CANVAS_PACKAGE=package, **servers
        )

    return start


#: What a canvas is, given the package and the project, and the value that it must have.
CANVASES: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    'a task': (lambda c, p: p.add.s(2, 3), 5),
    'a task with a link': (lambda c, p: p.add.s(2, 3).set(link=p.add.s(1)), 5),
    'a chain': (lambda c, p: c.chain(p.add.s(1, 2), p.add.s(3), p.add.s(4)), 10),
    'a chain with an immutable step': (
        lambda c, p: c.chain(p.add.s(1, 2), p.constant.si(), p.identity.s()),
        'constant',
    ),
    'a group': (lambda c, p: c.group(p.add.s(i, i) for i in range(5)), [0, 2, 4, 6, 8]),
    'a group of chains': (lambda c, p: c.group(c.chain(p.add.s(i, i), p.add.s(1)) for i in range(3)), [1, 3, 5]),
    'a chord': (lambda c, p: c.chord((p.add.s(i, i) for i in range(5)), p.total.s()), 20),
    'a chord of chains': (
        lambda c, p: c.chord([c.chain(p.add.s(i, i), p.add.s(1)) for i in range(3)], p.collect.s()),
        [1, 3, 5],
    ),
    'a group before a task': (lambda c, p: c.group(p.add.s(i, 1) for i in range(4)) | p.collect.s(), [1, 2, 3, 4]),
    'a chain into a group': (lambda c, p: c.chain(p.add.s(1, 1), c.group(p.add.s(1), p.add.s(2))), [3, 4]),
    'a chain through a chord': (
        lambda c, p: c.chain(p.add.s(1, 1), c.group(p.add.s(1), p.add.s(2)), p.total.s(), p.add.s(100)),
        107,
    ),
    'a chord with a chain as its body': (
        lambda c, p: c.chord([p.add.s(1, 1), p.add.s(2, 2)], c.chain(p.total.s(), p.add.s(1))),
        7,
    ),
    'a task that is retried': (lambda c, p: p.succeed_after.s(2), 2),
    'a chord with a retried member': (lambda c, p: c.chord([p.succeed_after.s(1), p.add.s(1, 1)], p.total.s()), 3),
}


@pytest.fixture(
    params=[('celery', 'canvaslite'), ('canvaslite', 'celery')],
    ids=['celery sends, canvaslite runs', 'canvaslite sends, celery runs'],
)
def crossed(
    request: pytest.FixtureRequest, worker_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Any, ModuleType]]:
    """The sending package and its project, with a worker of the other package running."""
    sender, runner = request.param
    worker_of(runner)
    yield importlib.import_module(sender), load_project(sender, monkeypatch)


def test_every_plain_canvas_has_its_value_across_the_packages(crossed: tuple[Any, ModuleType]) -> None:
    package, project = crossed
    values = {name: build(package, project).apply_async().get(timeout=TIMEOUT) for name, (build, _) in CANVASES.items()}
    assert values == {name: value for name, (_, value) in CANVASES.items()}


def test_an_error_crosses_the_packages_as_itself(crossed: tuple[Any, ModuleType]) -> None:
    _, project = crossed
    with pytest.raises(ValueError, match='over the border'):
        project.fail.delay('over the border').get(timeout=TIMEOUT)


def test_a_failed_header_fails_the_body_across_the_packages(crossed: tuple[Any, ModuleType]) -> None:
    package, project = crossed
    chord_error = importlib.import_module(f'{package.__name__}.exceptions').ChordError
    body = package.chord([project.add.s(1, 1), project.fail.s('in the header')], project.total.s()).apply_async()
    # By its id: a result that knows its parents raises the member's own error.
    with pytest.raises(chord_error, match='in the header'):
        project.app.AsyncResult(body.id).get(timeout=TIMEOUT)


@pytest.mark.parametrize('sender', PACKAGES)
@pytest.mark.parametrize('reader', PACKAGES)
@pytest.mark.parametrize('runner', PACKAGES)
def test_either_package_reads_the_results_of_either(
    sender: str, runner: str, reader: str, worker_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_of(runner)
    sent = load_project(sender, monkeypatch)
    good, bad = sent.add.delay(20, 22), sent.fail.delay('for the reader')
    read = load_project(reader, monkeypatch).app.AsyncResult
    assert read(good.id).get(timeout=TIMEOUT) == 42
    assert read(good.id).status == 'SUCCESS'
    with pytest.raises(ValueError, match='for the reader'):
        read(bad.id).get(timeout=TIMEOUT)
    assert 'ValueError' in read(bad.id).traceback


@pytest.mark.parametrize('sender', PACKAGES)
def test_workers_of_both_packages_run_the_parts_of_one_chord(
    sender: str, worker_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in PACKAGES:
        worker_of(package)
    project, package = load_project(sender, monkeypatch), importlib.import_module(sender)
    results = [
        package.chord([project.describe_request.s() for _ in range(12)], project.collect.s()).apply_async()
        for _ in range(10)
    ]
    hosts = [{part['hostname'].partition('@')[0] for part in result.get(timeout=TIMEOUT)} for result in results]
    assert set.union(*hosts) == set(PACKAGES), 'both packages took part'
