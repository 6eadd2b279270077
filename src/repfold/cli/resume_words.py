"""``--resume`` as people write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

Resume = Literal["no", "yes", "auto"]


def spell_resume(words: Sequence[str]) -> list[str]:
    """Return the words with a bare ``--resume`` as ``--resume yes``: flags of the parser have a value, or none."""
    spelled: list[str] = []
    for word, following in zip(words, [*words, ""][1:], strict=True):
        plain = {"--no-resume": ["--resume", "no"], "--resume": ["--resume", "yes"]}.get(word, [word])
        spelled += [word] if word == "--resume" and following in get_args(Resume) else plain
    return spelled
