"""How fast RepFold's default training step is, against the loop that one writes first.

    python benchmarks/train_step.py [--model repvgg-a0] [--image-size 64] [--batch 64] [--rounds 15] [--steps 4]

The naive arm: float32, NCHW, torch.optim.SGD as it comes. The default arm: what ``repfold train`` chooses by itself on
this machine (printed), through the same code. Each arm is a process of its own, since memory allocation and threads
belong to a process; the two take turns, ``--steps`` steps each a round, while the other waits, so that a busy moment of
the machine hits both. Reported: images/s (median over rounds, 10th and 90th percentile), and the ratio of each round's
pair: its median and quartiles. Both arms get the same batches of random uint8 images and labels.

    python benchmarks/train_step.py --repopt

Four other arms, all with the default's machine settings: a plain VGG of the same widths under SGD(foreach=True); the
same network re-parameterized, under RepSGD; RepVGG's train form; and the branches that the re-parameterized network
stands for, folded online. The ratios are of times of a step, so above 1 means that the first of the two is slower.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

CLASSES = 10
WARM_UP = 3


def naive_step(arguments: argparse.Namespace) -> Callable[[], float]:
    """The loop that one writes first."""
    import torch
    from torch.nn import functional

    from repfold import models

    torch.manual_seed(0)
    network = models.create(arguments.model, num_classes=CLASSES).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    x_uint8, labels = _batch(arguments)
    mean, std = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25)

    def step() -> float:
        x_NCHW = (x_uint8.float() / 255 - mean) / std
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(x_NCHW), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def default_step(arguments: argparse.Namespace) -> Callable[[], float]:
    """What ``repfold train`` does in a step, with what it chooses on this machine."""
    from repfold import models

    def build() -> Any:
        return models.create(arguments.model, num_classes=CLASSES)

    return _trained(arguments, build)


def plain_step(arguments: argparse.Namespace) -> Callable[[], float]:
    """The plain VGG of the same widths, as one trains it."""
    import torch

    from repfold import models

    def build() -> Any:
        return models.create(arguments.model.replace("repvgg", "vgg"), num_classes=CLASSES)

    return _trained(arguments, build, make_optimizer=lambda groups, lr: torch.optim.SGD(groups, lr, 0.9, foreach=True))


def repopt_step(arguments: argparse.Namespace) -> Callable[[], float]:
    """The same network under the rules of a RepOpt target."""
    from repfold import models
    from repfold.train.recipe import Recipe
    from repfold.train.repopt import start_target
    from repfold.train.settings import resolve

    name = arguments.model.replace("repvgg", "repopt-vgg")

    def build() -> Any:
        network = models.create(name, num_classes=CLASSES)
        target = start_target(network, resolve(Recipe(model=name)).model, None, lambda event: None)
        assert target is not None
        return network, target.rules

    return _trained(arguments, build)


def online_step(arguments: argparse.Namespace) -> Callable[[], float]:
    """The target's branches, folded into one convolution at every step."""
    from repfold import models
    from repfold.models.repopt import branch_network

    def build() -> Any:
        name = arguments.model.replace("repvgg", "repopt-vgg")
        return branch_network(models.create(name, num_classes=CLASSES))  # type: ignore[arg-type]

    return _trained(arguments, build, online=True)


def _trained(
    arguments: argparse.Namespace,
    build: Callable[[], Any],
    *,
    make_optimizer: Callable[..., Any] | None = None,
    online: bool = False,
) -> Callable[[], float]:
    """A step of the network that ``build`` makes (alone, or with its rules), as ``repfold train`` makes it.

    ``make_optimizer``: makes another optimizer than the recipe's, of parameter groups and a learning rate.
    """
    import torch

    from repfold.data import Batch, CropSettings
    from repfold.fold import OnlineFold
    from repfold.models import Preprocessing
    from repfold.optim.groups import parameter_groups
    from repfold.train import machine
    from repfold.train.batches import BatchTransform
    from repfold.train.distributed import Ranks
    from repfold.train.objective import Objective
    from repfold.train.position import Position
    from repfold.train.recipe import Recipe
    from repfold.train.settings import resolve
    from repfold.train.step import StepParts, step

    # Cropping and flipping are work that the naive arm does not do: left out here too.
    recipe = Recipe(model=arguments.model, batch=arguments.batch, lr=0.01, flip=0.0)
    settings = resolve(recipe)
    chosen = machine.choose(recipe)
    machine.prepare_process(chosen)
    torch.manual_seed(0)
    built = build()
    network, rules = built if isinstance(built, tuple) else (built, None)
    network = chosen.prepare(network.train())
    if not online:
        chosen.specialise(network, (2, 3, arguments.image_size, arguments.image_size))
    groups = parameter_groups(network).for_optimizer(recipe.weight_decay)
    algorithm = settings.optimizer.algorithm
    optimizer = (
        make_optimizer(groups, recipe.lr)
        if make_optimizer
        else algorithm.make(groups, recipe.lr, fused=chosen.fused, rules=rules)
    )
    forward = OnlineFold(network, torch.rand(2, 3, 64, 64)) if online else network
    preprocessing = Preprocessing(arguments.image_size, arguments.image_size, (0.5,) * 3, (0.25,) * 3)
    transform = BatchTransform(settings, CropSettings("centre"), preprocessing, CLASSES, chosen, Ranks())
    parts = StepParts(network, forward, optimizer, chosen.scaler(), Objective(), transform, steps_per_epoch=1)
    batch, position = Batch(*_batch(arguments)), Position(0, 0)
    return lambda: step(parts, batch, position, recipe.lr)[0].item()


ARMS: dict[str, Callable[[argparse.Namespace], Callable[[], float]]] = {
    "naive": naive_step,
    "default": default_step,
    "plain": plain_step,
    "repopt": repopt_step,
    "repvgg": default_step,
    "online": online_step,
}
# Which arms are measured together, and of which pairs (numerator's time over denominator's) the ratio is told.
COMPARISONS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "default": (("naive", "default"), (("naive", "default"),)),
    "repopt": (
        ("plain", "repopt", "repvgg", "online"),
        (("repopt", "plain"), ("repvgg", "repopt"), ("repvgg", "online")),
    ),
}


def _batch(arguments: argparse.Namespace):
    import torch

    generator = torch.Generator().manual_seed(0)
    side = arguments.image_size
    x_uint8 = torch.randint(0, 256, (arguments.batch, 3, side, side), dtype=torch.uint8, generator=generator)
    return x_uint8, torch.randint(0, CLASSES, (arguments.batch,), generator=generator)


def work(arm: str, arguments: argparse.Namespace, connection: Connection) -> None:
    """Make steps when told to, and answer with the seconds that they took."""
    step = ARMS[arm](arguments)
    for _ in range(WARM_UP):
        step()
    connection.send("ready")
    while connection.recv():
        began = time.perf_counter()
        for _ in range(arguments.steps):
            step()
        connection.send(time.perf_counter() - began)


def measure(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Return arm -> images a second, in each round."""
    context = get_context("spawn")
    ends, processes = {}, []
    arms = _comparison(arguments)[0]
    for arm in arms:
        ends[arm], other = context.Pipe()
        processes.append(context.Process(target=work, args=(arm, arguments, other), daemon=True))
        processes[-1].start()
        ends[arm].recv()  # one after the other, so that neither warms up under the other's load
    rates: dict[str, list[float]] = {arm: [] for arm in arms}
    for turn in range(arguments.rounds):
        for arm in arms if turn % 2 else reversed(arms):
            ends[arm].send(True)
            rates[arm].append(arguments.batch * arguments.steps / ends[arm].recv())
    for arm in arms:
        ends[arm].send(False)
    for process in processes:
        process.join()
    return rates


def _comparison(arguments: argparse.Namespace) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    return COMPARISONS["repopt" if arguments.repopt else "default"]


def main() -> None:
    """Measure, and print a table; with ``--json`` also write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="repvgg-a0")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4, help="steps of an arm in a round")
    parser.add_argument("--repopt", action="store_true", help="compare re-parameterized gradients with their peers")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    rates = measure(arguments)

    from repfold.deploy import describe_machine
    from repfold.train import Recipe, machine

    chosen = machine.choose(Recipe()).to_dict()
    about = describe_machine()
    # Times are the inverse of rates.
    ratios = {
        f"{slow} / {fast}": [b / a for a, b in zip(rates[slow], rates[fast], strict=True)]
        for slow, fast in _comparison(arguments)[1]
    }
    print(f"{arguments.model}, {arguments.image_size} px, batch {arguments.batch}; n = {arguments.rounds} rounds")
    print(f"{about['processor']}, {about['threads']} threads, PyTorch {about['torch']}; default: {chosen}")
    for arm, values in rates.items():
        low, high = _percentile(values, 10), _percentile(values, 90)
        print(f"{arm:>8}: {statistics.median(values):7.1f} images/s  (10 %: {low:.1f}, 90 %: {high:.1f})")
    for pair, values in ratios.items():
        quartiles = f"quartiles {_percentile(values, 25):.3f}, {_percentile(values, 75):.3f}"
        print(f"{pair}: {statistics.median(values):.3f} of a step's time ({quartiles}; median of each round's pair)")
    if arguments.json:
        content = {"machine": about, "chosen": chosen, "rates": rates, "ratios": ratios}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    main()
