"""RepOpt-VGG-A0 against RepVGG-A0 and plain VGG-A0: one recipe, 320/150 images a class of Imagenette.

    python studies/repopt.py DATA --proxy CIFAR10 --seeds 0 1 2     # trains what is missing, then writes the table
    python studies/repopt.py DATA --hours 0                         # only the table, of what is there

First the scales are searched, once, on a small proxy (DATA itself where none is given). Then the arms: the plain
network under ordinary SGD, also at a fifth of the rate; the plain network under RepSGD with the searched scales, and
with those that the search began with; RepVGG. Every run has a directory of its own: finished ones are skipped,
interrupted ones resumed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from arms import Arms, finished, paired, provenance, run_arms, table

from repfold import report

SEARCH: Arms = {"search": ["--model", "repopt-vgg-a0-hs"]}
PAIRS = (
    ("plain", "repopt"),
    ("slow", "repopt"),
    ("repvgg", "repopt"),
    ("plain", "repvgg"),
    ("unsearched", "repopt"),
)


def arms_of(runs: Path) -> Arms:
    """What each arm adds to the command (a later --lr counts); the scales are those of the search among ``runs``."""
    return {
        "plain": ["--model", "vgg-a0"],
        "slow": ["--model", "vgg-a0", "--lr", "0.02"],
        "repopt": ["--model", "repopt-vgg-a0", "--scales", str(runs / "search-0")],
        "unsearched": ["--model", "repopt-vgg-a0"],
        "repvgg": ["--model", "repvgg-a0"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the folder with train/ and val/")
    parser.add_argument("--proxy", help="what to search the scales on; DATA if not given")
    parser.add_argument("--proxy-size", type=int, default=32, help="image size of the search, px")
    parser.add_argument("--proxy-images", type=int, nargs=2, default=[1000, 100], help="training, validation, a class")
    parser.add_argument("--proxy-epochs", type=int, default=30)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--images", type=int, nargs=2, default=[320, 150], help="training, validation, a class")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--warmup", default="5ep")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--hours", type=float, default=24.0, help="begin no run after this time")
    parser.add_argument("--runs", type=Path, default=Path("runs/repopt"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/repopt.md"))
    options = parser.parse_args()
    shared = ["--batch", "64", "--lr", "0.1", "--threads", str(options.threads)]
    search = [options.proxy or options.data, *_sizes(options.proxy_size, options.proxy_epochs, options.proxy_images)]
    search += [*shared, "--weight-decay", "4e-5"]
    command = [options.data, *_sizes(options.image_size, options.epochs, options.images), *shared]
    command += ["--warmup", options.warmup]
    run_arms(SEARCH, [0], search, options.runs, options.hours)
    if finished(SEARCH, options.runs):
        run_arms(arms_of(options.runs), options.seeds, command, options.runs, options.hours)
    write(options.runs, options.out, search, command)


def _sizes(size: int, epochs: int, images: Sequence[int]) -> list[str]:
    return ["--image-size", str(size), "--epochs", str(epochs), "--per-class", *map(str, images)]


def write(runs: Path, out: Path, search: Sequence[str], command: Sequence[str]) -> None:
    """The table as Markdown, and the report of all runs, arms overlaid, beside the runs."""
    arms = arms_of(runs)
    done = finished(arms, runs)
    if not done:
        print(f"No arm has finished in {runs}: nothing to write.")
        return
    compared = [paired(arms, runs, a, b) for a, b in PAIRS if a in done and b in done]
    pieces = [
        "# RepOpt-VGG-A0, RepVGG-A0 and plain VGG-A0",
        "Last epoch on the validation images, percent, mean ± standard deviation over seeds; one recipe for all arms. "
        "plain: the network without branches under SGD; slow: the same at a fifth of the rate. repopt: the same "
        "network, its gradients re-parameterized by searched scales. unsearched: by the scales that a search begins "
        "with. repvgg: branches in training.",
        table(arms, runs),
        "\n".join(f"- {line}" for line in compared),
        f"Search of the scales: `repfold train PROXY {' '.join([*SEARCH['search'], *search[1:]])}`",
        table(SEARCH, runs),
        f"Every other run: `repfold train DATA {' '.join(command[1:])}`, and for the arms:",
        "\n".join(f"- {name}: `{' '.join(arms[name])}`".replace(str(runs), "RUNS") for name in done),
        f"Trained on: {provenance(arms, runs)}. Reproduce with `python studies/repopt.py DATA --proxy PROXY`.",
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n\n".join(pieces) + "\n")
    report.write([run for arm in done.values() for run in arm], runs / "report.html")
    print(table(arms, runs))


if __name__ == "__main__":
    main()
