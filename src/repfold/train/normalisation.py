"""What pixels are normalised with: text of a recipe, and the mean and deviation that it stands for."""

from __future__ import annotations

from dataclasses import dataclass

from repfold import specs
from repfold.errors import RepFoldError

# Of ImageNet's training images, with which most published weights were trained; of pixels scaled to 0..1.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Normalisation:
    """``fixed``: mean and deviation of each channel; None: those of the training images.

    ``prefer_pretrained``: unless the run starts from weights of which they are known.
    """

    fixed: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    prefer_pretrained: bool = False


_NAMED = {
    "auto": Normalisation(prefer_pretrained=True),
    "data": Normalisation(),
    "imagenet": Normalisation(IMAGENET),
}


def parse(text: str) -> Normalisation:
    """Read "auto", "data", "imagenet", or the means, a comma and the deviations, each with slashes between channels.

    Raises: RepFoldError for anything else, and for deviations that are not above 0.
    """
    if text in _NAMED:
        return _NAMED[text]
    try:
        mean, std = (tuple(float(value) for value in part.split("/")) for part in specs.split(text, ","))
    except (ValueError, RepFoldError):
        mean, std = (), ()
    if not mean or len(mean) != len(std) or not all(0 <= m <= 1 for m in mean) or not all(0 < s <= 1 for s in std):
        raise RepFoldError(
            f"normalise is '{text:.80}': give auto, data, imagenet, or the mean and the deviation of each channel, of "
            "pixels from 0 to 1, as 0.485/0.456/0.406,0.229/0.224/0.225."
        )
    return Normalisation((mean, std))
