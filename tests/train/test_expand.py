"""Training with branches in place of a network's convolutions, and what is left of them after the fold."""

import pytest
import torch

import repfold
from repfold.errors import RepFoldError
from repfold.train import Recipe, train

RECIPE = Recipe(
    data="digits", model="resnet20-cifar", expand="acb", epochs=1, per_class=(10, 3), batch=50, precision="fp32"
)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])  # in bf16 small maps are trained by convolutions of their own
def test_an_expanded_network_trains_is_kept_and_folds_back(tmp_path, precision):
    result = train(RECIPE.replace(precision=precision, device="cpu"), tmp_path / "run")
    assert len(result.records) == 1
    network = repfold.load(tmp_path / "run")
    count = lambda net: sum(p.numel() for p in net.parameters())  # noqa: E731
    plain, certificate = repfold.fold(network, torch.rand(1, 1, 8, 8))
    as_built = repfold.models.create("resnet20-cifar", num_classes=10, in_channels=1).eval()
    folded, _ = repfold.fold(as_built, torch.rand(1, 1, 8, 8))
    assert count(network) > 1.5 * count(as_built)
    assert count(plain) == count(folded) and certificate.left == ()


def test_an_unknown_structure_names_the_nearest(tmp_path):
    with pytest.raises(RepFoldError, match="Did you mean 'acb'"):
        train(RECIPE.replace(expand="acbb"), tmp_path / "run")
