"""Reading what Celery before 5.7 pickled into the result column, without running whatever a pickle may ask for.

Those releases pickled each result, also where the serializer is JSON. It is read only with ``pickle`` among the
accepted contents. A pickle can call any function; here it may only build plain data and exceptions. Who needs more says
so: with ``result_serializer = 'pickle'`` rows are unpickled without this restriction.
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

from canvaslite import exceptions, wire
from canvaslite.exceptions import SecurityError

#: What may be built besides exceptions, by module.
PLAIN = {
    'builtins': ('set', 'frozenset', 'complex', 'bytearray', 'range', 'slice', 'object'),
    'collections': ('OrderedDict', 'defaultdict', 'deque', 'Counter'),
    'datetime': ('datetime', 'date', 'time', 'timedelta', 'timezone'),
    'decimal': ('Decimal',), 'fractions': ('Fraction',), 'uuid': ('UUID', 'SafeUUID'),
    'copyreg': ('_reconstructor',), '_codecs': ('encode',),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in PLAIN.get(module, ()):
            return super().find_class(module, name)
        # Only from what is loaded already: importing a module runs it.
        found = getattr(exceptions if module == wire.CELERY_EXCEPTIONS_MODULE else sys.modules.get(module), name, None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
        raise SecurityError(f'A stored result was pickled and holds a {module}.{name}, which is not built here; '
                            "if you trust the database, set result_serializer = 'pickle' to read it")


def unpickle_plain(payload: bytes) -> Any:
    """The plain data or exception in `payload`. Raises `SecurityError` for anything else."""
    return _PlainUnpickler(io.BytesIO(payload)).load()
