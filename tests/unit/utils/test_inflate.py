"""What is decompressed stops at a cap, before it is there."""

from __future__ import annotations

import tracemalloc

import pytest
from kombu.compression import compress, encoders
from kombu.compression import decompress as kombu_decompress
from kombu.exceptions import DecodeError

from canvaslite.utils.inflate import Limits, decompress

TYPES = ['application/x-gzip', 'application/x-bz2', 'application/x-lzma', 'application/zstd', 'application/x-brotli']
BOMB = bytes(20_000_000)


def test_these_are_all_that_kombu_knows() -> None:
    assert sorted(encoders()) == sorted(TYPES)


@pytest.mark.parametrize('type', TYPES)
@pytest.mark.parametrize('size', [0, 1, 5_000, 3_000_000])
def test_what_is_allowed_comes_back(type: str, size: int) -> None:
    body = (b'%d' * 3 % (size, size * 7, size * 11) * size)[:size]
    assert decompress(compress(body, type)[0], type, Limits(ratio=None)) == body
    assert kombu_decompress(compress(b'plain', type)[0], type) == b'plain'


@pytest.mark.parametrize('type', TYPES)
@pytest.mark.parametrize('limits', [Limits(5_000_000, None), Limits(None, 200.0)], ids=['size', 'ratio'])
def test_what_would_be_more_is_refused_when_it_gets_there(type: str, limits: Limits) -> None:
    body = compress(BOMB, type)[0]
    most = limits.most(len(body))
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match='accept_decompressed_size and accept_compression_ratio'):
            decompress(body, type, limits)
        assert tracemalloc.get_traced_memory()[1] < most + 12_000_000  # lzma's window has 8 MB
    finally:
        tracemalloc.stop()
    if limits.size is None:
        with pytest.raises(DecodeError):  # also where kombu decompresses by itself
            kombu_decompress(body, type)


@pytest.mark.parametrize('type', TYPES)
def test_what_is_cut_short_or_something_else_is_an_error_that_quotes_nothing(type: str) -> None:
    body = compress(bytes(range(256)) * 40, type)[0]
    for wrong in (body[:-5], b'', b'password=hunter2'):
        with pytest.raises(DecodeError) as error:
            decompress(wrong, type, Limits())
        assert 'hunter2' not in str(error.value)


@pytest.mark.parametrize('type', ['application/x-squeeze', None, 5, ['gzip'], 'gzip' * 1000])
def test_an_unknown_compression_is_an_error_of_one_line(type: object) -> None:
    with pytest.raises(DecodeError) as error:
        decompress(b'x', type, Limits())
    assert len(str(error.value)) < 250
