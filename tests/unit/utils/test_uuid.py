from __future__ import annotations

import uuid as standard

from canvaslite.utils.uuid import uuid


def test_an_id_is_a_random_uuid() -> None:
    made = [uuid() for _ in range(200)]
    assert len(set(made)) == 200
    for text in made:
        parsed = standard.UUID(text)
        assert str(parsed) == text
        assert parsed.version == 4 and parsed.variant == standard.RFC_4122
