"""Where a network can be expanded: its convolutions, the BatchNorm behind each, and why some have to stay."""

from __future__ import annotations

import copy
import fnmatch
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from repfold.blocks import Structure
from repfold.errors import RepFoldError, nearest
from repfold.expand.calls import Calls, NotFollowed, calls_of

Where = str | Callable[[str, nn.Conv2d], bool]

# Subclasses may do more than normalise.
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Site:
    """A convolution, the first of the paths that lead to it, and that of the BatchNorm that alone reads its output."""

    name: str
    conv: nn.Conv2d
    norm: str | None


@dataclass(frozen=True)
class Skipped:
    """A convolution that stays as it is, and why."""

    name: str
    reason: str


def find_sites(network: nn.Module, where: Where | None) -> tuple[list[Site], list[Skipped]]:
    """The convolutions that ``where`` selects, and those of them that no structure can replace.

    Raises: RepFoldError for a network without 2-D convolutions, and when ``where`` selects none.
    """
    paths: dict[nn.Conv2d, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Conv2d):
            paths.setdefault(module, []).append(name)
    if not paths:
        raise RepFoldError(
            f"{type(network).__name__} has no nn.Conv2d to expand. Convolutions called as functions "
            "(torch.nn.functional.conv2d) are not found: make them modules."
        )
    selected = {conv: names for conv, names in paths.items() if any(_selects(where, name, conv) for name in names)}
    if not selected:
        known = [name for names in paths.values() for name in names]
        what = f"'{where}'. {nearest(where, known)}" if isinstance(where, str) else "the predicate."
        raise RepFoldError(f"where selects none of the {len(paths)} convolutions: no path matches {what}")
    calls = _calls(network)
    owners = Counter(id(p) for module in network.modules() for p in module.parameters(recurse=False))
    sites, left = [], []
    for conv, names in selected.items():
        reason = _obstacle(network, conv, names, owners, calls)
        if reason is None:
            sites.append(Site(names[0], conv, _norm_behind(network, names, calls)))
        else:
            left.append(Skipped(names[0], reason))
    return sites, left


def _selects(where: Where | None, name: str, conv: nn.Conv2d) -> bool:
    if isinstance(where, str):
        return fnmatch.fnmatchcase(name, where)
    return where is None or bool(where(name, conv))


def _obstacle(network: nn.Module, conv: nn.Conv2d, names: list[str], owners: Counter[int], calls: Calls) -> str | None:
    """Why the convolution cannot be replaced by anything, or None."""
    if isinstance(conv, nn.modules.lazy.LazyModuleMixin):
        return "it is lazy and has no weight yet: run the network once"
    if parametrize.is_parametrized(conv) or conv._forward_pre_hooks or conv._forward_hooks:
        return "its weight is parametrized or it has hooks, which a replacement would drop: remove them first"
    if type(conv).forward is not nn.Conv2d.forward or type(conv)._conv_forward is not nn.Conv2d._conv_forward:
        return f"its class {type(conv).__name__} computes something else than nn.Conv2d does"
    if any(owners[id(p)] > 1 for p in conv.parameters()):
        return "it shares its weight with another module; a replacement would untie them"
    if any(f"{name}.weight" in calls.read or f"{name}.bias" in calls.read for name in names):
        return "the network reads its weight itself"
    prefixes = [name.split(".")[:depth] for name in names for depth in range(name.count(".") + 1)]
    around = [network.get_submodule(".".join(prefix)) for prefix in prefixes]
    inside = next((type(module).__name__ for module in around if isinstance(module, Structure)), None)
    return f"it is a branch of a {inside} already" if inside else None


def _calls(network: nn.Module) -> Calls:
    """The calls in train and in eval mode; a norm counts as behind a convolution when it is in both."""
    train, evaluation = (_traced_calls(skeleton(network).train(mode)) for mode in (True, False))
    found = train.norm_of | evaluation.norm_of
    agreed = {conv: norm for conv, norm in found.items() if train.agrees(conv, norm) and evaluation.agrees(conv, norm)}
    return Calls(agreed, train.called | evaluation.called, train.read | evaluation.read)


def skeleton(network: nn.Module) -> nn.Module:
    """A copy to be traced or run, which may write to its attributes and buffers; it shares the parameters."""
    return copy.deepcopy(network, {id(p): p for p in network.parameters()})


def _traced_calls(module: nn.Module) -> Calls:
    """Read the module's graph; where its forward cannot be traced, those of its children."""
    if not any(True for _ in module.children()):
        return Calls()
    try:
        return calls_of(module)
    except NotFollowed:
        found = Calls()
        for prefix, child in module.named_children():
            inner = _traced_calls(child)
            found.norm_of |= {f"{prefix}.{conv}": f"{prefix}.{norm}" for conv, norm in inner.norm_of.items()}
            found.called += Counter({f"{prefix}.{name}": count for name, count in inner.called.items()})
            found.read |= {f"{prefix}.{name}" for name in inner.read}
        return found


def _norm_behind(network: nn.Module, names: list[str], calls: Calls) -> str | None:
    path = calls.norm_of.get(names[0]) if len(names) == 1 else None
    if path is None:
        return None
    norm: Any = network.get_submodule(path)
    same = [name for name, module in network.named_modules(remove_duplicate=False) if module is norm]
    read = any(name.startswith(f"{path}.") for name in calls.read)
    plain = type(norm) in NORMS and not (norm._forward_pre_hooks or norm._forward_hooks)
    return path if plain and same == [path] and not read else None
