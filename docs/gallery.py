"""Draw docs/gallery.svg: every block's branches and the one convolution that they become, as the fold computes it.

    python docs/gallery.py

A branch's kernel is the difference that it makes to the fold: the fold of the whole block, less the fold of the block
whose branch is silenced. The drawing is of real blocks with random weights and statistics; what is drawn adds up.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import repfold
from repfold import atomic
from repfold.algebra import AffineConv, Geometry, regroup
from repfold.algebra.geometry import Axis
from repfold.blocks import BLOCKS
from repfold.report.gallery import Equation, Kernel, gallery

CHANNELS, SIZE = 3, 3
EXPANSION = 2


@dataclass(frozen=True)
class Entry:
    """A block of the gallery; ``branches`` are (caption, parameters to silence), None for what the others leave."""

    title: str
    formula: str
    branches: tuple[tuple[str, str | None], ...]
    options: tuple[tuple[str, Any], ...] = ()


ENTRIES: dict[str, Entry] = {
    "repvgg": Entry(
        "RepVGG",
        "BN(3x3) + BN(1x1) + BN",
        (("3x3, BN", "kxk.norm"), ("1x1, BN", "point.norm"), ("identity, BN", "identity")),
    ),
    "acb": Entry(
        "ACB",
        "BN(3x3) + BN(3x1) + BN(1x3)",
        (("3x3, BN", "square.norm"), ("3x1, BN", "column.norm"), ("1x3, BN", "row.norm")),
    ),
    "dbb": Entry(
        "DBB",
        "BN(3x3) + BN(1x1) + BN(3x3(BN(1x1))) + BN(average(BN(1x1)))",
        (
            ("3x3, BN", "kxk.norm"),
            ("1x1, BN", "point.norm"),
            ("1x1, BN, 3x3, BN", "point_kxk.norm"),
            ("1x1, BN, average, BN", "average.norm"),
        ),
    ),
    "mobileone": Entry(
        "MobileOne",
        "BN(3x3) + ... + BN(3x3) + BN(1x1) + BN, here with two 3x3",
        (("3x3, BN", "kxk.0.norm"), ("3x3, BN", "kxk.1.norm"), ("1x1, BN", "point.norm"), ("identity, BN", "identity")),
        (("branches", 2),),
    ),
    "qarepvgg": Entry(
        "QARepVGG",
        "BN(BN(3x3) + 1x1 + identity)",
        (("3x3, BN, BN", "kxk.norm"), ("1x1, BN", "point"), ("identity, BN", None)),
    ),
    "repghost": Entry(
        "RepGhost", "BN(depthwise 3x3) + BN", (("depthwise, BN", "kxk.norm"), ("identity, BN", "identity"))
    ),
    "csla": Entry(
        "CSLA",
        "s·3x3 + t·1x1 + u·identity, s and t constant",
        (("s·3x3", "kxk"), ("t·1x1", "point"), ("u·identity", "identity_scale_O11")),
        (("kxk_scale", 0.8), ("point_scale", 0.5)),
    ),
    "doconv": Entry("DO-Conv", "W + D∘W, taps mixed in every input channel", (("W", None), ("D∘W", "depthwise"))),
    "dirac": Entry("Dirac", "α·δ + β·W/‖W‖", (("α·δ", "alpha"), ("β·W/‖W‖", "beta"))),
}


def equation(name: str) -> Equation:
    """The block's branches and its fold."""
    entry = ENTRIES[name]
    torch.manual_seed(0)
    block = randomised(BLOCKS[name](CHANNELS, CHANNELS, kernel_size=SIZE, **dict(entry.options)))
    whole_OIHW = folded(block)
    named = [path for _, path in entry.branches if path is not None]
    parts = []
    for caption, path in entry.branches:
        part = folded(silenced(block, *named)) if path is None else whole_OIHW - folded(silenced(block, path))
        parts.append(Kernel(caption, part))
    return Equation(entry.title, entry.formula, tuple(parts), Kernel("one 3x3", whole_OIHW))


def factors() -> Equation:
    """ExpandNet is a product: three kernels in a row, and the one that they are."""
    torch.manual_seed(0)
    block = randomised(BLOCKS["expandnet"](CHANNELS, CHANNELS, kernel_size=SIZE, rate=EXPANSION))
    layers = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    captions = ("1x1, widening", "3x3", "1x1, narrowing")
    parts = [Kernel(caption, layer.weight.detach().numpy()) for caption, layer in zip(captions, layers, strict=True)]
    formula = f"1x1(3x3(1x1)), {EXPANSION} times as wide inside; applied from right to left"
    return Equation("ExpandNet", formula, tuple(parts[::-1]), Kernel("one 3x3", folded(block)), sign="∘")


def randomised(block: nn.Module) -> nn.Module:
    """Weights and statistics as training leaves them: float64, eval mode."""
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    for name, parameter in block.named_parameters():
        if name == "depthwise":
            nn.init.normal_(parameter, std=0.2)
    return block.double().eval()


def silenced(block: nn.Module, *paths: str) -> nn.Module:
    """A copy whose parameters under ``paths`` are zero."""
    twin = copy.deepcopy(block)
    for name, parameter in twin.named_parameters():
        if any(name == path or name.startswith(f"{path}.") for path in paths):
            nn.init.zeros_(parameter)
    return twin


def folded(block: nn.Module) -> np.ndarray:
    """The kernel [O, I, H, W] of the one convolution that the block folds to, without groups."""
    plain, _ = repfold.fold(block, torch.zeros(1, CHANNELS, 8, 8, dtype=torch.float64), policy="always")
    (conv,) = [layer for layer in plain.modules() if isinstance(layer, nn.Conv2d)]
    shape = Geometry(CHANNELS, CHANNELS, (Axis(SIZE), Axis(SIZE)), conv.groups)
    return regroup(AffineConv(conv.weight.detach(), None, shape), 1).weight.numpy()


def main() -> None:
    """Write the picture beside this file."""
    path = Path(__file__).with_suffix(".svg")
    atomic.write_text(path, gallery([*(equation(name) for name in ENTRIES), factors()]) + "\n")
    print(path)


if __name__ == "__main__":
    main()
