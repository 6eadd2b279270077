"""Counts what every network of MODELS costs, train form and folded, for one image: what ``repfold models`` lists.

    python benchmarks/model_costs.py        # writes src/repfold/models/costs.json; counts only what is not there yet
    python benchmarks/model_costs.py --all  # counts everything again

Where every norm stands behind a convolution the folded form is known without folding; MgNets are folded. Tests compare
a network of each kind with its fold.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import repfold
from repfold import models
from repfold.fold import profile
from repfold.models.costs import KEYS, image_of
from repfold.models.recognise import family_of
from repfold.modules import replace_modules

TABLE = Path(repfold.__file__).parent / "models" / "costs.json"
SKELETON = ("RepVGG", "RepVGG-plus", "MobileOne")  # whose plain form is a style of theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    known = {} if parser.parse_args().all or not TABLE.exists() else json.loads(TABLE.read_text())
    counted = {name: known.get(name) or count(name) for name in models.MODELS}
    TABLE.write_text("{\n" + ",\n".join(f'  "{name}": {json.dumps(row)}' for name, row in counted.items()) + "\n}\n")


def count(name: str) -> list[int]:
    """Parameters and multiply-adds of the train form, and of the folded one."""
    side, preset = image_of(name)
    with torch.device("meta"):
        network, x = models.create(name, num_classes=1000, preset=preset).eval(), torch.zeros(1, 3, side, side)
        trained = profile(network, x).total
        if family_of(name) in SKELETON:
            network = models.create(name, num_classes=1000, preset=preset, block="plain", norm=False).eval()
            network.auxiliary = torch.nn.ModuleList()
        elif name.endswith("-hs"):
            network = models.create(name.removesuffix("-hs"), num_classes=1000, preset=preset).eval()
    if name.startswith("mgnet"):
        network, _ = repfold.fold(models.create(name, num_classes=1000, preset=preset).eval(), torch.randn(x.shape))
        folded, biases = profile(network, torch.randn(x.shape)).total, 0
    else:
        biases = without_norms(network)
        folded = profile(network, x).total
    counts = [trained.parameters, trained.multiply_adds, folded.parameters + biases, folded.multiply_adds]
    print(name, dict(zip(KEYS, counts, strict=True)), flush=True)
    return counts


def without_norms(network: torch.nn.Module) -> int:
    """Take the norms out, each of them behind a convolution without a bias; return how many biases that makes."""
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    replace_modules(network, {norm: torch.nn.Identity() for norm in norms})
    return sum(norm.num_features for norm in norms)


if __name__ == "__main__":
    main()
