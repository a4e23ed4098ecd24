"""Decompression that stops at a cap: a few bytes of a stranger's must not become gigabytes of ours.

What kombu calls when a message is compressed inflates all of it first. Importing this puts streaming decompressors
in their place, for every message that this process reads: also those that kombu decompresses by itself.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from kombu import compression
from kombu.exceptions import DecodeError

#: What is inflated in one step, and what may be inflated whatever the ratio: a short body of spaces is no attack.
_STEP, _ALWAYS = 1 << 20, 1 << 20
#: Memory that lzma may use, which depends on what the stream says: its highest preset takes half of it.
_LZMA_MEMORY = 128 << 20


class Limits(NamedTuple):
    """How large what is read may become: in bytes, and as a multiple of its compressed size. None for no limit."""

    size: int | None = 64 << 20
    ratio: float | None = 200.0

    @classmethod
    def of(cls, conf: Any) -> Limits:
        """What the settings say."""
        return cls(conf.accept_decompressed_size, conf.accept_compression_ratio)

    def most(self, compressed: int) -> float:
        """The most that so many bytes may become."""
        by_ratio = float('inf') if self.ratio is None else max(_ALWAYS, self.ratio * compressed)
        return by_ratio if self.size is None else min(self.size, by_ratio)


#: For what kombu decompresses by itself; a worker sets it to its own.
default = [Limits()]


def decompress(body: bytes, content_type: Any, limits: Limits) -> bytes:
    """`body` decompressed. Raises `DecodeError` for more than `limits` allow, and for what cannot be decompressed."""
    try:
        decoder = compression.get_decoder(content_type)
        return decoder.inflate(body, limits) if isinstance(decoder, _Guarded) else decoder(body)  # type: ignore[no-any-return]
    except Exception as exc:
        said = exc if isinstance(exc, DecodeError) else type(exc).__name__
        raise DecodeError(f'the body cannot be decompressed as {content_type!r:.100}: {said}') from exc


class _Guarded:
    """Decompresses whole bodies of one type; `make` makes what does it step by step."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __call__(self, body: bytes) -> bytes:
        return self.inflate(body, default[0])

    def inflate(self, body: bytes, limits: Limits) -> bytes:
        """Raises `DecodeError` for more than `limits` allow, and for what is cut short."""
        decompressor, most = self.make(), limits.most(len(body))
        parts: list[bytes] = []
        size, data = 0, bytes(body)
        while not decompressor.eof:
            part = decompressor.decompress(data, _STEP)
            size, data = size + len(part), b''
            if size > most:
                raise DecodeError(f'it becomes more than the {most:.0f} bytes that accept_decompressed_size and '
                                  'accept_compression_ratio allow')
            if not part and decompressor.needs_input and not decompressor.eof:
                raise DecodeError('it is cut short')
            parts.append(part)
        return b''.join(parts)


class _Zlib:
    """zlib's, with the interface of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj()

    eof = property(lambda self: self._inner.eof)
    needs_input = property(lambda self: not self._inner.unconsumed_tail)

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._inner.decompress(data or self._inner.unconsumed_tail, most)


class _Brotli:
    """brotli's; before its version 1.2 it raises `TypeError`, for it could not be limited."""

    def __init__(self) -> None:
        self._inner = _brotli.Decompressor()

    eof = property(lambda self: self._inner.is_finished())
    needs_input = property(lambda self: self._inner.can_accept_more_data())

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._inner.process(data, output_buffer_limit=most)  # type: ignore[no-any-return]


# Whichever of these modules kombu has found.
_brotli: Any = getattr(compression, 'brotli', None)
_zstd: Any = getattr(compression, 'zstd', None)
_MAKERS: dict[str, Callable[[], Any]] = {
    'application/x-gzip': _Zlib, 'application/x-bz2': bz2.BZ2Decompressor,
    'application/x-lzma': lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), 'application/x-brotli': _Brotli,
    'application/zstd': lambda: _zstd.ZstdDecompressor(),
}
for _type in _MAKERS.keys() & compression._decoders.keys():
    compression._decoders[_type] = _Guarded(_MAKERS[_type])
