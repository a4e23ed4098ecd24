"""Say what to run: signatures of tasks, and the canvases made of them.

`signatures` a task call; `stamping` headers that go with it; `members`, `parts`, `steps` what canvases consist of and
how ``|`` composes them; `chains`, `groups`, `chords`, `mapping` the canvases; `freezing` what is fixed before one runs;
`strict` what a setting makes of their options and links.
Celery's public names, and the private ones that its users are seen to import, are all here.
"""

from __future__ import annotations

from canvaslite.canvas.chains import _chain, chain
from canvaslite.canvas.chords import _chord, chord
from canvaslite.canvas.groups import group
from canvaslite.canvas.mapping import _basemap, chunks, starmap, xmap, xstarmap
from canvaslite.canvas.members import maybe_unroll_group
from canvaslite.canvas.signatures import Signature, maybe_signature, maybe_subtask, signature, subtask
from canvaslite.canvas.stamping import StampingVisitor

__all__ = (
    'Signature', 'signature', 'maybe_signature', 'subtask', 'maybe_subtask',
    'chain', 'group', 'chord', 'chunks', 'starmap', 'xmap', 'xstarmap', 'StampingVisitor',
    '_chain', '_chord', '_basemap', 'maybe_unroll_group',
)
