"""How a result is written down: states, values and exceptions as the text that a store keeps.

The form is Celery's to the letter (``status``, ``result``, ``traceback``, ``children``, ``date_done``, …), so that
either side reads what the other one stored. Our own exceptions are stored under ``celery.exceptions``.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Callable, Iterable
from datetime import timedelta
from json import JSONDecoder
from operator import attrgetter
from typing import Any

from kombu.compression import compress
from kombu.compression import encoders as compression_encoders
from kombu.compression import get_encoder as get_compression_encoder
from kombu.exceptions import ContentDisallowed, DecodeError, EncodeError
from kombu.serialization import dumps, loads, prepare_accept_content, registry
from kombu.utils import json as kombu_json
from kombu.utils.encoding import safe_repr

from canvaslite import exceptions, states, wire
from canvaslite.exceptions import ImproperlyConfigured, SecurityError, UnreadableResult
from canvaslite.result import ResultBase
from canvaslite.utils.inflate import Limits, decompress

Meta = dict[str, Any]

#: Serializers that can hold an exception as it is.
EXCEPTION_ABLE_CODECS = frozenset({'pickle'})

#: Celery's mark in front of a compressed payload: mark, content type, NUL, body.
COMPRESSED_PAYLOAD_MAGIC = b'\x00celery-compressed\x00'

_json_encode: Callable[[Any], str] = kombu_json.JSONEncoder().encode
_json_decode_plain: Callable[[str], Any] = JSONDecoder().decode
_json_decode_typed: Callable[[str], Any] = JSONDecoder(object_hook=kombu_json.object_hook).decode


class ResultCodec:
    """Encoding and decoding of results, for one store's serializer and compression.

    `serializer`, `accept` and `expires` override ``result_serializer``, ``result_accept_content`` and
    ``result_expires``. Raises `ImproperlyConfigured` for an unknown serializer or compression.
    """

    READY_STATES = states.READY_STATES
    UNREADY_STATES = states.UNREADY_STATES
    EXCEPTION_STATES = states.EXCEPTION_STATES

    #: Whether the store keeps arbitrary bytes unchanged, so that ``result_compression`` can be honoured.
    supports_result_compression = False
    app: Any

    def prepare_codec(self, serializer: str | None, accept: Iterable[str] | None) -> None:
        """Read the settings of serialization."""
        conf = self.app.conf
        self.serializer: str = serializer or conf.result_serializer
        try:
            self.content_type, self.content_encoding, self.encoder = registry._encoders[self.serializer]
        except KeyError:
            raise ImproperlyConfigured(
                f'result_serializer: no serializer is called {self.serializer!r}; '
                f'use one of {", ".join(sorted(registry._encoders))}') from None
        accepted = accept if accept is not None else conf.result_accept_content
        self.accept = prepare_accept_content(conf.accept_content if accepted is None else accepted)
        self.compression = self.prepare_compression(conf.get('result_compression'))
        # Only kombu's own JSON may take the short cut: a user may have registered another one by that name.
        self._plain_json = self.serializer == 'json' and self.encoder is kombu_json.dumps

    def prepare_compression(self, compression: str | None) -> str | None:
        """The compression to store with: None where the store cannot hold compressed payloads."""
        if not compression:
            return None
        if not self.supports_result_compression:
            warnings.warn(f'{type(self).__name__} cannot keep compressed results: result_compression is ignored',
                          UserWarning, stacklevel=4)
            return None
        try:
            get_compression_encoder(compression)
        except KeyError:
            raise ImproperlyConfigured(
                f'result_compression: no compression is called {compression!r}; '
                f'use one of {", ".join(sorted(compression_encoders()))}') from None
        return compression

    def prepare_expires(self, value: float | timedelta | None, type: Callable[[float], Any] | None = None) -> Any:
        """`value`, or else ``result_expires``, in seconds; through `type` if given. None or 0 is never."""
        if value is None:
            value = self.app.conf.result_expires
        if isinstance(value, timedelta):
            value = value.total_seconds()
        return value if value is None or type is None else type(value)

    # -- payloads ---------------------------------------------------------------------------------------------

    def encode(self, data: Any) -> Any:
        """`data` as the store keeps it: text, or bytes where serializer or compression make them. Raises `EncodeError`.
        """
        if self._plain_json:
            try:
                payload: Any = _json_encode(data)
            except Exception as exc:
                raise EncodeError(str(exc)) from exc
        else:
            payload = dumps(data, serializer=self.serializer)[2]
        if not self.compression:
            return payload
        body, content_type = compress(payload, self.compression)
        return b''.join((COMPRESSED_PAYLOAD_MAGIC, content_type.encode(), b'\x00', body))

    def decode(self, payload: Any) -> Any:
        """What `encode` was given. Raises kombu's `DecodeError` or `ContentDisallowed`."""
        if payload is None:
            return None
        if self._plain_json and self.content_type in self.accept:
            if payload.__class__ is bytes and payload[:1] in (b'{', b'['):
                return _decode_json(payload.decode)
            if payload.__class__ is str and payload:
                return _decode_json(payload.__str__)
        return loads(self._decompress(payload), content_type=self.content_type,
                     content_encoding=self.content_encoding, accept=self.accept)

    def _decompress(self, payload: Any) -> Any:
        payload = payload.tobytes() if isinstance(payload, memoryview) else payload
        if not isinstance(payload, (bytes, bytearray)) or not payload.startswith(COMPRESSED_PAYLOAD_MAGIC):
            return payload
        content_type, _, body = bytes(payload[len(COMPRESSED_PAYLOAD_MAGIC):]).partition(b'\x00')
        return decompress(body, content_type.decode(), Limits.of(self.app.conf))

    def decode_result(self, payload: Any, task_id: str = '') -> Meta:
        """The meta that `payload` holds, with its exception rebuilt. Raises `UnreadableResult` if it holds none."""
        try:
            return self.meta_from_decoded(self.decode(payload))
        except Exception as exc:
            raise unreadable(task_id, exc) from exc

    def meta_from_decoded(self, meta: Meta) -> Meta:
        """`meta` with its exception rebuilt, if its state has one. Doing it twice does no harm."""
        if not isinstance(meta, dict) or not isinstance(meta.get('status'), str):
            raise ValueError('there is no status in it')
        result = meta.setdefault('result', None)
        if meta['status'] in states.EXCEPTION_STATES:
            meta['result'] = self.exception_to_python(result)
        return meta

    # -- values ---------------------------------------------------------------------------------------------------

    def encode_result(self, result: Any, state: str) -> Any:
        """A task's return value or exception as data that the serializer takes."""
        if state in states.EXCEPTION_STATES and isinstance(result, BaseException):
            return self.prepare_exception(result)
        return self.prepare_value(result)

    def prepare_value(self, result: Any) -> Any:
        """A return value as data: a result object becomes its tuple, except for pickle."""
        if isinstance(result, ResultBase) and self.serializer != 'pickle':
            return result.as_stored_tuple()
        return result

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        """An exception as data: its type, module and arguments; for pickle an exception that can be pickled."""
        if (self.serializer if serializer is None else serializer) in EXCEPTION_ABLE_CODECS:
            return get_pickleable_exception(exc)
        kind = type(exc)
        module = kind.__module__
        if module == wire.OUR_EXCEPTIONS_MODULE:
            module = wire.CELERY_EXCEPTIONS_MODULE
        args = tuple(arg if self._can_encode(arg) else safe_repr(arg) for arg in exc.args)
        return {'exc_type': kind.__qualname__, 'exc_message': args, 'exc_module': module}

    def _can_encode(self, value: Any) -> bool:
        try:
            self.encode(value)
        except Exception:  # whatever a serializer may raise for what it cannot write
            return False
        return True

    def exception_to_python(self, exc: Any) -> BaseException | None:
        """The exception that stored data describes. One that is not loaded here, or would end a process, is made up by
        its name. Raises `SecurityError` for what is no exception class, `ValueError` and `TypeError` for what describes
        nothing."""
        if not exc:
            return None
        if isinstance(exc, UnpickleableExceptionWrapper):
            return exc.restore()
        if isinstance(exc, BaseException):
            return exc
        try:
            described = dict(exc)
        except (TypeError, ValueError) as error:
            raise TypeError(f'A stored exception must be an exception or a mapping, not {exc!r}') from error
        if 'exc_type' not in described:
            raise ValueError('A stored exception must have an exc_type')
        kind = _find_exception_class(described.get('exc_module'), described['exc_type'])
        message = described.get('exc_message', '')
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            # Never call it: whoever can write to the store could have any function run here.
            named = '.'.join(filter(None, (described.get('exc_module'), described['exc_type'])))
            raise SecurityError(f'Expected an exception class, got {named}')
        if not issubclass(kind, Exception):
            kind = create_exception_cls(kind.__name__, kind.__module__)
        try:
            return kind(*message) if isinstance(message, (tuple, list)) else kind(message)
        except Exception:  # a class whose constructor wants something else
            return Exception(f'{kind}({message})')


def unreadable(task_id: str, exc: Exception) -> Exception:
    """What a reader of the result of that task, or group, is told instead of `exc`."""
    if isinstance(exc, (ContentDisallowed, SecurityError, UnreadableResult)):
        return exc
    return UnreadableResult(f'What is stored of {task_id} is no result: {exc!r:.500}', task_id=task_id)


def _decode_json(read: Callable[[], str]) -> Any:
    try:
        payload = read()
        return (_json_decode_typed if '__type__' in payload else _json_decode_plain)(payload)
    except Exception as exc:
        raise DecodeError(str(exc)) from exc


def _find_exception_class(module: str | None, name: str) -> Any:
    if module == wire.CELERY_EXCEPTIONS_MODULE and hasattr(exceptions, name):
        return getattr(exceptions, name)
    try:
        return attrgetter(name)(sys.modules[module or ''])
    except (KeyError, AttributeError):
        return create_exception_cls(name, wire.CELERY_EXCEPTIONS_MODULE)


def create_exception_cls(name: str, module: str, parent: type[BaseException] | None = None) -> type[BaseException]:
    """A new exception class of that name, as if it were defined in `module`."""
    return type(name, (parent or Exception,), {'__module__': module})


class UnpickleableExceptionWrapper(Exception):
    """Stands in a pickled result for an exception that cannot be pickled."""

    def __init__(self, exc_module: str, exc_cls_name: str, exc_args: Iterable[Any], text: str | None = None) -> None:
        self.exc_module = exc_module
        self.exc_cls_name = exc_cls_name
        self.exc_args = tuple(arg if _survives_pickle(arg) else safe_repr(arg) for arg in exc_args)
        self.text = text
        super().__init__(exc_module, exc_cls_name, self.exc_args, text)

    def restore(self) -> BaseException:
        """An exception of the same name and arguments."""
        return create_exception_cls(self.exc_cls_name, self.exc_module)(*self.exc_args)

    def __str__(self) -> str:
        return self.text or ''


def get_pickleable_exception(exc: BaseException) -> BaseException:
    """`exc` if it can be pickled, else as its nearest base that can, else wrapped."""
    if _survives_pickle(exc):
        return exc
    for base in type(exc).__mro__:
        if base in (Exception, BaseException, object):
            break
        try:
            nearest = base(*exc.args)
        except Exception:  # this base wants other arguments; the next may not
            continue
        if _survives_pickle(nearest):
            return nearest  # type: ignore[no-any-return]
    wrapped = UnpickleableExceptionWrapper(type(exc).__module__, type(exc).__name__, exc.args, safe_repr(exc))
    return wrapped.with_traceback(exc.__traceback__)


def _survives_pickle(value: Any) -> bool:
    try:
        pickle.loads(pickle.dumps(value))
    except Exception:  # anything may be raised by the reduction code of a user's class
        return False
    return True
