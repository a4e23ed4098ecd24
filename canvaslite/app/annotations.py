"""``task_annotations``: attributes of tasks that the configuration sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from canvaslite.utils.imports import instantiate


def resolve_annotations(setting: Any, task: Any) -> Iterator[Mapping[str, Any]]:
    """What the setting says for `task`, in its order.

    An annotation is a mapping of task names (``'*'`` for all) to attributes, or an object (or the qualified name of
    its class) with ``annotate(task)`` and ``annotate_any()``. For all tasks comes after for this one, as in Celery.
    """
    annotations = setting if isinstance(setting, (list, tuple)) else (setting,) if setting else ()
    for annotation in annotations:
        if isinstance(annotation, Mapping):
            found = [annotation.get(task.name), annotation.get('*')]
        else:
            source = instantiate(annotation) if isinstance(annotation, str) else annotation
            found = [source.annotate(task), source.annotate_any()]
        yield from (attributes for attributes in found if attributes)
