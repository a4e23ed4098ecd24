"""`Settings`: the configuration of an app, as ``app.conf``.

Four layers, the strongest first: what the program set (`changes`), what ``app.add_defaults`` gave, what the
configuration source says, and the defaults. They are merged once, when the first setting is read; from then on
each setting is a plain attribute of the object, because publishing and the worker read settings for every message.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pprint import pformat
from typing import Any

from canvaslite.app.defaults import SETTINGS
from canvaslite.app.sources import nearest_name, prefix_of, setting_name, warn_of_unknown
from canvaslite.utils.redact import censor

Layer = dict[str, Any]


class Settings(MutableMapping[str, Any]):
    """The settings of one app, as attributes and as a mapping.

    `load` is called when the first setting is read and returns what the configuration source says; what is set
    before stays and is stronger. `after` is called when that is done.
    """

    __slots__ = ('__dict__', '__weakref__', '_added', '_after', '_changes', '_defaults', '_load', '_loading', '_lock',
                 '_observers', '_prefix', '_source')

    def __init__(self, load: Callable[[], Mapping[str, Any]] = dict, after: Callable[[], None] | None = None,
                 namespace: str | None = None, changes: Mapping[str, Any] | None = None) -> None:
        self._load, self._after, self._prefix = load, after, prefix_of(namespace)
        self._lock, self._loading = threading.RLock(), False
        self._observers: list[Callable[[], None]] = []
        #: What the configuration source says; None until it was read.
        self._source: Layer | None = None
        #: This app's own copies of the defaults, as ``conf.beat_schedule[...] = ...`` changes them in place.
        self._defaults = {name: copy.copy(setting.default) for name, setting in SETTINGS.items()}
        self._added: list[Layer] = []
        self._changes: Layer = {}
        self.update(changes or {})

    # -- reading ------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        # Only asked for what is no attribute: a setting before they are loaded, or by another name, or unknown.
        if name.startswith('_'):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            near = nearest_name(name)
            hint = f', did you mean {near!r}?' if near else ''
            raise AttributeError(f'there is no setting {name!r}{hint}') from None

    def __getitem__(self, key: str) -> Any:
        if self._source is None:
            early = self._read()
            if early is not None:
                return early[self._name(key)]
        values = self.__dict__
        return values[key] if key in values else values[self._name(key)]

    def __iter__(self) -> Iterator[str]:
        self._read()
        return iter(tuple(self.__dict__))

    def __len__(self) -> int:
        self._read()
        return len(self.__dict__)

    def value_set_for(self, key: str) -> bool:
        """Whether anybody set this setting, be it to its default."""
        return self._name(key) in self.without_defaults()

    # -- writing ------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith('_'):
            super().__setattr__(name, value)
        else:
            self[name] = value

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set settings from a mapping, from pairs, from keyword arguments."""
        self._changes.update(self._checked(dict(*args, **kwargs)))
        self._merge()

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __delitem__(self, key: str) -> None:
        """Take back what the program set; the configuration source or the default is in effect again."""
        self._changes.pop(self._name(key), None)
        self._merge()

    def clear(self) -> None:
        """Take back all that the program set."""
        self._changes.clear()
        self._merge()

    def add_defaults(self, values: Any) -> None:
        """Add values that are weaker than what the program set, and stronger than the configuration source."""
        self._added.insert(0, self._checked(dict(values)))
        self._merge()

    def _checked(self, values: Mapping[str, Any], warn: bool = True) -> Layer:
        """`values` by their settings' names, as these keep them; others are warned of and kept."""
        layer: Layer = {}
        for key, value in values.items():
            name = self._name(key)
            if name in SETTINGS:
                layer[name] = SETTINGS[name].check(value)
                continue
            if warn:
                warn_of_unknown(name)
            if not hasattr(type(self), name):  # ``conf.update = 1`` must not take the method away
                layer[name] = value
        return layer

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
        self._source = None
        self._changes.clear()
        self.update(changes)

    def set_namespace(self, namespace: str | None) -> None:
        """Accept settings as ``NAMESPACE_NAME`` as well."""
        self._prefix = prefix_of(namespace)

    def _read(self) -> Layer | None:
        """Load if needed. What is known so far, where loading itself asks for a setting; else None."""
        if self._source is not None:
            return None
        with self._lock:
            if self._loading:
                return {**self._defaults, **self._changes}
            if self._source is not None:
                return None
            self._loading = True
            try:
                self._source = self._checked(self._load(), warn=False)  # the source's reader knows what to warn of
            finally:
                self._loading = False
            self._merge()
        # Without the lock: what is done now may wait for a thread that wants a setting.
        if self._after is not None:
            self._after()
        return None

    def _merge(self) -> None:
        if self._source is None:
            return
        values = {**self._defaults, **self._set_by_anybody()}
        for variable, name in _ENVIRONMENT.items():
            if os.environ.get(variable):
                values[name] = os.environ[variable]
        for name, other in _FOLLOWING.items():
            if values[name] is None or (values[name] == '' and name.startswith('broker_')):
                values[name] = values[other]
        # Never cleared: another thread may be reading.
        self.__dict__.update(values)
        for name in self.__dict__.keys() - values.keys():
            del self.__dict__[name]
        for observer in self._observers:
            observer()

    def _set_by_anybody(self) -> Layer:
        found = dict(self._source or {})
        for layer in (*reversed(self._added), self._changes):
            found.update(layer)
        return found

    def bind_to(self, callback: Callable[[], None]) -> None:
        """Call `callback` after settings changed: for who keeps something that was made from them."""
        self._observers.append(callback)

    def _name(self, key: str) -> str:
        return setting_name(key, self._prefix) or key

    # -- showing ------------------------------------------------------------------------------------------

    def without_defaults(self) -> Layer:
        """What anybody set."""
        self._read()
        return self._set_by_anybody()

    def table(self, with_defaults: bool = False, censored: bool = True) -> Layer:
        """The settings as a dict, secrets masked unless `censored` is false."""
        values = dict(sorted((self if with_defaults else self.without_defaults()).items()))
        return censor(values) if censored else values

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """The settings as text for people, one ``name: value`` a line."""
        return '\n'.join(f'{name}: {pformat(value)}' for name, value in self.table(with_defaults, censored).items())

    def copy(self) -> Settings:
        """Settings of the same values that can be changed apart."""
        self._read()
        made = Settings(changes=self._changes)
        made._added = [dict(layer) for layer in self._added]
        made._source, made._prefix = dict(self._source or {}), self._prefix
        made._merge()
        return made

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Settings:
        return self.copy()

    def __repr__(self) -> str:
        return f'<Settings: {self.table()!r}>' if self.loaded else '<Settings: not loaded yet>'


#: Environment variables that are stronger than any setting, as in Celery.
_ENVIRONMENT = {f'CELERY_{name.upper()}': name
                for name in ('broker_url', 'broker_read_url', 'broker_write_url', 'result_backend')}
#: Settings whose default is another setting's value.
_FOLLOWING = {
    'broker_url': 'broker_host', 'broker_read_url': 'broker_url', 'broker_write_url': 'broker_url',
    'task_default_exchange': 'task_default_queue', 'task_default_routing_key': 'task_default_queue',
}
