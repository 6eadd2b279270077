"""Fold on random networks: the same outputs, and a certificate that says the truth."""

import pytest
import torch
from tests.fold.graphs import RandomNetwork

from repfold.fold import FoldError, fold


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("policy", ["auto", "always"])
@pytest.mark.parametrize("first", range(0, 120, 30))
def test_random_networks_compute_the_same_after_folding(policy, first):
    folded = 0
    for seed in range(first, first + 30):
        network = RandomNetwork(seed, dimensions=(2, 1, 2, 3)[seed % 4])
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        plain, certificate = fold(network, network.example, policy=policy)
        x = torch.randn(3, *network.example.shape[1:], dtype=torch.float64)
        with torch.no_grad():
            pairs = list(zip(plain(x.clone()), network(x.clone()), strict=True))
        for actual, expected in pairs:
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
        assert certificate.error < 1e-9 and all(region.error_float64 < 1e-9 for region in certificate.regions)
        folded += len(certificate.regions)
    assert folded >= 15, "the drawn networks hold too little to fold for this test to mean anything"


def test_a_wrong_fold_is_caught(monkeypatch):
    """The certificate's check is itself shown a law that is wrong."""
    from repfold.fold import regions

    network = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 3), torch.nn.BatchNorm2d(2)).eval()
    right = regions.sequence
    monkeypatch.setattr(regions, "sequence", lambda a, b: regions.scale(1.001, right(a, b)))
    with pytest.raises(FoldError, match="differs from the region"):
        fold(network, torch.randn(1, 2, 8, 8))
