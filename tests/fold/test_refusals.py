"""What must not fold is left alone, with the reason, and computes the same."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from repfold.fold import FoldError, fold


def trained(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def left_of(network: nn.Module, channels: int = 4, policy: str = "auto") -> dict[str, str]:
    x = torch.randn(2, channels, 9, 8)
    plain, certificate = fold(network, x, policy=policy)
    with torch.no_grad():
        torch.testing.assert_close(plain(x.clone()), network(x.clone()), rtol=1e-4, atol=1e-4)
    return {item.name: item.reason for item in certificate.left}


def test_a_padded_convolution_after_a_bias_is_left():
    network = trained(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)))
    assert "zero-padding after a bias" in left_of(network, policy="always")["1"]


def test_a_padded_convolution_after_a_spatial_one_is_left():
    network = trained(nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 4, 3, padding=1)))
    assert "padding after a spatial kernel" in left_of(network, policy="always")["1"]


def test_depthwise_then_pointwise_is_left_unless_asked_for():
    def network() -> nn.Module:
        return trained(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 8, 1)))

    assert "would cost more" in left_of(network())["1"]
    assert left_of(network(), policy="always") == {}


def test_batch_statistics_are_left():
    network = trained(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)))
    assert "no running statistics" in left_of(network)["1"]


def test_a_batch_norm_left_in_train_mode_is_left():
    network = trained(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    network[1].train()
    _, certificate = fold(network, torch.randn(2, 4, 9, 8))
    assert "in train mode" in certificate.left[0].reason and not certificate.regions


def test_a_module_called_twice_is_left():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(F.relu(self.conv(x))))

    assert "used more than once" in left_of(trained(Twice()))["norm"]


def test_a_weight_used_twice_is_left():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * F.conv2d(F.relu(2 * F.conv2d(x, self.weight)), self.weight)

    assert any("used more than once" in reason for reason in left_of(Tied().eval()).values())


def test_a_bias_before_a_pixel_shuffle_is_left():
    """Each phase of the shuffled image would need a bias of its own."""
    network = trained(nn.Sequential(nn.Conv2d(4, 16, 1), nn.PixelShuffle(2), nn.BatchNorm2d(4)))
    assert "zeros inserted after a bias" in left_of(network, policy="always")["1"]


def test_an_in_place_write_between_branches_is_respected():
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.norm = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = self.a(x)
            x.relu_()
            return self.norm(first) + self.b(x)

    left_of(trained(InPlace()))


def test_an_in_place_write_through_a_view_is_kept():
    class View(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            y.view(-1)[:7].zero_()
            return self.norm(y)

    network = trained(View())
    left_of(network)
    assert not fold(network, torch.randn(2, 4, 9, 8))[1].regions


def test_data_dependent_control_flow_is_folded_part_by_part():
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.body(x)
            return y if y.sum() > 0 else -y

    network = trained(Chooses())
    x = torch.randn(2, 4, 9, 8)
    plain, certificate = fold(network, x)
    assert [region.name for region in certificate.regions] == ["body.0"]
    assert "cannot be followed as a whole" in certificate.left[0].reason
    with torch.no_grad():
        for sign in (1, -1):
            torch.testing.assert_close(plain(sign * x), network(sign * x), rtol=1e-4, atol=1e-5)


def test_layers_and_norms_of_ones_own_classes_are_joined_in_a_forward_that_cannot_be_followed():
    class SameConv(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            lack = max((-(-x.shape[-1] // 2) - 1) * 2 + 3 - x.shape[-1], 0)
            return super().forward(nn.functional.pad(x, (lack // 2, lack - lack // 2, 1, 1)))

    class NormAct(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).relu()

    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = SameConv(4, 4, 3, stride=2), NormAct(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(self.conv(x))
            return y if y.sum() > 1 else -y

    network = trained(Chooses())
    plain, certificate = fold(network, torch.randn(2, 4, 9, 8))
    assert [region.name for region in certificate.regions] == ["conv"]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    for x in (torch.randn(2, 4, 9, 8), torch.randn(1, 4, 12, 13)):
        torch.testing.assert_close(plain(x), network(x), rtol=1e-4, atol=1e-5)


def test_a_part_whose_attributes_the_parent_reads_is_folded_within():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.one(x) + self.other(x))

    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(Block(), nn.ReLU(), Block())
            self.body.gain = 2.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.body(x) * self.body.gain
            return y if y.sum() > 0 else -y

    network, x = trained(Reads()), torch.randn(2, 4, 9, 8)
    plain, certificate = fold(network, x)
    assert [region.name.rpartition(".")[0] for region in certificate.regions] == ["body.0", "body.2"]
    assert sum(isinstance(module, nn.Conv2d) for module in plain.modules()) == 2
    assert plain.body.gain == 2.0 and "uses more of it" in {l.name: l.reason for l in certificate.left}["body"]
    with torch.no_grad():
        torch.testing.assert_close(plain(x), network(x), rtol=1e-4, atol=1e-5)


def test_border_effects_of_average_pooling_are_left():
    network = trained(nn.Sequential(nn.Conv2d(4, 4, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False)))
    assert "count_include_pad" in left_of(network, policy="always")["1"]
    network = trained(nn.Sequential(nn.Conv2d(4, 4, 1), nn.AvgPool2d(2, 2, ceil_mode=True)))
    assert "ceil_mode" in left_of(network, policy="always")["1"]


def test_a_hook_is_part_of_what_is_folded():
    network = trained(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    network[0].register_forward_hook(lambda module, arguments, output: output * 2)
    assert left_of(network) == {}


def test_a_value_that_is_read_elsewhere_keeps_its_convolution():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return F.relu(y) + self.norm(y)

    assert "would cost more" in left_of(trained(Shared()))["norm"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda net: net.train(), "Call network.eval"),
        (lambda net: net[0].weight.data.fill_(float("nan")), "0.weight holds values that are not finite"),
        (lambda net: (net[1].running_var.zero_(), setattr(net[1], "eps", 0.0)), "1 has a running variance of 0"),
    ],
)
def test_unfit_networks_are_refused(spoil, message):
    network = trained(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    spoil(network)
    with pytest.raises(FoldError, match=message):
        fold(network, torch.randn(1, 4, 9, 9))


@pytest.mark.parametrize("example", [torch.randn(1, 3, 9, 9), torch.randn(1, 4, 9, 9).long(), torch.randn(1, 4, 2, 2)])
def test_an_example_that_does_not_fit_is_refused(example):
    network = trained(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    with pytest.raises(FoldError, match="cannot run on the example"):
        fold(network, example)


def test_an_unknown_policy_names_the_nearest():
    with pytest.raises(FoldError, match="Did you mean 'always'"):
        fold(nn.Identity().eval(), torch.zeros(1), policy="allways")


def test_a_value_read_twice_is_not_computed_twice():
    """The projection of a linear bottleneck is read by the residual and by the next expansion: it stays one layer."""

    class Bottlenecks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project, self.norm0 = nn.Conv2d(12, 4, 1, bias=False), nn.BatchNorm2d(4)
            self.expand, self.norm1 = nn.Conv2d(4, 12, 1, bias=False), nn.BatchNorm2d(12)
            self.again, self.norm2 = nn.Conv2d(12, 4, 1, bias=False), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm0(self.project(x))
            return y + self.norm2(self.again(F.relu(self.norm1(self.expand(y)))))

    network = trained(Bottlenecks())
    plain, certificate = fold(network, torch.randn(2, 12, 5, 5))
    assert sorted(dict(plain.named_modules())) == ["", "again", "expand", "project"]
    assert len(certificate.regions) == 3


def test_half_an_image_that_is_written_over_stays_half():
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(self.conv(x))
            y[:, :, : x.shape[2] // 2] = 1.0
            return y

    network = trained(Halves())
    left_of(network)
    assert len(fold(network, torch.randn(2, 4, 9, 8))[1].regions) == 1


def test_plain_values_alone_are_compared():
    class Measures(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> tuple[int, int]:
            return self.conv(x).shape[2], 7

    plain, certificate = fold(Measures().eval(), torch.randn(2, 4, 9, 8))
    assert plain(torch.randn(1, 4, 5, 5)) == (5, 7)
    assert any("nothing to compare" in caveat for caveat in certificate.caveats)


def test_a_pair_that_pads_by_reflection_is_joined():
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(self.conv(x))
            return y if y.sum() > 0 else -y

    network = trained(Chooses())
    left_of(network)
    assert len(fold(network, torch.randn(2, 4, 9, 8))[1].regions) == 1


class TakesNoChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.norm(self.conv(x))
        return torch.cat([y, y[:, 4:] * 2 + 1], 1)


def test_a_slice_of_no_channels_is_no_layer():
    network = TakesNoChannels().eval()
    plain, certificate = fold(network, torch.randn(2, 3, 9, 9))
    assert len(certificate.regions) == 1
    x = torch.randn(1, 3, 12, 7)
    torch.testing.assert_close(plain(x), network(x), rtol=1e-4, atol=1e-5)
