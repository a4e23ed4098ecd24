"""Canvases as text for people."""

from __future__ import annotations

import re
from typing import Any

__all__ = ('repr_steps', 'repr_group', 'repr_chord')


def repr_steps(chain: Any) -> str:
    """``proj.add(2, 2) | add(4)``"""
    steps = chain['kwargs']['tasks']
    if not steps:
        return f'<{type(chain).__name__}@{id(chain):#x}: empty>'
    return _name_module_once(steps[0], ' | '.join(map(repr, steps)))


def repr_group(group: Any) -> str:
    """``group([proj.add(2, 2), add(4, 4)])``"""
    members = group['kwargs']['tasks']
    return _name_module_once(members[0], f'group({members!r})') if members else 'group(<empty>)'


def repr_chord(chord: Any) -> str:
    """``%proj.total([add(2, 2), add(4, 4)])``"""
    header, body = chord['kwargs']['header'], chord.body
    if not body:
        return f'<chord without body: {header!r}>'
    if body.KIND != 'chain' or not body['kwargs']['tasks']:
        return '%' + _name_module_once(body, body.reprcall(header))
    first, *rest = body['kwargs']['tasks']
    return _name_module_once(first, f'%({" | ".join([first.reprcall(header), *map(repr, rest)])})')


def _name_module_once(first: Any, text: str) -> str:
    """`text` without the module of the task `first`, except where it stands first."""
    module = str(first['task']).rpartition('.')[0]
    if not module:
        return text
    name = re.compile(rf'(?<![\w.-]){re.escape(module)}\.')
    begin = name.search(text)
    return text[:begin.end()] + name.sub('', text[begin.end():]) if begin else text
