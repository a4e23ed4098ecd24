"""Messages that are signed: ``app.setup_security()``, and the serializer ``auth``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kombu.serialization import disable_insecure_serializers, registry

from canvaslite import wire
from canvaslite.current import get_current_app
from canvaslite.exceptions import ImproperlyConfigured, SecurityError

try:
    from canvaslite.security.certificates import Certificate, Certificates, PrivateKey
except ImportError as missing:
    raise ImproperlyConfigured("setup_security needs the package cryptography; pip install 'canvaslite[auth]'"
                               ) from missing
from canvaslite.security.signing import Signatures
from canvaslite.transport import signed

__all__ = ('setup_security',)


def setup_security(allowed_serializers: Iterable[str] | None = None, key: str | None = None,
                   key_password: str | bytes | None = None, cert: str | None = None, store: str | None = None,
                   digest: str | None = None, serializer: str = 'json', app: Any = None) -> None:
    """Sign what is sent from here, and accept only what somebody in the store has signed. For the whole process.

    `key`, `key_password`, `cert`, `store` and `digest` are those of the ``security_*`` settings where they are not
    given; what is signed is written by `serializer`. kombu's others are switched off but for `allowed_serializers`.
    Raises `ImproperlyConfigured` for settings that sign or check nothing, and `SecurityError` for files of no use.
    """
    conf = (app or get_current_app()).conf
    if conf.task_serializer != wire.AUTH or list(conf.accept_content) != [wire.AUTH]:
        raise ImproperlyConfigured("setup_security needs task_serializer = 'auth' and accept_content = ['auth']: "
                                   'signing what nobody checks, or checking what nobody signs, is of no use')
    key, cert, store = key or conf.security_key, cert or conf.security_certificate, store or conf.security_cert_store
    if not (key and cert and store):
        raise ImproperlyConfigured('setup_security needs the files security_key, security_certificate and '
                                   'security_cert_store')
    signatures = Signatures(
        PrivateKey(_read(key), key_password or conf.security_key_password), Certificate(_read(cert)),
        Certificates.in_folder(store), digest or conf.security_digest, serializer, bool(conf.security_accept_bodies))
    disable_insecure_serializers(allowed_serializers)
    registry.register(wire.AUTH, signatures.serialize, signatures.deserialize, content_type=wire.AUTH_TYPE,
                      content_encoding='utf-8')
    registry._set_default_serializer(wire.AUTH)
    signed.in_use[:] = [signatures]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise SecurityError(f'{path} cannot be read: {exc.strerror}') from None
