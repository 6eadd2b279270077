"""Counts what every network of MODELS costs, train form and folded, for one image: what ``repfold models`` lists.

    python benchmarks/model_costs.py        # writes src/repfold/models/costs.json; counts only what is not there yet
    python benchmarks/model_costs.py --all  # counts everything again

Networks whose folded form has a layout of its own are counted on the meta device; the others are folded.
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

TABLE = Path(repfold.__file__).parent / "models" / "costs.json"
SKELETON = ("RepVGG", "RepVGG-plus", "MobileOne")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    known = {} if parser.parse_args().all or not TABLE.exists() else json.loads(TABLE.read_text())
    counted = {name: known.get(name) or count(name) for name in models.MODELS}
    TABLE.write_text("{\n" + ",\n".join(f'  "{name}": {json.dumps(row)}' for name, row in counted.items()) + "\n}\n")


def count(name: str) -> list[int]:
    """Parameters and multiply-adds of the train form, and of the folded one."""
    side, preset = image_of(name)
    forms = []
    for style in ({}, {"block": "plain", "norm": False}):
        plain = bool(style)
        meta = not plain or family_of(name) in SKELETON or name.startswith(("vgg", "repopt"))
        with torch.device("meta" if meta else "cpu"):
            network = models.create(name, num_classes=1000, preset=preset, **(style if meta else {})).eval()
            x = torch.zeros(1, 3, side, side)
        if plain and not meta:
            network, _ = repfold.fold(network, torch.randn(1, 3, side, side))
        for auxiliary in [child for child, _ in network.named_children() if child == "auxiliary" and plain]:
            delattr(network, auxiliary)
        with torch.device("meta" if meta else "cpu"):
            total = profile(network, x).total
        forms += [total.parameters, total.multiply_adds]
    print(name, dict(zip(KEYS, forms, strict=True)), flush=True)
    return forms


if __name__ == "__main__":
    main()
