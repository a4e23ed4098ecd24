"""TLS: who answers must have a certificate, and one for the name that was asked for."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from canvaslite import Celery
from canvaslite.transport.connection import BrokerConnection
from tests.fixtures import free_port, serving
from tests.integration.proxy import Proxy


@pytest.fixture(scope='module')
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Certificates, with the key in the same file: for here, and for elsewhere."""
    folder = tmp_path_factory.mktemp('tls')
    for name, alternative in (('here', 'IP:127.0.0.1,DNS:localhost'), ('elsewhere', 'DNS:elsewhere.example')):
        subprocess.run(
            ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', f'/CN={name}', '-days', '1',
             '-addext', f'subjectAltName={alternative}', '-keyout', folder / f'{name}.key', '-out',
             folder / f'{name}.pem'], check=True, capture_output=True)
        with (folder / f'{name}.pem').open('a') as file:
            file.write((folder / f'{name}.key').read_text())
    return {name: folder / f'{name}.pem' for name in ('here', 'elsewhere')}


@pytest.fixture
def through_tls(broker_url: str, certificates: dict[str, Path]) -> Callable[[str], Proxy]:
    def proxy(name: str) -> Proxy:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates[name])
        return Proxy(broker_url, tls=context)

    return proxy


def reach(url: str, **options: Any) -> None:
    with BrokerConnection(url, ssl=options or True) as connection:
        connection.connect()
        assert connection.default_channel.is_open


def test_the_broker_must_have_a_certificate_for_its_name(
    through_tls: Callable[[str], Proxy], certificates: dict[str, Path]
) -> None:
    with through_tls('here') as broker:
        trusted = str(certificates['here'])
        reach(broker.url, ca_certs=trusted)
        reach(broker.url.replace('127.0.0.1', 'localhost'), ca_certs=trusted)
        with pytest.raises(ssl.SSLCertVerificationError):
            reach(broker.url)  # nobody trusts it
    with through_tls('elsewhere') as impostor:
        trusted = str(certificates['elsewhere'])
        with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for '127\.0\.0\.1'"):
            reach(impostor.url, ca_certs=trusted)
        reach(impostor.url, ca_certs=trusted, server_hostname='elsewhere.example')
        reach(impostor.url, ca_certs=trusted, check_hostname=False)
        reach(impostor.url, cert_reqs=ssl.CERT_NONE)


@pytest.fixture(params=['here', 'elsewhere'])
def tls_redis(
    request: pytest.FixtureRequest, certificates: dict[str, Path], tmp_path: Path
) -> Iterator[tuple[str, Path]]:
    """URL of a Redis with TLS, and its certificate."""
    port, file = free_port(), certificates[request.param]
    with serving(port, 'redis-server', '--port', '0', '--tls-port', str(port), '--bind', '127.0.0.1', '--save', '',
                 '--tls-cert-file', str(file), '--tls-key-file', str(file), '--tls-ca-cert-file', str(file),
                 '--tls-auth-clients', 'no', '--dir', str(tmp_path)):
        yield f'rediss://127.0.0.1:{port}/0', file


def test_redis_must_have_a_certificate_for_its_name_as_store_and_as_broker(
    tls_redis: tuple[str, Path], close_later: Callable[[Any], Any]
) -> None:
    url, file = tls_redis
    is_impostor = file.stem == 'elsewhere'
    options = {'ssl_ca_certs': str(file), 'ssl_cert_reqs': ssl.CERT_REQUIRED}
    for more in ({}, {'ssl_check_hostname': False}):
        app = close_later(Celery(
            broker=url, backend=url, broker_use_ssl={**options, **more}, redis_backend_use_ssl={**options, **more},
            set_as_current=False))

        def use_broker(app: Any = app) -> None:
            with app.connection_for_write() as connection:
                connection.default_channel.client.ping()

        for use in (use_broker, app.backend.client.ping):
            if is_impostor and not more:
                with pytest.raises(Exception, match='CERTIFICATE_VERIFY_FAILED'):
                    use()
            else:
                use()
    insecure = close_later(Celery(broker=url, set_as_current=False))
    with insecure.connection_for_write() as connection, pytest.raises(Exception, match='CERTIFICATE_VERIFY_FAILED'):
        connection.default_channel.client.ping()
