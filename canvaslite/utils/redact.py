"""Hiding secrets: passwords in URLs, and settings whose name says that they are secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = '*' * 8

#: Names of settings, and of keys in dicts of options, whose values are not shown.
_SECRET_NAME = re.compile(r'API|TOKEN|KEY|SECRET|PASS|PROFANITIES_LIST|SIGNATURE|DATABASE|BEAT_DBURI', re.IGNORECASE)
_NOT_SECRET = frozenset({'task_default_routing_key'})
#: ``scheme://user:password@``: the password ends at the last ``@`` before the path.
_CREDENTIALS = re.compile(r'(?P<before>[a-zA-Z][\w+.-]*://[^\s:/?#@]*):(?P<password>[^\s/?#]*)@')
#: A password that has characters which a URL must escape: rather mask too much.
_BROKEN_CREDENTIALS = re.compile(r'(?P<before>[a-zA-Z][\w+.-]*://[^\s:/?#@]*):(?P<password>[^\s@;,]*)@')
#: Secrets in a query string.
_QUERY_SECRET = re.compile(r'(?P<before>[?&](?:password|passwd|sig|token|secret|access_key)=)[^&;#\s]+', re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with the passwords of all URLs in it masked."""
    text = _CREDENTIALS.sub(rf'\g<before>:{MASK}@', text)
    text = _BROKEN_CREDENTIALS.sub(rf'\g<before>:{MASK}@', text)
    return _QUERY_SECRET.sub(rf'\g<before>{MASK}', text)


def one_line(exc: BaseException) -> str:
    """What an error says, on one line and without its full stop; its class's name where it says nothing."""
    return ' '.join(str(exc).split()).rstrip('.') or type(exc).__name__


def mask_url(url: Any) -> Any:
    """A URL, or a list of them, with passwords masked; anything else as it is."""
    if isinstance(url, str):
        return redact(url)
    if isinstance(url, (list, tuple)):
        return type(url)(mask_url(one) for one in url)
    return url


def censor(settings: Mapping[Any, Any]) -> dict[Any, Any]:
    """A copy of `settings` with secrets masked, in nested dicts too."""
    return {name: _censor_value(name, value) for name, value in settings.items()}


def _censor_value(name: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return censor(value)
    if isinstance(name, str) and _SECRET_NAME.search(name) and value is not None and name not in _NOT_SECRET:
        return MASK
    return mask_url(value)
