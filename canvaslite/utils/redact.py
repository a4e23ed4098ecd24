"""Hiding secrets: passwords in URLs, and settings whose name says that they are secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = '*' * 8

#: Names of settings, and of keys in dicts of options, whose values are not shown.
_SECRET_NAME = re.compile(r'API|TOKEN|KEY|SECRET|PASS|PROFANITIES_LIST|SIGNATURE|DATABASE|BEAT_DBURI', re.IGNORECASE)
_NOT_SECRET = frozenset({'task_default_routing_key'})
#: ``scheme://user:password@``: up to the last ``@``, for a password may have signs that a URL must escape;
#: others mask with fewer stars.
_CREDENTIALS = re.compile(r'(?P<before>[a-zA-Z][\w+.-]*://[^\s:/?#@]*):(?!\*+@)[^\s;,\'"]*@')
#: Secrets by their names: in a query string, a DSN, the environment, a mapping that is shown; and in a header of HTTP.
_NAMED = re.compile(r'(?P<before>(?:password|passwd|pwd|secret|token|(?<![a-z])sig|(?:api|access|account|private)_?key)'
                    r'(?:[\'"]\s*:\s*b?|\s*=\s*))(?P<quote>[\'"]?)(?:(?<=[\'"])[^\'"]+|[^&;#\s\'",)}\]]+)',
                    re.IGNORECASE)
_BEARER = re.compile(r'(?P<before>\b(?:bearer|basic)\s+)[\w.~+/=-]{6,}', re.IGNORECASE)
#: Longest text that is looked at for the log, in characters, and longest that is written, in bytes.
_LOOKED_AT, _WRITTEN = 8192, 1600


def redact(text: str) -> str:
    """`text` with the passwords of all URLs in it masked, and what is named as a secret."""
    if '://' in text:
        text = _CREDENTIALS.sub(rf'\g<before>:{MASK}@', text)
    if '=' in text or "'" in text or '"' in text:  # most lines of a log have none of them
        text = _NAMED.sub(rf'\g<before>\g<quote>{MASK}', text)
    if 'earer' in text or 'asic' in text:
        text = _BEARER.sub(rf'\g<before>{MASK}', text)
    return text


def for_log(text: str) -> str:
    """`text`, which strangers may have written, as a part of one line in the log: redacted and short."""
    text = redact(' '.join(text[:_LOOKED_AT].split()))
    if not text.isprintable():
        text = ''.join(sign if sign.isprintable() else '?' for sign in text)
    raw = text.encode()
    return text if len(raw) <= _WRITTEN else raw[:_WRITTEN].decode(errors='ignore') + '...'


def one_line(exc: BaseException) -> str:
    """What an error says, on one line, redacted and without its full stop; its class's name where it says nothing."""
    return redact(' '.join(str(exc).split()).rstrip('.')) or type(exc).__name__


def is_secret(name: Any) -> bool:
    """Whether a setting, or an option, of that name is not shown."""
    return isinstance(name, str) and bool(_SECRET_NAME.search(name)) and name not in _NOT_SECRET


def censor(value: Any) -> Any:
    """A copy of `value` with secrets masked: in URLs, and under secret names of mappings, whatever they are in."""
    if isinstance(value, Mapping):
        return {name: MASK if member is not None and is_secret(name) else censor(member)
                for name, member in value.items()}
    if isinstance(value, str):
        return redact(value)
    if value.__class__ in (list, tuple):
        return value.__class__(censor(member) for member in value)
    return value
