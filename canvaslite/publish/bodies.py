"""Bodies of task messages: ``[args, kwargs, embed]`` through one of kombu's serializers.

Signatures leave as plain dicts whatever the serializer is, so that a reader needs neither our classes nor Celery's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from json import encoder as json_encoder
from typing import Any

from kombu.exceptions import EncodeError, SerializerNotInstalled
from kombu.serialization import registry
from kombu.utils import json as kombu_json

__all__ = ('BodyEncoder', 'body_encoder', 'plain_copy')

_NO_CANVAS = {'callbacks': None, 'errbacks': None, 'chain': None, 'chord': None}
_JSON_END = b', {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


class BodyEncoder:
    """Encodes bodies with one serializer as kombu's registry has it."""

    __slots__ = ('_json_chunks', 'codec', 'content_encoding', 'content_type', 'serializer')

    def __init__(self, serializer: str, codec: Any) -> None:
        self.serializer = serializer
        #: The registry's entry this was made for: another one there means that the user registered anew.
        self.codec = codec
        self.content_type: str = codec.content_type
        self.content_encoding: str = codec.content_encoding
        #: Kombu's JSON, byte for byte, with its encoder built once instead of for each message; None for other forms.
        self._json_chunks = _make_chunk_encoder() if codec.encoder is kombu_json.dumps else None

    @property
    def current(self) -> bool:
        """Whether the registry still has the serializer this was made for."""
        return registry._encoders.get(self.serializer) is self.codec

    def encode(self, args: Any, kwargs: Any, embed: Mapping[str, Any] | None) -> bytes:
        """The body. `embed` None stands for no canvas. Raises `EncodeError`."""
        if embed is None and self._json_chunks is not None:
            return self.encode_payload((args, kwargs))[:-1] + _JSON_END
        return self.encode_payload((args, kwargs, _NO_CANVAS if embed is None else embed))

    def encode_payload(self, payload: Any) -> bytes:
        """Any payload as bytes. Raises `EncodeError`."""
        try:
            if self._json_chunks is not None:
                return ''.join(self._json_chunks(payload, 0)).encode()
            data = self.codec.encoder(plain_copy(payload))
        except Exception as exc:
            raise EncodeError(exc) from exc
        return data.encode() if isinstance(data, str) else data


def _make_chunk_encoder() -> Callable[[Any, int], Any]:
    encoder = kombu_json.JSONEncoder()
    make: Any = getattr(json_encoder, 'c_make_encoder', None)
    if make is None:  # an interpreter without the C accelerator
        return lambda value, level: encoder.encode(value)
    # No markers: they would be shared by threads; an endless structure ends in RecursionError all the same.
    return make(None, encoder.default, json_encoder.encode_basestring_ascii, None, encoder.key_separator,
                encoder.item_separator, False, False, True)


_encoders: dict[str, BodyEncoder] = {}


def body_encoder(serializer: str) -> BodyEncoder:
    """The encoder for a serializer's name. Raises `SerializerNotInstalled` when kombu has none of that name."""
    encoder = _encoders.get(serializer)
    if encoder is None or not encoder.current:
        codec = registry._encoders.get(serializer)
        if codec is None:
            raise SerializerNotInstalled(f'No encoder installed for {serializer}')
        encoder = _encoders[serializer] = BodyEncoder(serializer, codec)
    return encoder


def plain_copy(value: Any) -> Any:
    """`value` with each signature in it (a dict subclass that says ``subtask_type``) as a plain dict.

    Lists, tuples and dicts on the way are copied when something in them changes; other objects are left alone.
    """
    kind = type(value)
    if kind is list or kind is tuple:
        copies = [plain_copy(member) for member in value]
        if all(copy is member for copy, member in zip(copies, value, strict=True)):
            return value
        return copies if kind is list else tuple(copies)
    if kind is dict or (isinstance(value, dict) and 'subtask_type' in value):
        plain = {key: plain_copy(member) for key, member in value.items()}
        if kind is dict and all(plain[key] is member for key, member in value.items()):
            return value
        return plain
    return value
