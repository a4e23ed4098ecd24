from __future__ import annotations

import importlib
import ssl

import pytest

from canvaslite import Celery
from canvaslite.exceptions import ImproperlyConfigured

redis = importlib.import_module('redis')


def parameters(url, **settings):
    app = Celery('redis-parameters', backend=url, set_as_current=False)
    app.conf.update(settings)
    return app.backend.connparams


def test_a_url_says_host_port_database_user_and_password():
    found = parameters('redis://user:p%40ss@example.org:7000/3')
    assert (found['host'], found['port'], found['db']) == ('example.org', 7000, 3)
    assert (found['username'], found['password']) == ('user', 'p@ss')


def test_settings_fill_in_what_the_url_leaves_open():
    found = parameters('redis://', redis_max_connections=7, redis_socket_timeout=3, redis_username='u',
                       redis_password='p', redis_socket_keepalive=True, redis_backend_health_check_interval=9)
    assert (found['host'], found['port'], found['db'], found['max_connections']) == ('localhost', 6379, 0, 7)
    assert (found['socket_timeout'], found['socket_keepalive'], found['health_check_interval']) == (3.0, True, 9)
    assert (found['username'], found['password']) == ('u', 'p')


def test_query_options_are_typed():
    assert parameters('redis://localhost/1?socket_timeout=5.5&retry_on_timeout=yes')['socket_timeout'] == 5.5


def test_a_socket_has_a_path_and_no_host():
    found = parameters('socket:///tmp/redis.sock?virtual_host=/4')
    assert (found['path'], found['db']) == ('/tmp/redis.sock', 4)
    assert found['connection_class'] is redis.UnixDomainSocketConnection
    assert 'host' not in found and 'port' not in found


def test_rediss_is_tls():
    found = parameters('rediss://h:1/0?ssl_cert_reqs=required&ssl_ca_certs=%2Fca.pem')
    assert issubclass(found['connection_class'], redis.SSLConnection)
    assert (found['ssl_cert_reqs'], found['ssl_ca_certs']) == (ssl.CERT_REQUIRED, '/ca.pem')
    by_setting = parameters('redis://h:1/0', redis_backend_use_ssl={'ssl_cert_reqs': ssl.CERT_NONE})
    assert issubclass(by_setting['connection_class'], redis.SSLConnection)


@pytest.mark.parametrize('url', [
    'rediss://h:1/0',
    'rediss://h:1/0?ssl_cert_reqs=perhaps',
    'redis://h:1/0?ssl_cert_reqs=none',
    'redis://h:1/main',
    'redis://h:port/0',
    'redis://h:1/0?socket_timeout=soon',
])
def test_a_url_that_makes_no_sense_is_one_line_that_names_the_setting(url):
    with pytest.raises(ImproperlyConfigured, match='result_backend') as caught:
        parameters(url)
    assert '\n' not in str(caught.value)


def test_sentinels_are_hosts():
    app = Celery('sentinel', backend='sentinel://:secret@a:1/2;sentinel://:secret@b:2/2', set_as_current=False)
    app.conf.result_backend_transport_options = {'master_name': 'mymaster'}
    found = app.backend.connparams
    assert [(host['host'], host['port']) for host in found['hosts']] == [('a', 1), ('b', 2)]
    assert (found['db'], found['password']) == (2, 'secret')
    assert 'secret' not in app.backend.as_uri() and 'secret' in app.backend.as_uri(include_password=True)
    assert app.backend.link.pool.service_name == 'mymaster'


def test_a_prefix_for_all_keys_ends_in_a_separator():
    app = Celery('prefix', backend='redis://', set_as_current=False)
    app.conf.result_backend_transport_options = {'global_keyprefix': 'mine'}
    assert app.backend.get_key_for_task('1') == b'mine_celery-task-meta-1'
    assert app.backend.get_key_for_group('1', '.j') == b'mine_celery-taskset-meta-1.j'
    with pytest.raises(ValueError):
        app.backend.get_key_for_task('')


def test_nodes_of_a_cluster_are_hosts_and_keys_of_one_chord_lie_in_one_slot():
    app = Celery('cluster', backend='rediscluster://:secret@a:1;rediscluster://b:2', set_as_current=False)
    backend = app.backend
    assert [(host['host'], host['port']) for host in backend.connparams['hosts']] == [('a', 1), ('b', 2)]
    assert 'secret' not in backend.as_uri() and 'secret' in backend.as_uri(include_password=True)
    assert backend.get_key_for_task('1') == b'celery-task-meta-1', 'as everywhere'
    for group_id in ('g', 'h'):
        tags = {key[key.index(b'{'):key.index(b'}')] for key in backend.join._keys(group_id)}
        assert len(tags) == 1
    with pytest.raises(ValueError):
        backend.get_key_for_group('')


def test_a_database_of_a_cluster_is_refused():
    app = Celery('cluster', backend='rediscluster://a:1/2', set_as_current=False)
    with pytest.raises(ImproperlyConfigured, match=r'result_backend.*numbered'):
        app.backend.get('x')
