"""`Settings`: the configuration of an app, as ``app.conf``.

Four layers, the strongest first: what the program set (`changes`), what ``app.add_defaults`` gave, what the
configuration source says, and the defaults. They are merged once, when the first setting is read; from then on
each setting is a plain attribute of the object, because publishing and the worker read settings for every message.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from canvaslite.app.defaults import DEFAULTS, SETTINGS
from canvaslite.app.names import nearest_name, setting_name, warn_of_unknown
from canvaslite.app.values import check_value
from canvaslite.utils.redact import censor
from canvaslite.utils.text import pretty

__all__ = ('Settings',)

Layer = dict[str, Any]


class Settings(MutableMapping[str, Any]):
    """The settings of one app, as attributes and as a mapping.

    `load` is called when the first setting is read and returns what the configuration source says; what is set
    before stays and is stronger. `after` is called when that is done.
    """

    __slots__ = ('__dict__', '__weakref__', '_added', '_after', '_changes', '_defaults', '_load', '_loading', '_lock',
                 '_observers', '_prefix', '_source')

    _added: list[Layer]
    _changes: Layer
    #: This app's own copies of the defaults, as ``conf.beat_schedule[...] = ...`` changes them in place.
    _defaults: Layer
    _load: Callable[[], Mapping[str, Any]]
    _after: Callable[[], None] | None
    _observers: list[Callable[[], None]]
    _loading: bool
    _lock: threading.RLock
    _prefix: str
    #: What the configuration source says; None until it was read.
    _source: Layer | None

    def __init__(self, load: Callable[[], Mapping[str, Any]] = dict, after: Callable[[], None] | None = None,
                 namespace: str | None = None, changes: Mapping[str, Any] | None = None) -> None:
        store = object.__setattr__
        store(self, '_load', load)
        store(self, '_after', after)
        store(self, '_observers', [])
        store(self, '_loading', False)
        store(self, '_lock', threading.RLock())
        store(self, '_added', [])
        store(self, '_changes', {})
        store(self, '_defaults', {name: _own(default) for name, default in DEFAULTS.items()})
        store(self, '_source', None)
        store(self, '_prefix', '')
        self.set_namespace(namespace)
        self.update(changes or {})

    # -- reading ------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        # Only asked for what is no attribute: a setting before they are loaded, or by another name, or unknown.
        if name.startswith('_'):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(self._describe_missing(name)) from None

    def __getitem__(self, key: str) -> Any:
        if self._source is None:
            early = self._read()
            if early is not None:
                return early[self._name(key)]
        values = self.__dict__
        return values[key] if key in values else values[self._name(key)]

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        self._read()
        return key in self.__dict__ or (isinstance(key, str) and self._name(key) in self.__dict__)

    def __iter__(self) -> Iterator[str]:
        self._read()
        return iter(tuple(self.__dict__))

    def __len__(self) -> int:
        self._read()
        return len(self.__dict__)

    def first(self, *keys: str) -> Any:
        """The first of these settings that is not None."""
        return next((value for value in map(self.get, keys) if value is not None), None)

    def get_by_parts(self, *parts: str) -> Any:
        """The setting whose name is `parts` joined: ``get_by_parts('worker', 'pool')``."""
        return self['_'.join(part for part in parts if part)]

    def value_set_for(self, key: str) -> bool:
        """Whether anybody set this setting, be it to its default."""
        self._read()
        name = self._name(key)
        return any(name in layer for layer in self._layers())

    # -- writing ------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __setitem__(self, key: str, value: Any) -> None:
        self._put(self._changes, key, value)
        if self._source is not None:
            self._merge()

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set settings from a mapping, from pairs, from keyword arguments."""
        changes: Layer = {}
        for key, value in dict(*args, **kwargs).items():
            self._put(changes, key, value)
        self._changes.update(changes)
        if self._source is not None:
            self._merge()

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(self._describe_missing(name)) from None

    def __delitem__(self, key: str) -> None:
        """Take back what the program set; the configuration source or the default is in effect again."""
        del self._changes[self._name(key)]
        if self._source is not None:
            self._merge()

    def pop(self, key: str, *default: Any) -> Any:
        """Take back what the program set, and return it."""
        name = self._name(key)
        if name not in self._changes and default:
            return default[0]
        value = self._changes[name]
        del self[name]
        return value

    def clear(self) -> None:
        """Take back all that the program set."""
        self._changes.clear()
        if self._source is not None:
            self._merge()

    def add_defaults(self, values: Any) -> None:
        """Add values that are weaker than what the program set, and stronger than the configuration source."""
        layer: Layer = {}
        for key, value in dict(values).items():
            self._put(layer, key, value)
        self._added.insert(0, layer)
        if self._source is not None:
            self._merge()

    def _put(self, layer: Layer, key: str, value: Any, warn: bool = True) -> None:
        name = self._name(key)
        if name in SETTINGS:
            layer[name] = check_value(SETTINGS[name], value)
            return
        if warn:
            warn_of_unknown(name)
        if not hasattr(type(self), name):  # ``conf.update = 1`` must not take the method away
            layer[name] = value

    # -- layers -------------------------------------------------------------------------------------------

    @property
    def changes(self) -> Layer:
        """What the program set, without defaults and configuration source."""
        return self._changes

    @property
    def loaded(self) -> bool:
        """Whether the configuration source was read."""
        return self._source is not None

    def finalize(self) -> Settings:
        """Read the configuration source now, if it was not read."""
        self._read()
        return self

    def forget_source(self, changes: Mapping[str, Any]) -> None:
        """Read the source again when the next setting is read; `changes` replace what the program set."""
        object.__setattr__(self, '_source', None)
        self._changes.clear()
        self.update(changes)

    def set_namespace(self, namespace: str | None) -> None:
        """Accept settings as ``NAMESPACE_NAME`` as well."""
        object.__setattr__(self, '_prefix', f'{namespace.rstrip("_")}_' if namespace else '')

    def _read(self) -> Layer | None:
        """Load if needed. What is known so far, where loading itself asks for a setting; else None."""
        if self._source is not None:
            return None
        with self._lock:
            if self._loading:
                return {**self._defaults, **self._changes}
            if self._source is not None:
                return None
            self._load_source()
        # Without the lock: what is done now may wait for a thread that wants a setting.
        if self._after is not None:
            self._after()
        return None

    def _load_source(self) -> None:
        object.__setattr__(self, '_loading', True)
        try:
            source: Layer = {}
            for key, value in self._load().items():
                self._put(source, key, value, warn=False)  # the source's reader knows what to warn of
            object.__setattr__(self, '_source', source)
        finally:
            object.__setattr__(self, '_loading', False)
        self._merge()

    def _layers(self) -> Iterable[Layer]:
        """From the strongest to the weakest, without the defaults."""
        return (self._changes, *self._added, self._source or {})

    def _merge(self) -> None:
        values = dict(self._defaults)
        for layer in reversed(tuple(self._layers())):
            values.update(layer)
        _apply_environment(values)
        _derive(values)
        # Never cleared: another thread may be reading.
        self.__dict__.update(values)
        for name in self.__dict__.keys() - values.keys():
            del self.__dict__[name]
        for observer in self._observers:
            observer()

    def bind_to(self, callback: Callable[[], None]) -> None:
        """Call `callback` after settings changed: for who keeps something that was made from them."""
        self._observers.append(callback)

    def _name(self, key: str) -> str:
        return setting_name(key, self._prefix) or key

    def _describe_missing(self, name: str) -> str:
        near = nearest_name(name)
        return f'there is no setting {name!r}' + (f', did you mean {near!r}?' if near else '')

    # -- showing ------------------------------------------------------------------------------------------

    def without_defaults(self) -> Layer:
        """What anybody set."""
        self._read()
        found: Layer = {}
        for layer in reversed(tuple(self._layers())):
            found.update(layer)
        return found

    def table(self, with_defaults: bool = False, censored: bool = True) -> Layer:
        """The settings as a dict, secrets masked unless `censored` is false."""
        values = dict(self) if with_defaults else self.without_defaults()
        return censor(values) if censored else values

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """The settings as text for people, one ``name: value`` a line."""
        return '\n'.join(f'{name}: {pretty(value, width=50)}'
                         for name, value in self.table(with_defaults, censored).items())

    def copy(self) -> Settings:
        """Settings of the same values that can be changed apart."""
        self._read()
        made = Settings(changes=self._changes)
        object.__setattr__(made, '_added', [dict(layer) for layer in self._added])
        object.__setattr__(made, '_source', dict(self._source or {}))
        object.__setattr__(made, '_prefix', self._prefix)
        made._merge()
        return made

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Settings:
        return self.copy()

    def __repr__(self) -> str:
        return f'<Settings: {self.table()!r}>' if self.loaded else '<Settings: not loaded yet>'


#: Environment variables that are stronger than any setting, as in Celery.
_ENVIRONMENT = {
    'CELERY_BROKER_URL': 'broker_url',
    'CELERY_BROKER_READ_URL': 'broker_read_url',
    'CELERY_BROKER_WRITE_URL': 'broker_write_url',
    'CELERY_RESULT_BACKEND': 'result_backend',
}


def _apply_environment(values: Layer) -> None:
    for variable, name in _ENVIRONMENT.items():
        if os.environ.get(variable):
            values[name] = os.environ[variable]


def _derive(values: Layer) -> None:
    """Settings whose default is another setting's value."""
    values['broker_url'] = values['broker_url'] if values['broker_url'] is not None else values['broker_host']
    values['broker_read_url'] = values['broker_read_url'] or values['broker_url']
    values['broker_write_url'] = values['broker_write_url'] or values['broker_url']
    for name in ('task_default_exchange', 'task_default_routing_key'):
        if values[name] is None:
            values[name] = values['task_default_queue']


def _own(default: Any) -> Any:
    return copy.copy(default) if isinstance(default, dict) else default
