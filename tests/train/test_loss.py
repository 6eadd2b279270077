"""Label smoothing on hard and soft targets, and distillation, against their definitions written out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repfold.errors import RepFoldError
from repfold.train.loss import cross_entropy, distillation, distilled


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(logits: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    probabilities = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    smooth = (1 - smoothing) * targets + smoothing / logits.shape[1]
    return -(smooth * probabilities.log()).sum(dim=1).mean()


@given(st.integers(0, 99), st.integers(2, 12), st.sampled_from([0.0, 0.1, 0.9]))
def test_cross_entropy_smooths_hard_and_soft_targets(seed: int, classes: int, smoothing: float) -> None:
    logits = random(seed, 5, classes)
    soft = random(seed + 1, 5, classes).softmax(dim=1)
    hard = torch.arange(5) % classes
    for targets, onehot in ((soft, soft), (hard, torch.eye(classes, dtype=torch.float64)[hard])):
        loss = cross_entropy(logits, targets, smoothing=smoothing)
        assert loss.item() == pytest.approx(by_definition(logits, onehot, smoothing).item(), rel=1e-9)


def test_soft_targets_are_not_sent_through_a_softmax() -> None:
    logits, targets = random(0, 4, 3), torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]]
    assert cross_entropy(logits, targets).item() == pytest.approx(cross_entropy(logits, targets.argmax(1)).item())
    assert cross_entropy(logits, targets.softmax(1)).item() != pytest.approx(cross_entropy(logits, targets).item())


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits = random(0, 4, 3).bfloat16().requires_grad_()
    loss = cross_entropy(logits, torch.tensor([0, 1, 2, 0]), smoothing=0.1)
    loss.backward()
    assert loss.dtype == torch.float32 and logits.grad is not None
    assert loss.item() == pytest.approx(cross_entropy(logits.float(), torch.tensor([0, 1, 2, 0]), smoothing=0.1).item())


@given(st.integers(0, 99), st.floats(0.5, 20))
def test_distillation_is_the_scaled_divergence(seed: int, temperature: float) -> None:
    student, teacher = random(seed, 6, 4), random(seed + 1, 6, 4)
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    expected = temperature**2 * (p * (p / q).log()).sum(1).mean()
    assert distillation(student, teacher, temperature=temperature).item() == pytest.approx(expected.item(), rel=1e-8)
    assert distillation(student, student + 3, temperature=temperature).item() == pytest.approx(0, abs=1e-12)


def test_the_teacher_gets_no_gradient_and_the_weight_mixes() -> None:
    student, teacher = random(0, 6, 4).requires_grad_(), random(1, 6, 4).requires_grad_()
    loss = distilled(student.sum(), student, teacher, weight=0.25)
    assert loss.item() == pytest.approx((0.75 * student.sum() + 0.25 * distillation(student, teacher)).item())
    loss.backward()
    assert teacher.grad is None and student.grad is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: cross_entropy(x, torch.tensor([0, 1]), smoothing=1.0), r"\[0, 1\)"),
        (lambda x: distillation(x, x, temperature=0), "temperature"),
        (lambda x: distillation(x, x[:, :2]), "same classes"),
        (lambda x: distilled(x.sum(), x, x, weight=2), "weight"),
    ],
)
def test_mistakes_are_told(make: object, message: str) -> None:
    with pytest.raises(RepFoldError, match=message):
        make(random(0, 2, 3))  # type: ignore[operator]
