"""``expand``: the convolutions of any network, each replaced by a training-time structure that computes the same.

The right inverse of the fold: ``fold(expand(network))`` has the kernels that ``fold(network)`` has.
"""

from __future__ import annotations

import copy
import warnings

from torch import Tensor, nn

from repfold.algebra import conv_axes
from repfold.blocks import STRUCTURES, Invertible
from repfold.errors import RepFoldError, few, nearest
from repfold.expand.checks import check_equal, check_runs
from repfold.expand.inverse import take_over
from repfold.expand.moments import Moments, moments_of
from repfold.expand.sites import Skipped, Where, find_sites
from repfold.modules import replace_modules

EXPANDABLE: dict[str, type[Invertible]] = {
    name: structure for name, structure in STRUCTURES.items() if issubclass(structure, Invertible)
}


class ExpandWarning(UserWarning):
    """Some convolutions stay as they are; the message says which and why."""


def expand(
    network: nn.Module,
    block: str,
    where: Where | None = None,
    fresh: bool = False,
    *,
    example: Tensor | None = None,
) -> nn.Module:
    """Replace the convolutions of ``network`` by training-time structures, keeping its function.

    A structure with norms inside also takes over the BatchNorm right behind its convolution, which becomes an
    nn.Identity; the network then computes the same in train mode as well.

    Args:
        network: any network; it is left untouched.
        block: "acb", "csla", "dbb", "dirac", "doconv", "expandnet", "mobileone", "qarepvgg" or "repvgg".
        where: which convolutions: a pattern of their paths ("layer1.*", "*.conv2"), or a predicate of path and module;
            by default all.
        fresh: start from the papers' own initial values instead, as for training from scratch.
        example: a batch of real inputs. The outputs before and after are compared on it, and norms that come where
            there were none get the statistics that they would see.

    Returns: a new network, each module in the mode it was in. Convolutions that the structure cannot equal stay, and
    one ExpandWarning says which and why.

    Raises: RepFoldError for an unknown block, a network without 2-D convolutions, a ``where`` that selects none, and
    when nothing that it selects can be replaced.
    """
    if block not in EXPANDABLE:
        raise RepFoldError(f"Unknown block '{block}' to expand by. {nearest(str(block), EXPANDABLE)}")
    result = copy.deepcopy(network)
    sites, left = find_sites(result, where)
    moments = {} if example is None or fresh else moments_of(network, sites, example)
    kind = EXPANDABLE[block]
    structures: dict[nn.Module, nn.Module] = {}
    within: dict[nn.Module, nn.Module] = {}  # norms that are part of a structure now
    for site in sites:
        norm = result.get_submodule(site.norm) if site.norm is not None and kind.has_norms else None
        try:
            structures[site.conv] = _equal_structure(kind, site.conv, norm, fresh, moments.get(site.name))
        except RepFoldError as refusal:
            left.append(Skipped(site.name, str(refusal)))
        else:
            within |= {norm: nn.Identity()} if norm is not None else {}
    _report(block, len(structures), left)
    result = replace_modules(result, structures | within)
    check_runs(network, result, block)
    if example is not None and not fresh:
        check_equal(network, result, example, block)
    return result


def _equal_structure(
    kind: type[Invertible], conv: nn.Conv2d, norm: nn.Module | None, fresh: bool, moments: Moments | None
) -> nn.Module:
    """The structure that computes what ``conv``, then ``norm`` do; with ``fresh`` as its paper begins.

    Raises: RepFoldError when there is none.
    """
    structure = _structure(kind, conv)
    _match_norms(structure, norm)
    if not fresh:
        take_over(structure.double(), conv, norm, moments)
    if not conv.weight.requires_grad:
        structure.requires_grad_(False)
    structure.to(conv.weight.device, conv.weight.dtype)
    return structure.train(conv.training if norm is None else norm.training)


def _structure(kind: type[Invertible], conv: nn.Conv2d) -> Invertible:
    """A fresh structure of the convolution's geometry. Raises: RepFoldError when there is none."""
    if conv.kernel_size == (1, 1) and not kind.enriches_1x1:
        raise RepFoldError("its kernel is 1x1, which has no smaller branch")
    axes = conv_axes(conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    if any(axis.low != axis.high for axis in axes):
        raise RepFoldError("its 'same' padding of an even kernel is one-sided, which no structure has: pad before it")
    bias = {} if kind.has_norms else {"bias": conv.bias is not None}
    return kind(
        conv.in_channels,
        conv.out_channels,
        kernel_size=conv.kernel_size,
        stride=conv.stride,
        padding=tuple(axis.low for axis in axes),
        dilation=tuple(axis.dilation for axis in axes),
        groups=conv.groups,
        padding_mode=conv.padding_mode,
        **bias,
        **kind.replacement_options,
    )


def _match_norms(structure: nn.Module, norm: nn.Module | None) -> None:
    """Let the structure's norms average and divide as the one that they replace."""
    for inner in structure.modules():
        if isinstance(inner, nn.BatchNorm2d) and norm is not None:
            inner.eps, inner.momentum = norm.eps, norm.momentum  # type: ignore[assignment]


def _report(block: str, replaced: int, left: list[Skipped]) -> None:
    reasons: dict[str, list[str]] = {}
    for item in left:
        reasons.setdefault(item.reason, []).append(item.name or "the network itself")
    summary = "; ".join(f"{few(names, 4)}: {reason.rstrip('.')}" for reason, names in reasons.items())
    if not replaced:
        raise RepFoldError(f"No convolution can be expanded by '{block}'. {summary}.")
    if left:
        counted = f"{len(left)} of {len(left) + replaced} convolutions stay as they are"
        warnings.warn(f"expand by '{block}': {counted}. {summary}.", ExpandWarning, stacklevel=3)
