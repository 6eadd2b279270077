"""Random programs, as people write networks: fold computes the same or says that it cannot, and seldom cannot."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch
from tests.fold.random_programs import STEPS, Program, draw_program, features
from tests.fold.users_patterns import assert_same_outputs, assert_untouched, executed, private, snapshot
from torch import Tensor, nn

from repfold.fold import Certificate, FoldError, fold

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

PROGRAMS = int(os.environ.get("REPFOLD_RANDOM_PROGRAMS", "2000"))
CHUNKS = 20
REFUSED = 0.005  # the share of programs that may be refused
BOUND = 0.05  # the share whose fold may run at fewer sizes than the network, where the certificate says so
TOLERANCE = 1e-8


@dataclass
class Tally:
    """What became of the programs so far."""

    programs: int = 0
    folded: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    bound: list[int] = field(default_factory=list)


TALLY = Tally()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_programs_compute_the_same(chunk):
    wrong = []
    for seed in range(chunk * PROGRAMS // CHUNKS, (chunk + 1) * PROGRAMS // CHUNKS):
        program, example = draw_program(seed)
        TALLY.programs += 1
        try:
            check(program, example, "always" if seed % 4 == 3 else "auto", seed)
        except FoldError as error:
            TALLY.refused[seed] = str(error)
        except Exception as error:  # whatever else comes out of a fold is a fault, a wrong value or a raw error
            wrong.append(f"program {seed}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


def test_few_are_refused():
    """Of the programs that the tests above have drawn."""
    if not TALLY.programs:
        pytest.skip("no program was drawn: run the whole file")
    assert len(TALLY.refused) <= REFUSED * TALLY.programs + 1, TALLY.refused
    assert len(TALLY.bound) <= BOUND * TALLY.programs + 1, TALLY.bound
    assert TALLY.folded >= 0.25 * TALLY.programs, "too few programs hold what folds for these tests to mean anything"


def test_every_kind_of_step_is_drawn():
    found: Counter[str] = Counter()
    for seed in range(300):
        found.update(set(features(draw_program(seed)[0])))
    assert all(found[kind] >= 5 for kind in STEPS), found
    assert {name for name in found if name.startswith("output")} == {
        f"output: {content}" for content in ("float", "labels", "bools", "complex", "size")
    }


def check(program: Program, example: tuple[Tensor, ...], policy: str, seed: int) -> None:
    given, before = private(example), snapshot(program)
    plain, certificate = fold(program, given, policy=policy)
    assert_untouched(before, program)
    assert all(torch.equal(a, b) for a, b in zip(given, example, strict=True)), "the example was written to"
    assert certificate.error < 1e-8 and all(region.error_float64 < 1e-9 for region in certificate.regions)
    TALLY.folded += bool(certificate.regions)
    for arguments in (example, other(example, 1, 0, seed), other(example, 0, 3, seed)):
        if not compare(program, plain, certificate, arguments) and seed not in TALLY.bound:
            assert arguments is not example
            TALLY.bound.append(seed)
    if policy == "auto":
        was, now = executed(program, example), executed(plain, example)
        assert now.products <= was.products, f"{was.products} convolutions and products became {now.products}"
        assert now.multiply_adds <= was.multiply_adds, f"{was.multiply_adds} -> {now.multiply_adds} multiply-adds"


def other(example: tuple[Tensor, ...], batch: int, size: int, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(x.shape[0] + batch, x.shape[1], *(n + size for n in x.shape[2:])) for x in example]
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def compare(program: nn.Module, plain: nn.Module, certificate: Certificate, arguments: tuple[Tensor, ...]) -> bool:
    """Whether the folded network runs where the network does; where both run, they must agree."""
    with torch.no_grad():
        try:
            expected = program(*private(arguments))
        except (RuntimeError, ValueError, IndexError, AssertionError):
            return True
        try:
            actual = plain(*private(arguments))
        except Exception as error:
            assert certificate.caveats, f"runs at fewer sizes, without a word: {type(error).__name__}: {error}"
            return False
    assert_same_outputs(actual, expected, TOLERANCE)
    return True
