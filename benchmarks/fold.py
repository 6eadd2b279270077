"""How long folding a large network takes, how exact it is and what memory it needs; and random networks in thousands.

python benchmarks/fold.py                              # RepVGG-B1: seconds, error, peak memory over its weights
python benchmarks/fold.py --random 2600                # fold so many random networks under both policies
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

import repfold


def as_if_trained(network: nn.Module) -> nn.Module:
    """Statistics and scales as they are after training, so that norms are no identities."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def large(name: str, rounds: int) -> None:
    network = as_if_trained(repfold.models.create(name))
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        network(x)
    before, peaks, seconds = peak_bytes(), [], []
    for _ in range(rounds):
        start = time.perf_counter()
        plain, certificate = repfold.fold(network, x)
        seconds.append(time.perf_counter() - start)
        peaks.append(peak_bytes())
        del plain
    algebra = max(region.error_float64 for region in certificate.regions)
    print(f"{name}, 224 px, {torch.get_num_threads()} threads, torch {torch.__version__}, n = {rounds}")
    print(f"seconds to fold      {statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})")
    print(f"regions              {len(certificate.regions)} folded, {len(certificate.left)} left")
    print(f"relative error       {certificate.error:.1e} in float32; of the algebra, in float64, {algebra:.1e}")
    print(f"memory while folding {(peaks[0] - before) / weights:.2f} times the weights, besides the network itself")


def random_networks(count: int) -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.fold.graphs import RandomNetwork

    folded = left = 0
    for seed in range(count):
        network = RandomNetwork(seed, dimensions=(2, 1, 2, 3)[seed % 4])
        for policy in ("auto", "always"):
            _, certificate = repfold.fold(network, network.example, policy=policy)  # raises when outputs differ
            folded, left = folded + len(certificate.regions), left + len(certificate.left)
    print(f"{count} random networks, both policies: {folded} regions folded, {left} left with a reason, outputs equal")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="repvgg-b1")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--random", type=int, default=0)
    options = parser.parse_args()
    random_networks(options.random) if options.random else large(options.model, options.rounds)


if __name__ == "__main__":
    main()
