"""What a bug report should say."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from canvaslite.current import app_or_default
from canvaslite.utils.redact import mask_url
from canvaslite.version import __version__

__all__ = ('bugreport',)

_PACKAGES = ('kombu', 'amqp', 'billiard', 'redis', 'sqlalchemy')


def bugreport(app: Any = None) -> str:
    """Versions, platform, and settings of `app` (default: the current one), secrets masked."""
    app = app_or_default(app)
    conf = app.conf
    packages = ' '.join(f'{name}:{found}' for name in _PACKAGES if (found := _version_of(name)))
    return '\n'.join((
        '',
        f'software -> canvaslite:{__version__} py:{platform.python_version()} {packages}',
        f'platform -> system:{platform.system()} arch:{", ".join(filter(None, platform.architecture()))}',
        f'            kernel version:{platform.release()} imp:{platform.python_implementation()}',
        f'settings -> broker:{mask_url(conf.broker_url) or "amqp://"} '
        f'results:{mask_url(conf.result_backend) or "disabled"}',
        '',
        conf.humanize(),
        '',
    ))


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
