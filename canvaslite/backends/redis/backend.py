"""`RedisBackend` and `SentinelBackend`."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kombu.utils.encoding import bytes_to_str, ensure_bytes
from kombu.utils.imports import symbol_by_name
from kombu.utils.objects import cached_property
from kombu.utils.url import maybe_sanitize_url

from canvaslite import states
from canvaslite.backends import chords
from canvaslite.backends.base import AsyncBackendMixin, BaseKeyValueStoreBackend
from canvaslite.backends.redis import parameters, scripts
from canvaslite.backends.redis.canvases import RedisCanvases
from canvaslite.backends.redis.consumer import ResultConsumer as _ResultConsumer
from canvaslite.backends.redis.join import RedisJoin
from canvaslite.backends.redis.link import CONNECTION_ERRORS, Link, logger, redis
from canvaslite.exceptions import BackendError, BackendStoreError
from canvaslite.utils.redact import redact

#: What a stored success begins with, in JSON: it tells the server not to overwrite it. Celery writes it alike.
_JSON_SUCCESS = b'{"status": "SUCCESS"'
_JSON_ENDED = b'{"status": "[SFR][UAE][CIV]'  # SUCCESS, FAILURE or REVOKED, and no other


class RedisBackend(BaseKeyValueStoreBackend, AsyncBackendMixin):
    """Keeps results in Redis. `host` may be a URL; `connection_pool` is a class like redis-py's ``ConnectionPool``.
    Raises `ImproperlyConfigured` for settings that make no sense."""

    ResultConsumer = _ResultConsumer
    join: RedisJoin
    result_consumer: _ResultConsumer
    thread_safe = True
    supports_autoexpire = True
    supports_native_join = True
    supports_result_compression = True
    supports_failure_expires = True
    #: Longest value the server takes.
    max_value_size = 536870912
    max_connections: int | None = None
    #: redis-py's connections with TLS, and what reads a URL.
    _ssl_class: type[Any] = redis.SSLConnection
    _read_url = staticmethod(parameters.parameters_from_url)
    _link_class, _join_class, _canvases_class, _away = Link, RedisJoin, RedisCanvases, CONNECTION_ERRORS

    def __init__(self, host: str | None = None, port: int | None = None, db: int | None = None,
                 password: str | None = None, max_connections: int | None = None, url: str | None = None,
                 connection_pool: Any = None, **kwargs: Any) -> None:
        if host and '://' in host:
            url, host = host, None
        kwargs.setdefault('expires_type', int)
        super().__init__(**kwargs, url=url)
        conf = self.app.conf
        self.transport_options: Mapping[str, Any] = conf.get('result_backend_transport_options') or {}
        self.retry_policy = {**self.retry_policy, **(self.transport_options.get('retry_policy') or {})}
        self.failure_expires = self.prepare_expires(conf.get('result_failure_expires'), int) \
            if conf.get('result_failure_expires') is not None else self.expires
        self._pool_class = connection_pool
        self.connparams = parameters.parameters_from_settings(conf, max_connections or self.max_connections,
                                                              self._ssl_class)
        if self.url:
            self.connparams = self._read_url(self.url, self.connparams, self._ssl_class)
        parameters.check_certificate_requirement(self.connparams)
        given = {'host': host, 'port': port, 'db': db, 'password': password}
        self.connparams.update((name, value) for name, value in given.items() if value is not None)
        if self.compression and self.connparams.get('decode_responses'):
            warnings.warn('decode_responses is set for Redis: result_compression is ignored', UserWarning, stacklevel=2)
            self.compression = None
        self.connection_errors = (*self._away, *self._additional_errors())
        self.link = self._link_class(self._make_pool)
        self.join = self._join_class(self)
        self.canvases = self._canvases_class(self)
        self.result_consumer = self.ResultConsumer(self)
        self._success_mark = _JSON_SUCCESS if self._plain_json and not self.compression else b''

    # -- connections ------------------------------------------------------------------------------------------------

    def _additional_errors(self) -> Iterable[type[Exception]]:
        named = self.transport_options.get('additional_connection_errors') or ()
        for entry in (named,) if isinstance(named, (str, type)) else named:
            try:
                found = symbol_by_name(entry)
            except (ImportError, AttributeError, ValueError) as exc:
                logger.warning('result_backend_transport_options: additional_connection_errors: %r: %s', entry, exc)
                continue
            if isinstance(found, type) and issubclass(found, Exception):
                yield found
            else:
                logger.warning('result_backend_transport_options: additional_connection_errors: %r is no exception',
                               entry)

    def _make_pool(self) -> Any:
        return (self._pool_class or redis.ConnectionPool)(**self.connparams)

    @cached_property
    def client(self) -> Any:
        """A client of redis-py, for commands of your own."""
        return redis.Redis(connection_pool=self.link.pool)

    def on_after_fork(self) -> None:
        """Begin anew in a child process."""
        self.link.forget()
        self.__dict__.pop('client', None)
        super().on_after_fork()

    def close(self) -> None:
        """Close all connections; they are made again when needed."""
        self.result_consumer.stop()
        self.link.close()
        self.__dict__.pop('client', None)

    # -- commands that survive a lost connection ----------------------------------------------------------------

    def ensure(self, operation: Callable[..., Any], args: tuple[Any, ...] = ()) -> Any:
        """The result of the operation, tried again (``retry_policy``) while the server is away."""
        failures = 0
        while True:
            try:
                done = operation(*args)
                if failures:
                    self.outage.end('Redis')
                return done
            except self.connection_errors as exc:
                failures += 1
                pause = self.pause_after(exc, failures)
            time.sleep(pause)

    def pause_after(self, exc: Exception, failures: int) -> float:
        """Seconds to wait after so many failed attempts. Raises `exc` when they were enough."""
        self._raise_if_refused(exc)
        policy = self.retry_policy
        limit = policy['max_retries']
        if limit is not None and failures > limit:
            raise exc
        pause = float(min(policy['interval_start'] + (failures - 1) * policy['interval_step'], policy['interval_max']))
        # redis-py puts the whole description of a client into some errors.
        reason = str(exc).partition('\n')[0].partition(' : <')[0][:200]
        self.outage.note(logging.ERROR, 'Connection to Redis lost: Retry (%s/%s) in %.2f seconds: %s', failures,
                         limit or 'Inf', pause, reason)
        return pause

    def _raise_if_refused(self, exc: Exception) -> None:
        if any(isinstance(error, redis.exceptions.AuthenticationError) for error in (exc, exc.__cause__)):
            raise BackendError(f'result_backend: {self.as_uri()} refused the connection ({exc}): '
                               'check its user and password') from None

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Whether the server may answer later."""
        return isinstance(exc, self.connection_errors)

    def run_command(self, *command: bytes) -> Any:
        """The reply to a command."""
        return self.ensure(self.link.call, command)

    def run_script(self, script: scripts.Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        """The reply of a script."""
        return self.ensure(self.link.run, (script, keys, args))

    def _ask(self, *command: bytes) -> Any:
        return self._once_more(self.link.call, *command)

    def ask(self, script: scripts.Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        """The reply of a script that changes nothing."""
        return self._once_more(self.link.run, script, keys, args)

    def _once_more(self, question: Callable[..., Any], *args: Any) -> Any:
        # Asked again once, for a connection that was closed while nobody used it. More would keep a caller with a
        # timeout of its own waiting.
        try:
            return question(*args)
        except self.connection_errors as exc:
            self._raise_if_refused(exc)
            return question(*args)

    # -- keys and values ------------------------------------------------------------------------------------------

    def get_key_for_task(self, task_id: Any, key: Any = '') -> Any:
        """The key of a task's result."""
        if task_id.__class__ is str and task_id and not key:
            return self.task_keyprefix + task_id.encode()
        return super().get_key_for_task(task_id, key)

    def encode_bytes(self, data: Any) -> bytes:
        """`data` encoded, as bytes."""
        payload = self.encode(data)
        return payload.encode() if payload.__class__ is str else payload

    def get(self, key: Any) -> Any:
        """The value of `key`, or None."""
        return self._ask(b'GET', ensure_bytes(key))

    def mget(self, keys: Iterable[Any]) -> Any:
        """The values of `keys`."""
        return self._ask(b'MGET', *map(ensure_bytes, keys))

    def set(self, key: Any, value: Any, expires: int | None = None) -> Any:
        """Keep `value` for `expires` seconds (``result_expires`` by default), and publish it."""
        stored = self._stored_form(ensure_bytes(value), self.expires if expires is None else expires, b'')
        self.run_script(scripts.STORE, (ensure_bytes(key),), stored)

    def _stored_form(self, value: bytes, expires: float | None, final_mark: bytes) -> tuple[bytes, bytes, bytes]:
        if len(value) > self.max_value_size:
            raise BackendStoreError('value too large for Redis backend')
        return value, b'%d' % (expires or 0), final_mark

    def delete(self, key: Any) -> Any:
        """Remove `key`."""
        return self.run_command(b'DEL', ensure_bytes(key))

    # -- results ----------------------------------------------------------------------------------------------------

    def _store_result(self, task_id: str, result: Any, state: str, traceback: str | None = None,
                      request: Any = None, **kwargs: Any) -> Any:
        stored = self._form_of_result(task_id, result, state, traceback, request)
        if stored is not None:
            self.run_script(scripts.STORE, (self.get_key_for_task(task_id),), stored)
        return result

    def _form_of_result(self, task_id: str, result: Any, state: str, traceback: str | None,
                        request: Any) -> tuple[bytes, bytes, bytes] | None:
        """What the scripts want for keeping a result; None if it must not replace what is there."""
        key = self.get_key_for_task(task_id)
        if not self._success_mark and states.is_final(self._state_in(self.get(key)), state):
            return None
        meta = self._get_result_meta(result, state, traceback, request)
        meta['task_id'] = bytes_to_str(task_id)
        expires = self.failure_expires if state == states.FAILURE else self.expires
        mark = _JSON_ENDED if self._success_mark and state == states.RETRY else self._success_mark
        return self._stored_form(self.encode_bytes(meta), expires, mark)

    def keep_and_count(self, task_id: str, result: Any, state: str, traceback: str | None, request: Any,
                       store: bool) -> None:
        """Store a final outcome and count it in its chord, in one step."""
        part = None
        if chords.is_part(request) and self._joins_by_script:
            part = chords.part_of(self, request, state, result)
        if part is None:
            super().keep_and_count(task_id, result, state, traceback, request, store)
            return
        stored = self._form_of_result(task_id, part.result, state, traceback, request) if store else None
        chords.act_on_part(self, self.join, part, self.join.keep_and_count(part, stored), request)

    @cached_property
    def _joins_by_script(self) -> bool:
        # A class of the user's own that changes a step must see its steps called.
        kind = type(self)
        return (kind.on_chord_part_return is RedisBackend.on_chord_part_return
                and kind._store_result is RedisBackend._store_result
                and kind.store_result is RedisBackend.store_result)

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), 'expires': self.expires, 'url': self.url})


class SentinelBackend(RedisBackend):
    """Keeps results in the Redis master that sentinels name: ``sentinel://host:port/db;sentinel://host2:port/db``.
    ``result_backend_transport_options``: ``master_name``, ``min_other_sentinels``, ``sentinel_kwargs``."""

    _ssl_class = redis.sentinel.SentinelManagedSSLConnection
    _read_url = staticmethod(parameters.sentinel_parameters)

    def as_uri(self, include_password: bool = False) -> str:
        """The sentinels' addresses, passwords masked unless `include_password`."""
        if include_password:
            return self.url or ''
        separator = parameters.SENTINEL_SEPARATOR
        masked = (redact(maybe_sanitize_url(chunk)) for chunk in (self.url or '').split(separator))
        return separator.join(uri[:-1] if uri.endswith(':///') else uri for uri in masked)

    def _make_pool(self) -> Any:
        connparams = dict(self.connparams)
        hosts = connparams.pop('hosts')
        options = self.transport_options
        sentinel = redis.sentinel.Sentinel(
            [(host['host'], host['port']) for host in hosts],
            min_other_sentinels=options.get('min_other_sentinels', 0),
            sentinel_kwargs=options.get('sentinel_kwargs', {}), **connparams)
        credentials = {name: connparams[name] for name in ('username', 'password') if connparams.get(name)}
        return sentinel.master_for(service_name=options.get('master_name'), redis_class=redis.Redis,
                                   **credentials).connection_pool
