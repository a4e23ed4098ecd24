"""`Signatures`: the serializer ``auth``, whose form of a body is Celery's, and the signature of a whole message."""

from __future__ import annotations

import base64
from typing import Any

from kombu.serialization import dumps, loads, prepare_accept_content

from canvaslite.exceptions import SecurityError
from canvaslite.security.certificates import Certificate, Certificates, PrivateKey, find_digest

#: Between the parts of a body.
_SEPARATOR = b'\x00\x01'


class Signatures:
    """Signs with `key`, whose certificate is `certificate`; trusts those in `trusted`."""

    def __init__(self, key: PrivateKey, certificate: Certificate, trusted: Certificates, digest: str, serializer: str,
                 accepts_bodies: bool) -> None:
        self.key = key
        self.certificate = certificate
        self.trusted = trusted
        self.digest = find_digest(digest)
        self.serializer = serializer
        self.accepts_bodies = accepts_bodies
        #: What may be inside: whoever is trusted to sign is not trusted to have another serializer's code run.
        self.accepted = prepare_accept_content([serializer])

    # -- bodies

    def serialize(self, data: Any) -> str:
        """A body: who signs, the signature, type, encoding and the data itself."""
        content_type, encoding, payload = dumps(data, serializer=self.serializer)
        payload = payload.encode() if isinstance(payload, str) else payload
        parts = (base64.b64encode(self.certificate.id.encode()), base64.b64encode(self.key.sign(payload, self.digest)),
                 content_type.encode(), encoding.encode(), payload)
        return base64.b64encode(_SEPARATOR.join(parts)).decode()

    def deserialize(self, body: str | bytes) -> Any:
        """The data. Raises `SecurityError` for what is not signed by somebody trusted, and kombu's errors."""
        try:
            signer, signature, content_type, encoding, payload = base64.b64decode(body, validate=True).split(
                _SEPARATOR, 4)
            names = base64.b64decode(signer).decode(), content_type.decode(), encoding.decode()
            raw_signature = base64.b64decode(signature)
        except ValueError:
            raise SecurityError('this is not signed') from None
        self.trusted.find(names[0]).check(payload, raw_signature, self.digest)
        return loads(payload, names[1], names[2], accept=self.accepted)

    # -- whole messages

    def sign(self, data: bytes) -> str:
        """``signer:signature``, each in base 64."""
        return ':'.join(base64.b64encode(part).decode() for part in (
            self.certificate.id.encode(), self.key.sign(data, self.digest)))

    def check(self, data: bytes, signature: Any) -> None:
        """Raises `SecurityError` for one that is not of `data`, or not of somebody trusted."""
        try:
            signer, raw = (base64.b64decode(part, validate=True) for part in signature.split(':'))
            name = signer.decode()
        except (ValueError, AttributeError, TypeError):
            raise SecurityError('its signature is none') from None
        self.trusted.find(name).check(data, raw, self.digest)
