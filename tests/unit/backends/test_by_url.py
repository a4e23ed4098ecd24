from __future__ import annotations

import pytest

from canvaslite import Celery
from canvaslite.backends import BACKEND_ALIASES, by_name, by_url
from canvaslite.backends.base import BaseBackend
from canvaslite.exceptions import ImproperlyConfigured


class OwnBackend(BaseBackend):
    """A store of a user's own."""


@pytest.mark.parametrize(('url', 'kind', 'location'), [
    ('redis://localhost/1', 'RedisBackend', 'redis://localhost/1'),
    ('rediss://localhost/1?ssl_cert_reqs=none', 'RedisBackend', 'rediss://localhost/1?ssl_cert_reqs=none'),
    ('sentinel://a:1/0;sentinel://b:2/0', 'SentinelBackend', 'sentinel://a:1/0;sentinel://b:2/0'),
    ('db+sqlite://', 'DatabaseBackend', 'sqlite://'),
    ('cache+memory://', 'CacheBackend', 'memory://'),
    ('rpc://', 'RPCBackend', 'rpc://'),
    ('disabled://', 'DisabledBackend', 'disabled://'),
    (f'{__name__}:OwnBackend', 'OwnBackend', None),
    (f'{__name__}.OwnBackend', 'OwnBackend', None),
    (f'{__name__}.OwnBackend://place', 'OwnBackend', f'{__name__}.OwnBackend://place'),
])
def test_a_url_names_a_store(url, kind, location):
    store = by_url(url, Celery('urls', set_as_current=False))
    assert type(store).__name__ == kind
    assert location is None or kind == 'DatabaseBackend' or store.url == location


def test_no_backend_is_the_disabled_one():
    assert by_name(None).__name__ == 'DisabledBackend'


def test_all_aliases_exist():
    assert all(isinstance(by_name(alias), type) for alias in BACKEND_ALIASES)


def test_a_class_or_a_store_may_be_given_itself():
    app = Celery('urls', set_as_current=False)
    store = by_url(OwnBackend, app)
    assert isinstance(store, OwnBackend) and by_url(store, app) is store


@pytest.mark.parametrize('url', ['nonsense://', 'no.such.module:Store', 'os', 'os:path'])
def test_an_unknown_store_is_one_line_that_names_the_setting(url):
    with pytest.raises(ImproperlyConfigured, match='result_backend') as caught:
        by_url(url, Celery('urls', set_as_current=False))
    assert '\n' not in str(caught.value)
