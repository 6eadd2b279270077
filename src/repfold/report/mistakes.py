"""The worst mistakes of a run, as its ``mistakes.json`` has them: names, probabilities, and small pictures."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# What a picture may be, by its first bytes. Nothing else gets into a page.
_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_MOST_SHOWN = 64
_MOST_CHARACTERS = 60_000  # of one picture


@dataclass(frozen=True)
class Mistake:
    """One image that was taken for another class; ``picture`` and ``map`` (laid over it) are data: URLs."""

    name: str
    true: str
    predicted: str
    true_probability: float
    probability: float
    picture: str
    map: str | None


@dataclass(frozen=True)
class Mistakes:
    """``wrong`` of ``images`` that were looked at, of ``of`` that there are; the worst and the most confident ones.

    ``repeated``: how many of the most confident mistakes are among the worst, and are not listed again.
    """

    images: int
    of: int
    wrong: int
    worst: tuple[Mistake, ...]
    most_confident: tuple[Mistake, ...]
    repeated: int


def mistakes_of(content: Any) -> Mistakes:
    """Return what a ``mistakes.json`` says.

    Raises: ValueError, TypeError or KeyError when it is not as written by ``repfold.deploy.mistakes``.
    """
    classes = [str(name) for name in content["classes"]]
    shown = [_mistake(one, classes) for one in content["shown"][:_MOST_SHOWN]]
    worst, confident = _indices(content["worst"], len(shown)), _indices(content["most_confident"], len(shown))
    new = [index for index in confident if index not in worst]
    return Mistakes(
        images=int(content["images"]),
        of=int(content["of"]),
        wrong=int(content["wrong"]),
        worst=tuple(shown[index] for index in worst),
        most_confident=tuple(shown[index] for index in new),
        repeated=len(confident) - len(new),
    )


def _mistake(content: Any, classes: Sequence[str]) -> Mistake:
    true, predicted = int(content["true"]), int(content["predicted"])
    if not (0 <= true < len(classes) and 0 <= predicted < len(classes)):
        raise ValueError("a class that is not named")
    return Mistake(
        name=str(content["name"]),
        true=classes[true],
        predicted=classes[predicted],
        true_probability=_probability(content["true_probability"]),
        probability=_probability(content["probability"]),
        picture=_url(content["picture"]),
        map=None if content["map"] is None else _url(content["map"]),
    )


def _indices(content: Any, of: int) -> list[int]:
    indices = [int(index) for index in content]
    if any(not 0 <= index < of for index in indices):
        raise ValueError("a mistake that is not there")
    return indices


def _probability(value: Any) -> float:
    if not 0 <= float(value) <= 1.0001:
        raise ValueError(f"a probability of {float(value):g}")
    return min(1.0, float(value))


def _url(encoded: Any) -> str:
    if not isinstance(encoded, str) or len(encoded) > _MOST_CHARACTERS:
        raise ValueError("a picture that is none, or too large")
    try:
        content = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError("a picture that is no base64") from error
    kind = next((kind for start, kind in _KINDS.items() if content.startswith(start)), None)
    if kind is None:
        raise ValueError("a picture that is neither PNG nor JPEG")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
