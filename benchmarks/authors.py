"""Fold the networks of the papers' own repositories, and compare with what their own conversion gives.

Nothing is downloaded: fetch the repositories below into one folder, each under its name, and say where it is.

python benchmarks/authors.py --repos ~/repos --out docs/results/authors.md       # every network
python benchmarks/authors.py --repos ~/repos DiverseBranchBlock ml-mobileone     # of some repositories
"""

from __future__ import annotations

import argparse
import copy
import importlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn

import repfold
from executed import executed
from foreign_fold import grouped, said
from leaves import distance
from zoos.trained import as_trained

# What was fetched for docs/results: the repository and the commit.
REPOSITORIES = {
    "RepVGG": "https://github.com/DingXiaoH/RepVGG eae7c52",
    "ACNet": "https://github.com/DingXiaoH/ACNet 748fb0c",
    "DiverseBranchBlock": "https://github.com/DingXiaoH/DiverseBranchBlock 8d2b16b",
    "ml-mobileone": "https://github.com/apple/ml-mobileone b7f4e6d",
    "DO-Conv": "https://github.com/yangyanli/DO-Conv 66fa862",
    "QARepVGG": "https://github.com/cxxgtxy/QARepVGG b88def2",
    "YOLOv6": "https://github.com/meituan/YOLOv6 e86a483",
    "RepOptimizers": "https://github.com/DingXiaoH/RepOptimizers 2e45ff5",
    "ultralytics": "https://github.com/ultralytics/ultralytics 8.4.190",
}
# What their modules import and the networks do not need.
UNNEEDED = ("cv2", "matplotlib", "matplotlib.pyplot", "pkg_resources", "polars", "psutil", "requests")
EQUAL = 1e-5
Make = Callable[[], nn.Module]
Convert = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Network:
    """A train-form network of theirs, and their conversion of a copy that it may change. Where they have no conversion
    it is None, and ``plain`` builds the network of the form that theirs stands for."""

    make: Make
    convert: Convert | None
    image: int = 64
    channels: int = 3
    plain: Make | None = None
    residual: tuple[str, ...] = ()  # of ``as_trained``: where the network is deep


def _switched(method: str) -> Convert:
    """Every module's own method, as their conversion scripts call it."""

    def convert(network: nn.Module) -> nn.Module:
        for module in list(network.modules()):
            own: Any = getattr(module, method, None)
            if callable(own):
                own()
        return network

    return convert


def _ultralytics(method: str) -> Convert:
    """As their BaseModel.fuse does for each module: fuse it, then let its forward be the fused one."""

    def convert(network: nn.Module) -> nn.Module:
        for module in list(network.modules()):
            own: Any = module
            if method in dir(own):
                getattr(own, method)()
                own.forward = own.forward_fuse
        return network

    return convert


def _factory(module: str, name: str, *arguments: Any, **keywords: Any) -> Make:
    return lambda: getattr(importlib.import_module(module), name)(*arguments, **keywords)


def _dbb(architecture: str) -> Make:
    def make() -> nn.Module:
        units = importlib.import_module("convnet_utils")
        units.switch_conv_bn_impl("DBB")
        return units.build_model(architecture)

    return make


def _stack(module: str, name: str, blocks: list[dict[str, Any]], between: Make = nn.ReLU) -> Make:
    """Their blocks one after the other, each with its arguments."""

    def make() -> nn.Module:
        block: Callable[..., nn.Module] = getattr(importlib.import_module(module), name)
        return nn.Sequential(*[layer for keywords in blocks for layer in (block(**keywords), between())])

    return make


def _do_conv_composed(network: Any) -> nn.Module:
    """Their sample's fusion, for each of their layers: W composed with D + d_diag is the kernel."""
    for i, layer in enumerate(network):
        if type(layer).__name__ == "DOConv2d":
            size = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
            plain = nn.Conv2d(*size, layer.dilation, layer.groups, layer.bias is not None)
            W = layer.W.reshape(layer.out_channels // layer.groups, layer.in_channels, layer.D_mul)
            kernel = torch.einsum("ims,ois->oim", layer.D + layer.d_diag, W).reshape(plain.weight.shape)
            plain.weight.data, plain.bias = kernel.detach(), layer.bias
            network[i] = plain
    return network


def _yolov6_deployed(network: nn.Module) -> nn.Module:
    """As their export does: convolutions take their norms in, then the blocks switch; QARepVGG's last norm stays."""
    fused: nn.Module = importlib.import_module("yolov6.utils.torch_utils").fuse_model(network)
    return _switched("switch_to_deploy")(fused)


def _yolo(name: str) -> Make:
    return lambda: importlib.import_module("ultralytics.nn.tasks").DetectionModel(name, verbose=False)


def _yolo_fused(network: Any) -> nn.Module:
    return network.fuse(verbose=False)


def _same(channels: int, **more: Any) -> dict[str, Any]:
    return {"in_channels": channels, "out_channels": channels, "kernel_size": 3, "padding": 1, **more}


def _square(inputs: int, outputs: int, kernel: int, padding: int, **more: Any) -> dict[str, Any]:
    return {"in_channels": inputs, "out_channels": outputs, "kernel_size": kernel, "padding": padding, **more}


ACB_BLOCKS = [_square(3, 16, 3, 1), _square(16, 16, 5, 2), _square(16, 32, 3, 0, stride=2), _square(32, 32, 5, 1)]
DO_BLOCKS = [_square(3, 16, 3, 1, stride=2), _square(16, 16, 3, 1, groups=16), _square(16, 32, 5, 2, groups=4)]
YOLOV6_BLOCKS = [{"in_channels": 3, "out_channels": 16, "stride": 2}, _same(16), _same(16)]
REPCONV_BLOCKS = [{"c1": 3, "c2": 16}, {"c1": 16, "c2": 16, "bn": True}, {"c1": 16, "c2": 16, "bn": True, "g": 4}]
OPT = {"num_blocks": [2, 4, 14, 1], "width_multiplier": [0.75, 0.75, 0.75, 2.5]}
_BRANCHES = ("rbr_dense.bn", "rbr_1x1.bn")
_SCALES = ("rbr_scale.bn", *(f"rbr_conv.{i}.bn" for i in range(4)))
_deployed = _switched("switch_to_deploy")
_target = _factory("repoptimizer.repoptvgg_model", "RepOptVGG", mode="target", **OPT)

NETWORKS: dict[str, dict[str, Network]] = {
    "RepVGG": {
        "RepVGG-A0": Network(_factory("repvgg", "create_RepVGG_A0"), _deployed),
        "RepVGG-B1g4": Network(_factory("repvgg", "create_RepVGG_B1g4"), _deployed),
        "RepVGG-D2se": Network(_factory("repvgg", "create_RepVGG_D2se"), _deployed, residual=_BRANCHES),
        "RepVGGplus-L2pse": Network(_factory("repvggplus", "create_RepVGGplus_L2pse"), _deployed, residual=_BRANCHES),
    },
    "ACNet": {"ACBlocks": Network(_stack("acnet.acb", "ACBlock", ACB_BLOCKS), _deployed)},
    "DiverseBranchBlock": {
        "ResNet-18, DBB": Network(_dbb("ResNet-18"), _deployed),
        "ResNet-50, DBB": Network(_dbb("ResNet-50"), _deployed),
        "MobileNet, DBB": Network(_dbb("MobileNet"), _deployed),
    },
    "ml-mobileone": {
        "MobileOne-S0": Network(_factory("mobileone", "mobileone", variant="s0"), _switched("reparameterize")),
        "MobileOne-S4": Network(
            _factory("mobileone", "mobileone", variant="s4"), _switched("reparameterize"), residual=_SCALES
        ),
    },
    "DO-Conv": {"DOConv2d": Network(_stack("do_conv_pytorch_1_10", "DOConv2d", DO_BLOCKS), _do_conv_composed)},
    "QARepVGG": {
        "QARepVGG-A0": Network(_factory("repvgg", "create_QARepVGGBlock_A0"), _deployed),
        "QARepVGGV1-A0": Network(_factory("repvgg", "create_QARepVGGBlockV1_A0"), _deployed),
        "QARepVGGV2-A0": Network(_factory("repvgg", "create_QARepVGGBlockV2_A0"), _deployed),
        "RepVGG-A0": Network(_factory("repvgg", "create_RepVGG_A0"), _deployed),
    },
    "YOLOv6": {
        "RepVGGBlock": Network(_stack("yolov6.layers.common", "RepVGGBlock", YOLOV6_BLOCKS), _yolov6_deployed),
        "QARepVGGBlock": Network(_stack("yolov6.layers.common", "QARepVGGBlock", YOLOV6_BLOCKS), _yolov6_deployed),
        "QARepVGGBlockV2": Network(_stack("yolov6.layers.common", "QARepVGGBlockV2", YOLOV6_BLOCKS), _yolov6_deployed),
    },
    "RepOptimizers": {
        "RepOpt-VGG, as trained": Network(_target, None, plain=_target),
        "RepOpt-VGG, search": Network(
            _factory("repoptimizer.repoptvgg_model", "RepOptVGG", mode="hs", **OPT), None, plain=_target
        ),
        "RepOpt-VGG, CSLA": Network(
            _factory("repoptimizer.repoptvgg_model", "RepOptVGG", mode="csla", **OPT), None, plain=_target
        ),
        "RepVGG, their baseline": Network(
            _factory("repoptimizer.repoptvgg_model", "RepOptVGG", mode="repvgg", **OPT), None, plain=_target
        ),
    },
    "ultralytics": {
        "RepConv": Network(
            _stack("ultralytics.nn.modules", "RepConv", REPCONV_BLOCKS, nn.Identity), _ultralytics("fuse_convs")
        ),
        "RepVGGDW": Network(
            _stack("ultralytics.nn.modules.block", "RepVGGDW", [{"ed": 8}, {"ed": 8}]), _ultralytics("fuse"), channels=8
        ),
        "YOLOv8n": Network(_yolo("yolov8n.yaml"), _yolo_fused),
        "YOLOv9t": Network(_yolo("yolov9t.yaml"), _yolo_fused),
        "YOLOv10s": Network(_yolo("yolov10s.yaml"), None),  # their fuse drops a head
        "YOLO11n": Network(_yolo("yolo11n.yaml"), _yolo_fused),
        "YOLO12n": Network(_yolo("yolo12n.yaml"), _yolo_fused),
    },
}


def compare(repository: str, name: str) -> dict[str, Any]:
    """Fold one, convert one, and compare both with each other and with the network that they come from."""
    entry = NETWORKS[repository][name]
    torch.manual_seed(0)
    x = torch.randn(2, entry.channels, entry.image, entry.image)
    network = as_trained(entry.make(), x, residual=entry.residual)
    before = executed(network, x)
    result: dict[str, Any] = {"norms": [before.norms], "convolutions": [before.convolutions]}
    theirs = entry.convert(copy.deepcopy(network)) if entry.convert else network
    wanted = entry.plain().eval() if entry.plain else theirs
    result["theirs"] = executed(wanted, x).convolutions
    start = time.perf_counter()
    plain, certificate = repfold.fold(network, x)
    result["fold_seconds"] = time.perf_counter() - start
    after = executed(plain, x)
    result["norms"].append(after.norms)
    result["convolutions"].append(after.convolutions)
    result["left"] = grouped([item.reason for item in certificate.left])
    other = torch.randn_like(x)
    result["difference"] = _apart(plain, theirs, other)
    result["of_theirs"] = _apart(theirs, network, other)
    doubled = copy.deepcopy(network).double()
    with _default_dtype(torch.float64):  # of the layers and constants that their conversion makes
        converted = entry.convert(copy.deepcopy(doubled)).double() if entry.convert else doubled
    result["difference_float64"] = _apart(repfold.fold(doubled, x.double())[0], converted, other.double())
    return result


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _apart(network: nn.Module, expected: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return distance(network(x.clone()), expected(x.clone()))


def _in_child(folder: Path, repository: str, name: str, pipe: Any) -> None:
    torch.set_num_threads(1)
    sys.path.insert(0, str(folder / repository))
    os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp()  # where ultralytics writes its settings on import
    for module in UNNEEDED:
        try:
            importlib.import_module(module)
        except ImportError:
            sys.modules[module] = MagicMock(__spec__=ModuleSpec(module, None))
    try:
        pipe.send(compare(repository, name))
    except Exception as error:
        pipe.send({"failed": said(error)})


def run(folder: Path, repository: str, name: str, limit: float) -> dict[str, Any]:
    """In a process of its own: the repositories' modules share their names (utils, se_block, repvgg)."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_in_child, args=(folder, repository, name, theirs))
    child.start()
    theirs.close()
    try:
        result = ours.recv() if ours.poll(limit) else {"failed": f"took more than {limit:.0f} s"}
    except EOFError:
        result = {"failed": "its process ended without a word"}
    child.kill()
    child.join()
    return result


HEAD = (
    "| repository | network | norms | convolutions | theirs | difference | in float64 | their own | left | fold s | |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def row(repository: str, name: str, result: dict[str, Any]) -> str:
    if "failed" in result:
        return f"| {repository} | {name} | | | | | | | {result['failed'][:200]} | | FAILED |"
    (norms, left), (convolutions, ours) = result["norms"], result["convolutions"]
    equal = result["difference"] <= EQUAL or result["difference_float64"] <= EQUAL**2
    good = left == 0 and ours <= result["theirs"] and equal
    reasons = "; ".join(f"{reason} ({count})" for reason, count in result["left"].items()) or "-"
    return (
        f"| {repository} | {name} | {norms} -> {left} | {convolutions} -> {ours} | {result['theirs']} "
        f"| {result['difference']:.0e} | {result['difference_float64']:.0e} | {result['of_theirs']:.0e} "
        f"| {reasons[:200]} | {result['fold_seconds']:.1f} | {'-' if good else 'NOT AS THEIRS'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wanted", nargs="*", help=f"REPOSITORY or REPOSITORY:NETWORK, of: {', '.join(REPOSITORIES)}")
    parser.add_argument("--repos", type=Path, required=True, help="the folder with the repositories")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one network")
    parser.add_argument("--out", type=Path, default=None, help="a Markdown file")
    options = parser.parse_args()
    wanted = dict.fromkeys(name.partition(":")[0] for name in options.wanted or REPOSITORIES)
    only = {name for name in options.wanted if ":" in name}
    for name in [name for name in wanted if not (options.repos / name).is_dir()]:
        print(f"{options.repos / name} is absent: git clone {REPOSITORIES[name].replace(' ', ' # at ')}")
        del wanted[name]
    lines = [HEAD]
    print(HEAD)
    for repository in wanted:
        for name in NETWORKS[repository]:
            if only and repository not in options.wanted and f"{repository}:{name}" not in only:
                continue
            lines.append(row(repository, name, run(options.repos, repository, name, options.limit)))
            print(lines[-1], flush=True)
    if options.out is not None:
        sources = "\n".join(f"- {name}: {REPOSITORIES[name]}" for name in wanted)
        options.out.write_text(
            f"# The authors' own networks and conversions\n\n{NOTE}\n{sources}\n\n" + "\n".join(lines)
        )


NOTE = """\
`python benchmarks/authors.py --repos DIR`. Train-form networks of the papers' repositories, random weights, norm
statistics as after training. `norms` and `convolutions` are executed ones, before and after RepFold's fold; `theirs`
are the convolutions after the repository's own conversion (of RepOptimizers, which has none: of its plain network).
`difference` is RepFold's fold against their conversion, relative to the largest output, in float32; then the same in
float64; `their own` is their conversion against the network that it comes from.
"""

if __name__ == "__main__":
    main()
