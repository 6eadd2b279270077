"""The trials of a folded network: the example, other batch and image sizes, and sizes that its forward decides by."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO

import torch
from torch import Tensor, nn

from repfold.fold.compare import Arguments, Difference, compare, resized, run, shapes, shows_any_difference
from repfold.fold.errors import FoldError
from repfold.fold.folded import Folded
from repfold.graph.graph import Check
from repfold.graph.sizes import InputSizes, evaluate, leaves
from repfold.graph.structure import rebuild, take_apart

LARGEST_TRIAL = 4.0  # times the example's values; a larger input is not tried
MOST_DECISIONS = 8  # of a forward that are each tried apart


@dataclass(frozen=True)
class Proof:
    """The largest errors over all trials, the shapes of the inputs tried, and what could not be shown."""

    relative: float
    absolute: float
    sizes: tuple[tuple[tuple[int, ...], ...], ...]
    caveats: tuple[str, ...]
    bound: bool  # whether it takes fewer sizes than the network


def prove(network: nn.Module, result: Folded, arguments: Arguments, expected: object) -> tuple[nn.Module, Proof]:
    """The folded network, with those checks of sizes that it needs, and how it compares with ``network``.

    Raises: FoldError when they differ.
    """
    trial = _Trials(network, result)
    trial.compare(arguments, expected)
    for candidates in _other_sizes(arguments):
        trial.first_of(candidates)
    needed = [check for check in result.checks if trial.matters(check, arguments)]
    if not any(other != shapes(arguments) for other in trial.sizes):
        trial.caveats.append(
            "it was compared on the example's size alone: the network takes no other, or the fold does not"
        )
    trial.caveats += [f"{check.reason}, so it holds only where {_short(check)}" for check in needed]
    found = trial.differences
    remarks = [difference.remark for difference in found if difference.remark is not None]
    proof = Proof(
        max(difference.relative for difference in found),
        max(difference.absolute for difference in found),
        tuple(trial.sizes),
        tuple(dict.fromkeys([*trial.caveats, *remarks])),
        bound=trial.bound or bool(needed),
    )
    if needed or _versions(trial.plain) != trial.untouched:
        return result.build((*result.fixed, *needed)), proof
    return trial.plain, proof


def _versions(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Which tensors a network holds and how often each was written to: a forward may count its calls."""
    held = network.state_dict(keep_vars=True)
    return {path: (id(tensor), tensor._version) for path, tensor in held.items() if isinstance(tensor, Tensor)}


def _short(check: Check) -> str:
    text = str(check.condition)
    return text if len(text) <= 100 else f"{text[:97]}..."


class _Trials:
    """The comparisons made so far.

    ``harmless``: checks that were violated without changing the output; ``harmful``: those where it may have changed.
    """

    def __init__(self, network: nn.Module, result: Folded) -> None:
        self.network = network
        self.result = result
        self.plain = result.build(result.fixed)
        self.untouched = _versions(self.plain)
        self.differences: list[Difference] = []
        self.sizes: list[tuple[tuple[int, ...], ...]] = []
        self.caveats: list[str] = []
        self.harmless: set[Check] = set()
        self.harmful: set[Check] = set()
        self.decisions = 0
        self.bound = False

    def compare(self, arguments: Arguments, expected: object) -> None:
        self.differences.append(compare(self.network, self.plain, arguments, expected, self.result.refold))
        self.sizes.append(shapes(arguments))

    def first_of(self, candidates: Iterator[Arguments]) -> None:
        """Compare on the first of the candidates that the network itself can run on."""
        for arguments in candidates:
            try:
                expected = run(self.network, arguments)
            except FoldError:  # the network is bound to its size
                continue
            sizes = _input_sizes(arguments)
            if not all(check.holds(sizes) for check in self.result.fixed):
                given = " and ".join("x".join(map(str, shape)) for shape in shapes(arguments))
                self.caveats.append(f"the network takes {given}, the folded one only what it was folded for")
                self.bound = True
                return
            violated = [check for check in self.result.checks if not check.holds(sizes)]
            with redirect_stderr(StringIO() if violated else sys.stderr):
                try:
                    self.compare(arguments, expected)
                except FoldError:
                    if not violated:
                        raise
                    self.harmful.update(violated)
                else:
                    if shows_any_difference(expected):
                        self.harmless.update(violated)
            return

    def matters(self, check: Check, arguments: Arguments) -> bool:
        """Whether the folded network may differ where the check does not hold."""
        if check in self.harmful:
            return True
        if check in self.harmless:
            return False
        size = sum(leaf.numel() for leaf in take_apart(arguments) if isinstance(leaf, Tensor))
        self.decisions += 1
        if self.decisions > MOST_DECISIONS:
            return True
        compared, untried = False, False
        for other in _violating(check, arguments):
            larger = sum(leaf.numel() for leaf in take_apart(other) if isinstance(leaf, Tensor))
            if larger > LARGEST_TRIAL * size:
                untried = True
                continue
            try:
                expected = run(self.network, other)
            except FoldError:  # there is nothing to differ from
                continue
            with redirect_stderr(StringIO()):  # where a graph of fx fails, it prints its code
                try:
                    compare(self.network, self.plain, other, expected, self.result.refold)
                except FoldError:
                    return True
            if not shows_any_difference(expected):
                return True
            compared = True
        return untried and not compared


def _other_sizes(arguments: Arguments) -> Iterator[Iterator[Arguments]]:
    """A smaller image in a larger batch, then a larger image alone; rounded where the network wants round sizes."""
    more, one = (lambda n: n + 1), (lambda n: 1)
    smaller = [lambda s: max(1, s * 5 // 8), lambda s: max(32, s // 64 * 32), lambda s: s]
    larger = [lambda s: s + s // 4 + 1, lambda s: s + 32, lambda s: 2 * s]
    yield (resized(arguments, more, image) for image in smaller)
    yield (resized(arguments, one, image) for image in larger)


def _input_sizes(arguments: Arguments) -> InputSizes:
    tensors = [leaf for leaf in take_apart(arguments) if isinstance(leaf, Tensor)]
    return {(i, axis): n for i, tensor in enumerate(tensors) for axis, n in enumerate(tensor.shape)}


def _violating(check: Check, arguments: Arguments) -> list[Arguments]:
    """Arguments of near sizes on which the check fails: one axis of one input changed, and all axes of the images."""
    here = dict(_input_sizes(arguments))
    found: list[tuple[int, tuple[int, int], int]] = []
    for leaf in set(leaves(check.condition)):
        near = {*range(1, 70), *range(max(1, here[leaf] - 40), here[leaf] + 40)}
        far = {2**k + more for k in range(6, 13) for more in (0, 1)}
        sizes = [size for size in near | far if not _holds(check, {**here, leaf: size})]
        found += [(abs(size - here[leaf]), leaf, size) for size in sizes]
    others = [_with_size(arguments, index, axis, size) for _, (index, axis), size in sorted(found)[:1]]
    for image in (lambda s: s + 32, lambda s: s + 64, lambda s: 2 * s, lambda s: max(32, s // 64 * 32)):
        both = resized(arguments, lambda n: n, image)
        if not _holds(check, _input_sizes(both)):
            others.append(both)
    return others


def _holds(check: Check, sizes: InputSizes) -> bool:
    try:
        return bool(evaluate(check.condition, sizes))
    except ZeroDivisionError:  # no such network
        return True


def _with_size(arguments: Arguments, index: int, axis: int, size: int) -> Arguments:
    count = iter(range(len(take_apart(arguments))))
    generator = torch.Generator().manual_seed(1)

    def change(leaf: object) -> object:
        if not isinstance(leaf, Tensor) or next(count) != index:
            return leaf
        shape = list(leaf.shape)
        shape[axis] = size
        if leaf.is_floating_point():
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(leaf)
        return leaf.new_zeros(shape)

    changed: Arguments = rebuild(arguments, change)
    return changed
