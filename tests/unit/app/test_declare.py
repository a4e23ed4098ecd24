"""How a function or a class becomes a task of an app."""

from __future__ import annotations

import functools
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from canvaslite import Celery, Task, current, current_app, shared_task
from canvaslite.exceptions import DuplicateTaskNameWarning, InvalidTaskError, NotRegistered
from canvaslite.utils.proxies import PromiseProxy, Proxy


@pytest.fixture(autouse=True)
def only_our_shared_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test shares with all apps is forgotten after it."""
    monkeypatch.setattr(current, '_finalizers', list(current._finalizers))


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app that is the current one for the test."""
    before = current._current.app
    with Celery('declare', broker='memory://', backend='cache+memory://') as app:
        yield app
    current.set_current_app(before)


def test_a_decorated_function_is_a_task_and_still_a_function(app: Celery) -> None:
    @app.task
    def add(x: int, y: int = 1) -> int:
        """Adds."""
        return x + y

    assert type(add) is PromiseProxy
    assert not app.finalized
    assert add(2, y=3) == 5
    assert isinstance(add, Task)
    assert (add.name, add.__doc__, add.__module__) == (f'{__name__}.add', 'Adds.', __name__)
    assert add.__qualname__.endswith('<locals>.add')
    assert app.tasks[add.name] == add
    assert repr(add).startswith('<@task: ')
    assert add.app is app


def test_options_become_attributes(app: Celery) -> None:
    @app.task(name='named', bind=True, max_retries=7, ignore_result=True, rate_limit='3/m', whatever=1)
    def task(self: Any) -> Any:
        return self

    assert task() is app.tasks['named']
    assert (task.max_retries, task.ignore_result, task.rate_limit, task.whatever) == (7, True, '3/m', 1)


def test_what_is_no_function_is_refused(app: Celery) -> None:
    with pytest.raises(TypeError):
        app.task('add')
    with pytest.raises(TypeError):
        app.task(len, max)


def test_a_task_made_after_the_app_is_finalized_is_made_at_once(app: Celery) -> None:
    app.finalize()

    @app.task
    def late() -> None: ...

    assert not isinstance(type(late), Proxy) and type(late) is not PromiseProxy
    assert late.name in app.tasks


def test_the_built_in_tasks_are_there(app: Celery) -> None:
    assert {'celery.backend_cleanup', 'celery.chord_unlock', 'celery.accumulate', 'celery.map', 'celery.starmap',
            'celery.chunks', 'celery.group', 'celery.chain', 'celery.chord'} <= set(app.tasks)


def test_names_in_a_script_begin_with_the_apps(app: Celery) -> None:
    def main() -> None: ...
    main.__module__ = '__main__'
    assert app.task(main).name == 'declare.main'
    assert app.gen_task_name('x', 'some.module') == 'some.module.x'
    assert Celery(set_as_current=False).gen_task_name('x', '__main__') == '__main__.x'


def test_an_app_may_name_its_tasks_itself() -> None:
    class Named(Celery):
        def gen_task_name(self, name: str, module: str | None) -> str:
            return f'v2.{name}'

    app = Named(set_as_current=False)

    @app.task
    def add() -> None: ...

    assert add.name == 'v2.add'
    assert 'v2.add' in app.tasks


def test_two_functions_of_one_name_are_warned_of_once_and_the_first_stays(app: Celery) -> None:
    @app.task(name='twice')
    def first() -> int:
        return 1

    @app.task(name='twice')
    def second() -> int:
        return 2

    @app.task(name='twice')
    def third() -> int:
        return 3

    with pytest.warns(DuplicateTaskNameWarning, match='twice') as caught:
        app.finalize()
    assert [warning.category for warning in caught].count(DuplicateTaskNameWarning) == 1
    assert app.tasks['twice']() == second() == 1


def test_the_same_function_again_is_no_duplicate(app: Celery) -> None:
    def function() -> None: ...
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert app.task(function).name == app.task(function).name


def test_class_based_tasks(app: Celery) -> None:
    class Adder(app.Task):  # type: ignore[name-defined, misc]
        name = 'adder'

        def run(self, x: int, y: int) -> int:
            return x + y

    adder = app.register_task(Adder())
    assert app.tasks['adder'] is adder
    assert adder(1, 2) == 3
    with pytest.warns(DuplicateTaskNameWarning, match='adder'):
        assert app.register_task(Adder) is app.tasks['adder']

    class Unnamed(app.Task):  # type: ignore[name-defined, misc]
        def run(self) -> None: ...

    assert app.register_task(Unnamed).name == f'{__name__}.Unnamed'


def test_a_base_class_of_the_task_the_app_or_the_app_class(app: Celery) -> None:
    class Base(Task):
        marked = True

    @app.task(base=Base)
    def one() -> None: ...

    class Marked(Celery):
        task_cls = Base

    two = Celery(set_as_current=False, task_cls=Base).task(lambda: None, name='two')
    three = Marked(set_as_current=False).task(lambda: None, name='three')
    assert one.marked and two.marked and three.marked
    assert not hasattr(app.task(lambda: None, name='plain'), 'marked')


def test_a_task_of_one_app_is_a_task_of_the_others_unless_it_is_not_shared() -> None:
    one, two = Celery('one', set_as_current=False), Celery('two', set_as_current=False)

    @one.task(name='everywhere')
    def everywhere() -> None: ...

    @one.task(name='here', shared=False)
    def here() -> None: ...

    assert two.tasks['everywhere'].app is two
    assert 'here' not in two.tasks
    with pytest.raises(NotRegistered):
        two.tasks['here']


def test_an_apps_own_task_is_stronger_than_another_apps_of_that_name() -> None:
    one, two = Celery('one', set_as_current=False), Celery('two', set_as_current=False)
    one.task(lambda: 1, name='same')
    own = two.task(lambda: 2, name='same')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert two.tasks['same']() == own() == 2
        assert one.tasks['same']() == 1


def test_shared_tasks_are_those_of_the_current_app(app: Celery) -> None:
    finalized = Celery('finalized', set_as_current=False)
    finalized.finalize()

    @shared_task
    def shared(x: int) -> int:
        return x + 1

    @shared_task(name='shared.named', bind=True)
    def named(self: Any) -> Any:
        return self.app

    assert shared(1) == 2
    assert shared.app is app
    assert named() is app
    finalized.set_current()
    assert shared.app is finalized
    assert named() is finalized
    assert finalized.tasks['shared.named'].app is finalized
    assert Celery('later', set_as_current=False).tasks['shared.named']
    with pytest.raises(TypeError, match='more than once'):
        shared_task(shared)


def test_tasks_are_pickled_by_name(app: Celery) -> None:
    @app.task(name='pickled')
    def task() -> None: ...

    assert pickle.loads(pickle.dumps(task)) is app.tasks['pickled']


def test_without_autofinalize_tasks_wait_for_finalize() -> None:
    app = Celery(set_as_current=False, autofinalize=False)
    task = app.task(lambda: 1, name='waiting')
    with pytest.raises(RuntimeError, match='finalize'):
        task.name
    with pytest.raises(RuntimeError, match='finalize'):
        app.tasks
    app.finalize()
    assert task() == 1


def test_an_error_while_finalizing_leaves_the_app_to_be_finalized_again() -> None:
    app = Celery(set_as_current=False)
    names = iter([None])

    class Base(Task):
        @classmethod
        def on_bound(cls, app: Any) -> None:
            if next(names, 'ok') is None:
                raise LookupError('not yet')

    app.task(lambda: 1, name='first', base=Base)
    app.task(lambda: 2, name='second')
    with pytest.raises(LookupError):
        app.finalize()
    assert not app.finalized
    assert {'first', 'second'} <= set(app.tasks)


def test_the_app_tells_when_it_is_finalized(app: Celery) -> None:
    told: list[Any] = []
    app.on_after_finalize.connect(lambda sender, **_: told.append(sorted(sender.tasks)), weak=False)
    app.task(lambda: None, name='zzz')
    app.finalize()
    app.finalize()
    assert len(told) == 1
    assert told[0][-1] == 'zzz'


def test_a_filter_is_applied_to_what_is_declared(app: Celery) -> None:
    seen: list[Any] = []

    def remember(task: Any) -> str:
        seen.append(task)
        return 'filtered'

    assert app.task(filter=remember)(lambda: None) == 'filtered'
    assert len(seen) == 1


@pytest.mark.parametrize('bound', [False, True])
def test_arguments_are_checked_as_python_does(app: Celery, bound: bool) -> None:
    def plain(a: Any, /, b: Any, c: Any = 1, *, d: Any, e: Any = 2) -> None: ...
    def with_self(self: Any, a: Any, /, b: Any, c: Any = 1, *, d: Any, e: Any = 2) -> None: ...

    check = app.type_checker(with_self if bound else plain, bound=bound).__func__
    check(1, 2, d=3)
    check(1, b=2, c=3, d=4, e=5)
    with pytest.raises(TypeError, match=r'(plain|with_self)\(\) missing .*required'):
        check()
    for args, kwargs in [((), {}), ((1, 2), {}), ((1, 2, 3, 4), {'d': 1}), ((1, 2), {'d': 1, 'f': 1}),
                         ((), {'a': 1, 'b': 2, 'd': 3})]:
        with pytest.raises(TypeError):
            check(*args, **kwargs)


def test_arguments_of_other_callables_are_checked_too(app: Celery) -> None:
    class Callable:
        def __call__(self, x: Any) -> None: ...

    for fun in (Callable(), functools.partial(lambda a, b: None, 1), Callable().__call__):
        check = app.type_checker(fun).__func__
        check(1)
        with pytest.raises(TypeError):
            check(1, 2)
    app.type_checker(dict).__func__(a=1)
    app.type_checker(lambda *args, **kwargs: None).__func__(1, 2, a=3)

    def closure(x: Any) -> Any:
        return lambda: x

    with pytest.raises(TypeError):
        app.type_checker(closure).__func__()


def test_a_registry_knows_what_it_has(app: Celery) -> None:
    task = app.task(lambda: None, name='registered')
    app.tasks.unregister(task)
    with pytest.raises(NotRegistered):
        app.tasks.unregister('registered')
    app.tasks.register(task)
    assert 'registered' in app.tasks

    class Nameless:
        name = None

    with pytest.raises(InvalidTaskError, match='Nameless'):
        app.tasks.register(Nameless)


def test_the_current_app_is_a_proxy(app: Celery) -> None:
    assert current_app == app
    assert current_app.main == 'declare'
    assert isinstance(current_app, Celery)
