"""JSON of any depth: what the standard library's does, without recursion, and slower. For what it gives up on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from kombu.utils import json as kombu_json

#: Levels of lists and mappings that a value may have: one that contains itself has no end.
DEEPEST = 20_000


class TooDeep(ValueError):
    """There are more levels than `DEEPEST`."""

    def __init__(self) -> None:
        super().__init__(f'more than {DEEPEST} levels of lists and mappings')


_SPACE = re.compile(r'[ \t\n\r]*')
_ATOM = re.compile(r'[^\s,\]}:]+')
_END = object()
#: At each so many levels, what is in there is tried by the standard library.
EVERY = 200
_encoder = kombu_json.JSONEncoder()
_decoder = json.JSONDecoder(object_hook=kombu_json.object_hook)


def dumps(value: Any) -> str:
    """`value`, which may have kombu's own types in it, as JSON. Raises `TypeError` and `ValueError`."""
    text: list[str] = []
    open_values: list[tuple[Iterator[Any], str]] = [(iter(((None, value),)), '')]
    first = True
    while open_values:
        members, closing = open_values[-1]
        key, value = next(members, (None, _END))
        if value is _END:
            text.append(closing)
            open_values.pop()
            first = False
            continue
        if not first:
            text.append(', ')
        first = False
        if key is not None:
            text.append(f'{json.dumps(_key(key))}: ')
        while not isinstance(value, (str, int, float, type(None), list, tuple, dict)):
            value = _encoder.default(value)
        if not isinstance(value, (list, tuple, dict)):
            text.append(json.dumps(value))
            continue
        if len(open_values) > DEEPEST:
            raise TooDeep()
        if len(open_values) % EVERY == 0:
            with suppress(RecursionError):
                text.append(_encoder.encode(value))
                continue
        first = True
        if isinstance(value, dict):
            text.append('{')
            open_values.append((iter(value.items()), '}'))
        else:
            text.append('[')
            open_values.append((((None, member) for member in value), ']'))
    return ''.join(text)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, (int, float)):
        return json.dumps(key)
    raise TypeError(f'keys must be str, int, float, bool or None, not {type(key).__name__}')


def loads(text: str) -> Any:
    """What a JSON text says, which may have kombu's own types in it. Raises `ValueError`."""
    holders: list[Any] = [[]]  # lists and dicts that are open, in a list that gets the value itself
    keys: list[Any] = [None]
    complete, place = False, 0  # whether what comes next must be a comma or an end
    while (place := _SPACE.match(text, place).end()) < len(text):  # type: ignore[union-attr]
        sign, holder = text[place], holders[-1]
        if sign == ',' and complete and len(holders) > 1:
            complete, place = False, place + 1
        elif sign in '}]' and sign == ('}' if isinstance(holder, dict) else ']') and keys[-1] is None and (
                complete or not holder) and len(holders) > 1:
            keys.pop()
            value = holders.pop()
            complete = _put(holders[-1], keys, kombu_json.object_hook(value) if isinstance(value, dict) else value)
            place += 1
        elif complete:
            break
        elif isinstance(holder, dict) and keys[-1] is None:
            keys[-1], place = _scalar(text, place)
            place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
            if not isinstance(keys[-1], str) or text[place:place + 1] != ':':
                break
            place += 1
        elif sign in '{[':
            if len(holders) > DEEPEST:
                raise TooDeep()
            if len(holders) % EVERY == 0:
                with suppress(RecursionError):
                    value, place = _decoder.raw_decode(text, place)
                    complete = _put(holder, keys, value)
                    continue
            holders.append({} if sign == '{' else [])
            keys.append(None)
            place += 1
        else:
            value, place = _scalar(text, place)
            complete = _put(holder, keys, value)
    if not complete or len(holders) > 1 or place < len(text):
        raise json.JSONDecodeError('this is not JSON', text, place)
    return holders[0][0]


def _put(holder: Any, keys: list[Any], value: Any) -> bool:
    if isinstance(holder, dict):
        holder[keys[-1]], keys[-1] = value, None
    else:
        holder.append(value)
    return True


def _scalar(text: str, place: int) -> tuple[Any, int]:
    if text[place] == '"':
        return scanstring(text, place + 1)
    atom = _ATOM.match(text, place)
    if atom is None:
        raise json.JSONDecodeError('a value is missing', text, place)
    return json.loads(atom.group()), atom.end()
