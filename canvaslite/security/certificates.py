"""Keys and certificates, as ``openssl`` writes them."""

from __future__ import annotations

import glob
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from canvaslite.exceptions import SecurityError


def find_digest(name: str) -> Any:
    """The hash function of that name. Raises `SecurityError`."""
    found = getattr(hashes, name.upper(), None)
    if not (isinstance(found, type) and issubclass(found, hashes.HashAlgorithm)):
        raise SecurityError(f'security_digest: there is no digest {name!r}')
    return found()


def _padding(digest: Any) -> Any:
    """Celery's, which must be the same to check signatures of its processes."""
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.MAX_LENGTH)


class PrivateKey:
    """An RSA key. Raises `SecurityError` for what is none, or for the wrong password."""

    def __init__(self, pem: bytes, password: str | bytes | None = None) -> None:
        try:
            key = load_pem_private_key(pem, password.encode() if isinstance(password, str) else password or None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise SecurityError(f'security_key: the key cannot be used ({type(exc).__name__}): is it in PEM, and is '
                                'security_key_password right?') from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise SecurityError('security_key: only RSA keys are supported')
        self._key = key

    def sign(self, data: bytes, digest: Any) -> bytes:
        return self._key.sign(data, _padding(digest), digest)


class Certificate:
    """A certificate with an RSA key. Raises `SecurityError` for what is none."""

    def __init__(self, pem: bytes) -> None:
        try:
            self._certificate = load_pem_x509_certificate(pem)
            key = self._certificate.public_key()
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise SecurityError(f'this is no certificate in PEM ({type(exc).__name__})') from None
        if not isinstance(key, rsa.RSAPublicKey):
            raise SecurityError('only certificates with RSA keys are supported')
        self._key = key
        #: By which signatures name it, as Celery's do.
        self.id = f'{" ".join(str(part.value) for part in self._certificate.issuer)} {self._certificate.serial_number}'

    def has_expired(self) -> bool:
        return datetime.now(timezone.utc) >= self._certificate.not_valid_after_utc

    def check(self, data: bytes, signature: bytes, digest: Any) -> None:
        """Raises `SecurityError` for a signature that is not of `data`, and when the certificate has expired."""
        if self.has_expired():
            raise SecurityError(f'the certificate {self.id!r} has expired')
        try:
            self._key.verify(signature, data, _padding(digest), digest)
        except InvalidSignature:
            raise SecurityError(f'the signature of {self.id!r} is not of this') from None


class Certificates:
    """Those who are trusted."""

    def __init__(self) -> None:
        self._known: dict[str, Certificate] = {}

    @classmethod
    def in_folder(cls, path: str) -> Certificates:
        """Of the files in a folder, or that match a pattern. Raises `SecurityError` where there is none, or a bad one.
        """
        trusted = cls()
        for name in sorted(glob.glob(os.path.join(path, '*') if os.path.isdir(path) else path)):
            try:
                certificate = Certificate(Path(name).read_bytes())
            except (SecurityError, OSError) as exc:
                raise SecurityError(f'security_cert_store: {name}: {exc}') from None
            if certificate.has_expired():
                raise SecurityError(f'security_cert_store: {name} has expired')
            trusted._known[certificate.id] = certificate
        if not trusted._known:
            raise SecurityError(f'security_cert_store: there is no certificate in {path}')
        return trusted

    def find(self, id: str) -> Certificate:
        """Raises `SecurityError` for one that is not trusted."""
        try:
            return self._known[id]
        except KeyError:
            raise SecurityError(f'the certificate {id!r:.200} is not in security_cert_store') from None
