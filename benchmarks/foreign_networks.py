"""Fold networks that nobody here wrote, one of every family of pytorchcv: outputs and speed, before and after.

pip install --no-deps pytorchcv requests    # its torchvision is not needed, and would replace torch
python benchmarks/foreign_networks.py --out docs/results/foreign_networks.md            # every family
python benchmarks/foreign_networks.py resnet densenet --rounds 15                       # some
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import multiprocessing
import pkgutil
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import repfold

# Families for other tasks than classification (segmentation, pose, flow, speech, ...) take other inputs.
OTHER_TASKS = frozenset(
    """
    alphapose_coco bisenet centernet cgnet contextnet dabnet danet deeplabv3 edanet enet erfnet esnet espcnet fastscnn
    fcn8sd fpenet ibppose_coco icnet jasper jasperdr lednet lffd linknet lwopenpose_cmupan ntsnet_cub nvpattexp pfpcnet
    prnet propainter propainter_ip propainter_ip_stream propainter_rfc propainter_rfc_stream propainter_stream pspnet
    quartznet raft raft_stream segnet simplepose_coco simpleposemobile_coco sinet sqnet superpointnet unet visemenet
    voca
    """.split()
)
SMALL_IMAGES = ("_cifar", "_cifar10")
INPUT_SIZES = {
    "inceptionv3": 299,
    "inceptionv4": 299,
    "inceptionresnetv1": 299,
    "inceptionresnetv2": 299,
    "polynet": 331,
}


def families() -> list[str]:
    """The classification families, by module name."""
    models = importlib.import_module("pytorchcv.models")
    names = [module.name for module in pkgutil.iter_modules(models.__path__)]
    return sorted(name for name in names if name not in OTHER_TASKS and name != "common")


def build(family: str) -> tuple[str, nn.Module, Tensor]:
    """The family's first network with a classifier, statistics as after training, and an example."""
    module = importlib.import_module(f"pytorchcv.models.{family}")
    for name in module.__all__:
        factory = getattr(module, name)
        if inspect.isfunction(factory) and "kwargs" in inspect.signature(factory).parameters and name[:4] != "get_":
            break
    torch.manual_seed(0)
    network = factory()
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.7, 1.3)
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.7, 1.3)
                nn.init.normal_(layer.bias, 0, 0.1)
    size = (
        getattr(network, "in_size", None)
        or (INPUT_SIZES.get(family, 32 if family.endswith(SMALL_IMAGES) else 224),) * 2
    )
    return name, network.eval(), torch.randn(1, getattr(network, "in_channels", 3), *size)


def lone_norms(network: nn.Module) -> int:
    """BatchNorms whose input is a convolution that nothing else reads."""
    if not isinstance(network, torch.fx.GraphModule):
        return sum(lone_norms(child) for child in network.children())
    modules = dict(network.named_modules())

    def kind(node: Any) -> str:
        return type(modules[node.target]).__name__ if node.op == "call_module" else ""

    norms = [node for node in network.graph.nodes if kind(node).startswith("BatchNorm")]
    return sum(kind(node.args[0]).startswith("Conv") and len(node.args[0].users) == 1 for node in norms)


def median_ms(network: nn.Module, x: Tensor, rounds: int) -> float:
    times = []
    with torch.inference_mode():
        network(x)
        for _ in range(rounds):
            start = time.perf_counter()
            network(x)
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def measure(family: str, rounds: int) -> dict[str, Any]:
    name, network, x = build(family)
    start = time.perf_counter()
    plain, certificate = repfold.fold(network, x)
    seconds = time.perf_counter() - start
    count = lambda net: sum(p.numel() for p in net.parameters())  # noqa: E731
    before, after = [], []
    for _ in range(rounds):  # interleaved, so that drift of the machine meets both alike
        before.append(median_ms(network, x, 1))
        after.append(median_ms(plain, x, 1))
    reasons: dict[str, int] = {}
    for item in certificate.left:
        key = item.reason.split(":")[0].split(" (")[0]
        reasons[key] = reasons.get(key, 0) + 1
    return {
        "family": family,
        "network": name,
        "folded": len(certificate.regions),
        "left": reasons,
        "lone_norms": lone_norms(plain),
        "error": certificate.error,
        "parameters": [count(network), count(plain)],
        "milliseconds": [statistics.median(before), statistics.median(after)],
        "fold_seconds": seconds,
    }


def _in_child(family: str, rounds: int, threads: int, pipe: Any) -> None:
    torch.set_num_threads(threads)
    try:
        pipe.send(measure(family, rounds))
    except Exception as error:
        pipe.send({"family": family, "error_message": f"{type(error).__name__}: {error}"})


def run(family: str, rounds: int, threads: int, limit: float) -> dict[str, Any]:
    """Measure in a process of its own: a family that needs too much memory or time ends alone."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_in_child, args=(family, rounds, threads, theirs))
    child.start()
    result = ours.recv() if ours.poll(limit) else {"family": family, "error_message": f"took more than {limit:.0f} s"}
    child.kill()
    child.join()
    return result


def row(result: dict[str, Any]) -> str:
    if "error_message" in result:
        return f"| {result['family']} | | | {result['error_message'][:120]} | | | | |"
    left = "; ".join(f"{reason} ({count})" for reason, count in result["left"].items()) or "-"
    params, ms = result["parameters"], result["milliseconds"]
    return (
        f"| {result['family']} | {result['network']} | {result['folded']} | {left} | {result['lone_norms']} "
        f"| {result['error']:.1e} | {params[0] / 1e6:.2f} -> {params[1] / 1e6:.2f} "
        f"| {ms[0]:.1f} -> {ms[1]:.1f} ({ms[0] / ms[1]:.2f}x) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=180.0, help="seconds for one family")
    parser.add_argument("--out", type=Path, default=None, help="a Markdown file; the figures go beside it as JSON")
    options = parser.parse_args()
    columns = ("family", "network", "folded", "left, and why", "norms after a convolution", "error", "M parameters")
    head = f"| {' | '.join(columns)} | ms, batch 1 |\n{'|---' * (len(columns) + 1)}|"
    print(head)
    results = []
    for family in options.families or families():
        results.append(run(family, options.rounds, options.threads, options.limit))
        print(row(results[-1]), flush=True)
    if options.out is not None:
        machine = f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}"
        note = f"`python benchmarks/foreign_networks.py`; {machine}; medians of {options.rounds} interleaved rounds.\n"
        options.out.write_text(
            "\n".join(["# Networks that nobody here wrote", "", note, head, *map(row, results)]) + "\n"
        )
        options.out.with_suffix(".json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
