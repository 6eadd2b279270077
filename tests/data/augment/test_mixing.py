"""MixUp and CutMix: the pixels are what the shares say, λ is Beta-distributed, targets and metrics are weighted."""

import numpy as np
import pytest
import torch
from scipy import stats

from repfold.data.augment.draws import Draws
from repfold.data.augment.mixing import Mixed, Mixing, cutmix, mixup
from repfold.errors import RepFoldError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int, side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that are 1 everywhere for odd labels and 0 for even ones; labels 0 ... count - 1."""
    labels = torch.arange(count)
    return (labels % 2).float()[:, None, None, None].expand(-1, 3, side, side).contiguous(), labels


def test_mixup_blends_image_and_partner_by_the_share() -> None:
    x, labels = numbered(100)
    mixed = mixup(x, labels, Draws(seeded(), 100), alpha=0.4)
    own, other = mixed.labels_B % 2, mixed.partners_B % 2
    expected = mixed.share_B * own + (1 - mixed.share_B) * other
    assert torch.allclose(mixed.x_NCHW, expected[:, None, None, None].expand_as(x), atol=1e-6)
    assert torch.equal(mixed.labels_B, labels) and not (mixed.partners_B == labels).any()
    levels = mixup((x * 200).to(torch.uint8), labels, Draws(seeded(), 100), alpha=0.4)
    assert levels.x_NCHW.dtype == torch.uint8
    assert (levels.x_NCHW - 200 * expected[:, None, None, None]).abs().max() <= 0.5 + 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_cutmix_pastes_one_box_and_reports_the_exact_share(dtype: torch.dtype) -> None:
    x, labels = numbered(300)
    mixed = cutmix(x.to(dtype), labels, Draws(seeded(), 300), alpha=1.0)
    pasted = mixed.x_NCHW[:, 0] != x[:, 0].to(dtype)
    assert torch.equal(pasted.float().mean(dim=(1, 2)), 1 - mixed.share_B)
    rows, columns = pasted.any(dim=2), pasted.any(dim=1)
    assert torch.equal(pasted, rows[:, :, None] & columns[:, None, :])
    assert mixed.x_NCHW.dtype == dtype and torch.equal(mixed.x_NCHW[:, 0], mixed.x_NCHW[:, 2])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    x, labels = torch.zeros(4000, 1, 1, 1), torch.zeros(4000, dtype=torch.long)
    share = mixup(x, labels, Draws(seeded(), 4000), alpha=alpha).share_B.numpy()
    assert stats.kstest(share.astype(np.float64), stats.beta(alpha, alpha).cdf).pvalue > 0.001
    assert stats.kstest(share.astype(np.float64), stats.beta(2 * alpha, alpha).cdf).pvalue < 1e-6


def test_cutmix_boxes_are_1_minus_lambda_of_the_area_before_the_border() -> None:
    """With a uniform λ (α = 1), the mean area inside: E[(∫ of what a side s keeps)²] over s = sqrt(1 - λ)."""
    x, labels = numbered(4000, side=32)
    share = cutmix(x, labels, Draws(seeded(), 4000), alpha=1.0).share_B
    # A side of s keeps s - s²/4 on average; squared, over s² uniform: ∫ 2s (s - s²/4)² ds from 0 to 1.
    assert 1 - share.mean().item() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.02)


def test_targets_are_weighted_and_sum_to_one() -> None:
    mixed = Mixed(
        torch.zeros(3, 1, 1, 1), torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0]), torch.tensor([0.25, 0.5, 1])
    )
    assert mixed.targets(3).tolist() == [[0.25, 0.75, 0], [0, 1, 0], [0, 0, 1]]


def test_mixing_with_probability_and_both_kinds() -> None:
    x, labels = numbered(2000, side=8)
    some = Mixing(mixup=1.0, probability=0.3)(x, labels, seeded())
    assert (some.share_B < 1).float().mean().item() == pytest.approx(0.3, abs=0.035)
    kinds = {bool(((m := Mixing(mixup=1.0, cutmix=1.0)(x, labels, seeded(s))).x_NCHW % 1).any()) for s in range(12)}
    assert kinds == {True, False} and len(m.share_B) == 2000


def test_no_mixing_is_the_batch_itself() -> None:
    x, labels = numbered(5)
    mixed = Mixing()(x, labels, seeded())
    assert mixed.x_NCHW is x and torch.equal(mixed.targets(5), torch.eye(5)) and (mixed.share_B == 1).all()


def test_the_seed_decides_also_for_processes_that_share_a_batch() -> None:
    x, labels = numbered(8)
    whole = Mixing(cutmix=1.0)(x, labels, seeded(3))
    assert torch.equal(whole.x_NCHW, Mixing(cutmix=1.0)(x, labels, seeded(3)).x_NCHW)
    assert not torch.equal(whole.x_NCHW, Mixing(cutmix=1.0)(x, labels, seeded(4)).x_NCHW)
    halves = [Mixing(cutmix=1.0)(x[f : f + 4], labels[f : f + 4], seeded(3), first=f, total=8) for f in (0, 4)]
    assert torch.equal(torch.cat([half.share_B for half in halves]), whole.share_B)


@pytest.mark.parametrize("alpha", [0, -1, float("nan")])
def test_alpha_must_be_above_zero(alpha: float) -> None:
    x, labels = numbered(2)
    for mix in (mixup, cutmix):
        with pytest.raises(RepFoldError, match="alpha above 0"):
            mix(x, labels, Draws(seeded(), 2), alpha=alpha)
    if alpha:
        with pytest.raises(RepFoldError, match="alpha"):
            Mixing(mixup=alpha)
    with pytest.raises(RepFoldError, match="probability"):
        Mixing(probability=1.5)
