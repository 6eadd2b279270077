"""How fast networks train with other norms than BatchNorm, as ``repfold train`` trains them.

    python benchmarks/norms.py [--batch 64] [--rounds 7] [--precision fp32] [--native]

Forward and backward of each network at 32 px, channels last, on one thread; the norms take turns, one step each, and
the time is the process's own, so that a busy machine does not count. Reported: images a CPU second (median over rounds)
and the ratio of each round's time to BatchNorm's: its median and quartiles. ``--native`` adds PyTorch's own GroupNorm.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from repfold import models
from repfold.deploy import describe_machine
from repfold.norms import GroupNorm
from repfold.train import Recipe, machine

# Network -> the norms that the studies compare in it.
NETWORKS = {
    "mgnet-64": ("batch", "group:4", "group:16", "general:1/1/1/1", "general:1/16/1/1", "general:1/16/4/4"),
    "resnet56-cifar": ("batch", "group:4", "group:16"),
}


class Native(nn.GroupNorm):
    """PyTorch's own, which ``GroupNorm`` derives from."""


def step_of(network: nn.Module, chosen: machine.Machine, batch: int) -> Callable[[], None]:
    """A forward and a backward pass."""
    network = chosen.prepare(network.train())
    chosen.specialise(network, (2, 3, 32, 32))
    x_NCHW = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))

    def step() -> None:
        with chosen.autocast():
            loss = nn.functional.cross_entropy(network(x_NCHW).float(), labels)
        loss.backward()

    return step


def networks(name: str, *, native: bool) -> dict[str, nn.Module]:
    """The network with each of its norms."""
    made = {norm: models.create(name, num_classes=10, preset="32px", norm=norm) for norm in NETWORKS[name]}
    if native:
        for norm in [norm for norm in made if norm.startswith("group")]:
            network = models.create(name, num_classes=10, preset="32px", norm=norm)
            for layer in network.modules():
                if isinstance(layer, GroupNorm):
                    layer.__class__ = Native
            made[f"{norm}, PyTorch's"] = network
    return made


def measure(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of the process for a step of each arm, in each round."""
    seconds: dict[str, list[float]] = {arm: [] for arm in steps}
    for turn in range(rounds + 1):
        for arm in steps if turn % 2 else reversed(steps):
            began = time.process_time()
            steps[arm]()
            if turn:  # the first is a warm-up
                seconds[arm].append(time.process_time() - began)
    return seconds


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--native", action="store_true", help="also PyTorch's own GroupNorm")
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS])
    arguments = parser.parse_args()
    chosen = machine.choose(Recipe(threads=1, precision=arguments.precision))
    machine.prepare_process(chosen)
    about = describe_machine()
    print(f"{about['processor']}, 1 thread, PyTorch {about['torch']}; {chosen}; batch {arguments.batch}")
    print(f"n = {arguments.rounds} rounds\n\n| network | norm | images a CPU second | times BatchNorm's | quartiles |")
    print("|---|---|---|---|---|")
    for name in arguments.networks:
        made = networks(name, native=arguments.native)
        seconds = measure({arm: step_of(net, chosen, arguments.batch) for arm, net in made.items()}, arguments.rounds)
        for arm, values in seconds.items():
            ratios = [value / usual for value, usual in zip(values, seconds["batch"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
            rate = arguments.batch / statistics.median(values)
            print(f"| {name} | {arm} | {rate:.0f} | {middle:.2f} | {low:.2f}, {high:.2f} |", flush=True)


if __name__ == "__main__":
    main()
