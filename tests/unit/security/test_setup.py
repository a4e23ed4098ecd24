"""What `setup_security` needs, and says when it lacks it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from canvaslite import Celery
from canvaslite.exceptions import ImproperlyConfigured, SecurityError
from canvaslite.transport import signed


def write(folder: Path, name: str, key: Any, days: int = 1, password: bytes | None = None) -> None:
    """A key and its certificate."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    certificate = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
                   .serial_number(7).not_valid_before(now - timedelta(9)).not_valid_after(now + timedelta(days))
                   .sign(key, hashes.SHA256()))
    (folder / f'{name}.pem').write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    (folder / f'{name}.key').write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('keys')
    key = rsa.generate_private_key(65537, 2048)
    write(folder, 'good', key)
    write(folder, 'expired', key, days=-1)
    write(folder, 'locked', key, password=b'hunter2')
    write(folder, 'elliptic', ec.generate_private_key(ec.SECP256R1()))
    (folder / 'none.pem').write_text('none')
    return folder


@pytest.fixture
def set_up(files: Path, close_later: Callable[[Any], Any]) -> Callable[..., None]:
    """Call `setup_security` with these settings in place of good ones; file names are those in `files`."""

    def set_up(**changed: Any) -> None:
        values = {'security_key': 'good.key', 'security_certificate': 'good.pem', 'security_cert_store': 'good.pem',
                  **changed}
        values.update((name, str(files / value)) for name, value in values.items()
                      if str(value).endswith(('.key', '.pem')))
        app = close_later(Celery(set_as_current=False, changes={
            'task_serializer': 'auth', 'accept_content': ['auth'], **values}))
        app.setup_security()

    return set_up


@pytest.mark.parametrize(('changed', 'said'), [
    ({'task_serializer': 'json'}, "task_serializer = 'auth'"),
    ({'accept_content': ['auth', 'json']}, r"accept_content = \['auth'\]"),
    ({'security_key': None}, 'security_key'),
    ({'security_key': 'missing.key'}, 'cannot be read'),
    ({'security_key': 'none.pem'}, 'security_key: the key cannot be used'),
    ({'security_key': 'locked.key'}, 'security_key_password'),
    ({'security_key': 'locked.key', 'security_key_password': 'wrong'}, 'security_key_password'),
    ({'security_key': 'elliptic.key'}, 'only RSA'),
    ({'security_certificate': 'elliptic.pem'}, 'only certificates with RSA'),
    ({'security_certificate': 'none.pem'}, 'no certificate in PEM'),
    ({'security_cert_store': 'expired.pem'}, 'security_cert_store: .*expired.pem has expired'),
    ({'security_cert_store': 'none.pem'}, 'security_cert_store: .*none.pem: this is no certificate'),
    ({'security_cert_store': 'missing.pem'}, 'there is no certificate in'),
    ({'security_digest': 'md7'}, "security_digest: there is no digest 'md7'"),
])
def test_what_is_wrong_is_one_line_that_names_the_setting_and_changes_nothing(
    set_up: Callable[..., None], changed: dict[str, Any], said: str
) -> None:
    with pytest.raises((ImproperlyConfigured, SecurityError), match=said) as error:
        set_up(**changed)
    assert '\n' not in str(error.value) and 'hunter2' not in str(error.value)
    assert not signed.in_use
