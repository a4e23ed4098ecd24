"""What a message carries for others than the task itself, left as the JSON that it is until somebody looks at it.

What is left of a chain is longer than all else in a message. Each step only takes the next one from its end and hands
the rest on, so that its cost does not grow with the length of the chain. The same for a chord's body, which each
message of the header carries and only the last one needs. `read_body` takes a body apart without decoding them.
"""

from __future__ import annotations

from collections.abc import Callable
from json import JSONDecoder
from typing import Any

from kombu.exceptions import EncodeError
from kombu.utils import json as kombu_json

from canvaslite.utils import deepjson

_plain, _typed = JSONDecoder(), JSONDecoder(object_hook=kombu_json.object_hook)

#: Where, in JSON as kombu writes it, a step follows another; inside of a text each ``"`` has a backslash before it.
_NEXT_STEP = ', {"task": '
_CALLBACKS, _ERRBACKS, _CHAIN, _CHORD = (
    f'"{name}": ' for name in ('callbacks', 'errbacks', 'chain', 'chord'))
_DEPTHS = (('{', 1), ('[', 1), ('}', -1), (']', -1))
#: How the body of a task ends that is not followed by anything.
_NOTHING_FOLLOWS = f'{_CHAIN}null, {_CHORD}null}}]'
#: Shorter bodies, in characters, are decoded as fast as they are taken apart.
_SHORT = 4096


def decode_json(text: str) -> Any:
    """What `text` says, with kombu's own types (written as a mapping with ``__type__``). Raises `ValueError`."""
    try:
        return (_typed if '__type__' in text else _plain).decode(text)
    except RecursionError:
        return deepjson.loads(text)


def encode_json(value: Any) -> str:
    """`value`, however deep, as JSON with kombu's own types. Raises `EncodeError`."""
    try:
        return str(kombu_json.dumps(value))
    except RecursionError:
        return deepjson.dumps(value)
    except Exception as exc:
        raise EncodeError(str(exc)) from exc


class Undecoded:
    """A value as JSON, or as data of which the JSON is made once for all messages that carry it."""

    __slots__ = ('_json', '_value')

    def __init__(self, json: str | None = None, value: Any = None) -> None:
        self._json = json
        self._value = value

    def decode(self) -> Any:
        """The value."""
        if self._value is None and self._json is not None:
            self._value = decode_json(self._json)
        return self._value

    def encode(self, encoder: Callable[[Any], bytes]) -> bytes:
        """Its JSON, by `encoder` where it has none yet."""
        if self._json is None:
            self._json = encoder(self._value).decode()
        return self._json.encode()


class ChainTail(Undecoded):
    """What is left of a chain: a list of steps, the next one last."""

    __slots__ = ()

    def split(self) -> tuple[Any, Any]:
        """The next step, and what is left after it (None: nothing)."""
        text = self._json or '[]'
        end, depth = len(text) - 1, 0
        while (place := text.rfind(_NEXT_STEP, 0, end)) > 0:
            # A step of a canvas within the next step is passed over without trying to decode it.
            depth += sum(way * text.count(sign, place, end) for sign, way in _DEPTHS)
            step = None if depth else _decode_to_end(text, place + 2)
            if step is not None:
                return step, ChainTail(f'{text[:place]}]')
            end = place
        steps = self.decode()
        return steps[-1], steps[:-1] or None


def _decode_to_end(text: str, start: int) -> Any:
    """The value that begins at `start` and is the last of the list that `text` is; None if it is not."""
    try:
        value, end = _plain.raw_decode(text, start)
        if end != len(text) - 1:
            return None
        return decode_json(text[start:-1]) if '__type__' in text[start:] else value
    except (ValueError, RecursionError):
        return None


def read_body(text: str) -> Any:
    """``[args, kwargs, embed]``, or whatever else the body says. Raises `ValueError`.

    In a long body as kombu writes it the embed's ``chain`` is a `ChainTail`, or its ``chord`` `Undecoded`.
    """
    if len(text) < _SHORT or text.endswith(_NOTHING_FOLLOWS):
        return decode_json(text)
    return _take_apart(text) or decode_json(text)


def _take_apart(text: str) -> list[Any] | None:
    decoder = _typed if '__type__' in text else _plain
    values, end = [], 1
    try:
        for name in ('', ', ', f', {{{_CALLBACKS}', f', {_ERRBACKS}'):
            if not text.startswith(name, end):
                return None
            value, end = decoder.raw_decode(text, end + len(name))
            values.append(value)
    except (ValueError, RecursionError):
        return None
    args, kwargs, callbacks, errbacks = values
    embed = {'callbacks': callbacks, 'errbacks': errbacks, 'chain': None, 'chord': None}
    chain, chord = f', {_CHAIN}', f', {_CHORD}'
    if text.startswith(f'{chain}[', end) and text.endswith(f']{chord}null}}]'):
        tail = text[end + len(chain):-len(f'{chord}null}}]')]
        embed['chain'] = [] if tail == '[]' else ChainTail(tail)
    elif text.startswith(f'{chain}null{chord}{{', end) and text.endswith('}}]'):
        embed['chord'] = Undecoded(text[end + len(f'{chain}null{chord}'):-2])
    else:
        return None
    return [args, kwargs, embed]
