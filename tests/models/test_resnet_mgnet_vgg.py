"""Plain VGG, ResNet and MgNet: published sizes, formulas, folding, model files, and other norms."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from repfold import models, norms
from repfold.errors import RepFoldError
from repfold.fold import fold

PARAMETERS = {
    ("mgnet-64", "level"): 521_418,
    ("mgnet-64", "iteration"): 668_874,
    ("mgnet-128", "level"): 2_075_018,
    ("mgnet-128", "iteration"): 2_664_842,
    ("mgnet-256", "level"): 8_278_794,
    ("mgnet-256", "iteration"): 10_638_090,
}
SMALL = ("mgnet-64", "resnet18-cifar", "resnet20-cifar", "vgg-pico")


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def built(name, **options):
    """With running statistics and scales that a forgotten norm would show."""
    torch.manual_seed(0)
    network = models.create(name, num_classes=10, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_()
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def norms_after_convolutions(plain):
    def layer(node):
        return plain.get_submodule(node.target) if node.op == "call_module" else None

    return [
        node.name
        for node in plain.graph.nodes
        if isinstance(layer(node), nn.BatchNorm2d)
        and any(isinstance(layer(source), nn.Conv2d) for source in node.all_input_nodes)
    ]


@pytest.mark.parametrize("name, sharing", PARAMETERS)
def test_mgnet_has_the_published_sizes(name, sharing):
    with torch.device("meta"):
        assert count(models.create(name, num_classes=10, sharing=sharing)) == PARAMETERS[name, sharing]


@pytest.mark.parametrize(
    "name, classes, parameters",
    [
        ("resnet18-cifar", 10, 11_173_962),
        ("resnet56-cifar", 10, 853_018),
        ("resnet18", 1000, 11_689_512),
        ("resnet34", 1000, 21_797_672),
        ("resnet50", 1000, 25_557_032),
        ("resnet50-vd", 1000, 25_576_264),  # timm's resnet50d
    ],
)
def test_resnets_have_the_published_sizes(name, classes, parameters):
    with torch.device("meta"):
        assert count(models.create(name, num_classes=classes)) == parameters


def test_a_plain_vgg_has_the_size_of_the_folded_repvgg():
    with torch.device("meta"):
        plain = models.create("vgg-a0")
    norm_values = sum(m.num_features for m in plain.modules() if isinstance(m, nn.BatchNorm2d))
    assert count(plain) - norm_values == 8_309_384  # the norm's scale and shift become one bias


def test_mgnet_is_the_multigrid_iteration():
    """One level of two iterations and one restriction, written from the formulas."""
    net = built("mgnet-64", channels=4, iterations=(2, 1), sharing="iteration").double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    a, a_coarse = net.levels[0].operator, net.levels[1].operator
    relu = functional.relu
    f = relu(net.stem_norm(net.stem(x)))
    u = torch.zeros_like(f)
    for i in range(2):
        level = net.levels[0]
        u = u + relu(level.correction_norms[i](level.smoothers[i](relu(level.residual_norms[i](f - a(u))))))
    down = net.restrictions[0]
    u_coarse = relu(down.solution_norm(down.solution(u)))
    f_coarse = relu(down.residual_norm(down.residual(f - a(u)))) + a_coarse(u_coarse)
    level = net.levels[1]
    inner = relu(level.residual_norms[0](f_coarse - a_coarse(u_coarse)))
    u_coarse = u_coarse + relu(level.correction_norms[0](level.smoothers[0](inner)))
    torch.testing.assert_close(net(x), net.head(u_coarse.mean((2, 3))))


def test_the_padded_shortcut_takes_every_other_pixel_and_adds_zero_channels():
    shortcut = models.create("resnet20-cifar", num_classes=10).layer2[0].downsample
    x = torch.randn(2, 16, 6, 6)
    y = shortcut(x)
    assert y.shape == (2, 32, 3, 3)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any() and not y[:, 24:].any()


def test_the_32px_preset_is_the_cifar_resnet():
    with torch.device("meta"):
        small = models.create("resnet18", num_classes=10, preset="32px")
        cifar = models.create("resnet18-cifar", num_classes=10)
    assert {k: v.shape for k, v in small.state_dict().items()} == {k: v.shape for k, v in cifar.state_dict().items()}


def test_variant_d_has_three_convolutions_in_the_stem_and_averages_in_its_shortcuts():
    network = models.create("resnet50-vd", num_classes=10)
    strides = [layer.stride[0] for layer in network.conv1 if isinstance(layer, nn.Conv2d)]
    assert strides == [2, 1, 1]
    pool, conv, _ = network.layer2[0].downsample
    assert conv.stride == (1, 1) and isinstance(network.layer1[0].downsample[0], nn.Identity)
    x = torch.randn(1, 2, 5, 5)
    corner = pool(x)[..., -1, -1]  # the average of the pixels that there are
    assert torch.equal(corner, x[..., -1, -1]) and pool(x).shape == (1, 2, 3, 3)


@pytest.mark.parametrize("name", [*SMALL, "resnet50", "resnet50-vd"])
def test_all_of_them_fold(name):
    network = built(name, preset="32px")
    x = torch.randn(2, 3, 16, 16)
    plain, certificate = fold(network, x, policy="always")
    assert norms_after_convolutions(plain) == []
    assert certificate.error < 1e-5
    torch.testing.assert_close(plain(x), network(x), rtol=1e-3, atol=1e-4)


def test_a_fold_that_may_not_untie_keeps_shared_smoothers_and_says_so():
    network = built("mgnet-64", channels=8)
    plain, certificate = fold(network, torch.randn(1, 3, 16, 16))
    assert len(norms_after_convolutions(plain)) == 8
    assert any("more than once" in left.reason for left in certificate.left)
    untied, _ = fold(built("mgnet-64", channels=8, sharing="iteration"), torch.randn(1, 3, 16, 16))
    assert norms_after_convolutions(untied) == []


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("norm", ["group:4", "layer", "instance", "general:1/4/1/1"])
def test_every_network_takes_every_norm_and_its_file_gives_it_back(name, norm, tmp_path):
    network = built(name, norm=norm, preset="32px")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    models.save(network, tmp_path / "net.safetensors")
    read = models.load(tmp_path / "net.safetensors")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(read(x), network(x))
    assert type(read) is type(network)


def test_the_norm_is_one_of_the_options_that_describe_a_network():
    network = models.create("mgnet-64", num_classes=10, channels=8, norm="group:2")
    assert models.architecture_of(network) == models.Architecture(
        "mgnet-64", 10, options={"channels": 8, "norm": "group:2"}
    )
    assert isinstance(network.stem_norm, nn.GroupNorm)


def test_a_batch_norm_by_name_changes_nothing():
    network = built("resnet20-cifar")
    same = norms.replace(network, "batch")
    assert {type(a) for a in same.modules()} == {type(a) for a in network.modules()}


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("mgnet-64", {"sharing": "levels"}, "level"),
        ("mgnet-64", {"iterations": (2, 0)}, "at least one"),
        ("mgnet-64", {"width": 3}, "cannot be built"),
        ("mgnet-64", {"norm": "group:128"}, "stem_norm.*do not divide"),
        ("resnet20-cifar", {"norm": "group:32"}, "16 channels"),
        ("resnet18", {"norm": "gruop:2"}, "Did you mean.*group"),
        ("resnet18", {"activation": "rellu"}, "relu"),
        ("resnet18", {"preset": "64px"}, "32px"),
        ("resnet19", {}, "resnet18"),
    ],
)
def test_wrong_options_are_told(name, options, message):
    with pytest.raises(RepFoldError, match=message):
        models.create(name, **options)
