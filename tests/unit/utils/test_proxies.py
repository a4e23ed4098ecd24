"""Objects that stand for others."""

from __future__ import annotations

import pickle
from typing import Any

from canvaslite.utils.proxies import PromiseProxy, Proxy, maybe_evaluate


class Target:
    """Of the target."""

    x = 1

    def __call__(self, y: int) -> int:
        return self.x + y

    def __enter__(self) -> str:
        return 'entered'

    def __exit__(self, *exc_info: Any) -> None: ...


def test_a_proxy_looks_like_its_target() -> None:
    target = Target()
    proxy = Proxy(lambda: target)
    assert isinstance(proxy, Target)
    assert (proxy.x, proxy(2), proxy.__doc__, proxy.__module__) == (1, 3, 'Of the target.', __name__)
    assert proxy == target and target == proxy and proxy == Proxy(lambda: target)
    assert hash(proxy) == hash(target) and repr(proxy) == repr(target) and str(proxy) == str(target)
    assert proxy.__dict__ is target.__dict__
    assert 'x' in dir(proxy)
    with proxy as entered:
        assert entered == 'entered'


def test_attributes_are_set_on_the_target() -> None:
    target = Target()
    proxy: Any = Proxy(lambda: target)
    proxy.x = 5
    assert target.x == 5
    del proxy.x
    assert target.x == 1


def test_a_proxy_is_as_true_as_its_target() -> None:
    assert not Proxy(lambda: None)
    assert not Proxy(list)


def test_a_proxy_asks_each_time_and_a_promise_once() -> None:
    asked: list[int] = []
    proxy, promise = (kind(lambda: asked.append(1) or Target()) for kind in (Proxy, PromiseProxy))
    assert proxy.x == proxy.x == 1
    assert len(asked) == 2
    assert not promise.__evaluated__()
    assert promise.x == promise.x == 1
    assert promise.__evaluated__()
    assert len(asked) == 3
    assert maybe_evaluate(promise) is promise.__maybe_evaluate__()
    assert maybe_evaluate(3) == 3


def test_arguments_are_handed_on() -> None:
    assert PromiseProxy(dict, ([('a', 1)],), {'b': 2}) == {'a': 1, 'b': 2}


def test_a_pickled_proxy_is_its_target() -> None:
    restored = pickle.loads(pickle.dumps(Proxy(lambda: [1, 2])))
    assert type(restored) is list
    assert restored == [1, 2]


def test_the_classes_themselves_have_names() -> None:
    assert repr(Proxy) == "<class 'canvaslite.utils.proxies.Proxy'>"
    assert 'asked anew' in (Proxy.__doc__ or '')
    assert 'asks once' in (PromiseProxy.__doc__ or '')
