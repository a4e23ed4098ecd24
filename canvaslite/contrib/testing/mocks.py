"""Messages and mocks for tests of parts of a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

from kombu.serialization import dumps

from canvaslite.utils.functional import maybe_list
from canvaslite.utils.uuid import uuid


def TaskMessage(name: str, id: str | None = None, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
                callbacks: Any = None, errbacks: Any = None, chain: Any = None, shadow: str | None = None,
                utc: bool | None = None, **headers: Any) -> Any:
    """A mock of a task message of protocol 2."""
    embed = {'callbacks': callbacks, 'errbacks': errbacks, 'chain': chain}
    id = id or uuid()
    return _message(id, {'id': id, 'task': name, 'shadow': shadow, **headers}, (args, kwargs or {}, embed))


def TaskMessage1(name: str, id: str | None = None, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
                 callbacks: Any = None, errbacks: Any = None, chain: Any = None, **fields: Any) -> Any:
    """A mock of a task message of protocol 1."""
    id = id or uuid()
    return _message(id, {}, {'task': name, 'id': id, 'args': args, 'kwargs': kwargs or {}, 'callbacks': callbacks,
                             'errbacks': errbacks, **fields})


def _message(id: str, headers: dict[str, Any], payload: Any) -> Any:
    message = Mock(name=f'TaskMessage-{id}', headers=headers, payload=payload)
    message.content_type, message.content_encoding, message.body = dumps(payload, serializer='json')
    return message


def task_message_from_sig(app: Any, sig: Any, utc: bool = True, TaskMessage: Callable[..., Any] = TaskMessage) -> Any:
    """A mock of the message that sends the signature."""
    sig.freeze()
    options = dict(sig.options)
    countdown, expires = options.pop('countdown', None), options.pop('expires', None)
    eta = app.now() + timedelta(seconds=countdown) if countdown else options.pop('eta', None)
    if isinstance(expires, (int, float)):
        expires = app.now() + timedelta(seconds=expires)
    linked = {field: [dict(linked) for linked in maybe_list(options.pop(option, None)) or ()] or None
              for field, option in (('callbacks', 'link'), ('errbacks', 'link_error'))}
    return TaskMessage(sig.task, id=sig.id, args=sig.args, kwargs=sig.kwargs, **linked, eta=_text(eta),
                       expires=_text(expires), utc=utc, **options)


def _text(time: Any) -> Any:
    return time.isoformat() if hasattr(time, 'isoformat') else time


class _Context(Mock):
    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        return None


def ContextMock(*args: Any, **kwargs: Any) -> Any:
    """A mock that is its own value in ``with``, as is what it returns when it is called."""
    mock: Any = _Context(*args, **kwargs)
    mock.__enter__ = Mock(return_value=mock)
    mock.__exit__ = Mock(return_value=None)
    return mock
