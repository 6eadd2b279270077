"""What a run chooses of its machine, and the way around oneDNN's error in strided 1x1 convolutions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from repfold import allowance, models
from repfold.errors import RepFoldError
from repfold.train import Recipe, machine
from repfold.train.faster_convolutions import SubsampledConv2d, replace_strided_pointwise


def test_what_the_recipe_says_is_done_and_every_choice_has_its_reason():
    recipe = Recipe(device="cpu", precision="fp32", channels_last="off", fused="off", threads=3)
    chosen = machine.choose(recipe)
    assert (chosen.precision, chosen.channels_last, chosen.fused, chosen.threads) == ("fp32", False, False, 3)
    told = machine.choose(Recipe(device="cpu")).to_dict()
    assert set(told["reasons"]) == set(told) - {"reasons"}


def test_bf16_is_chosen_where_the_cpu_multiplies_it(monkeypatch):
    for capabilities, precision in (({"avx512_bf16": True}, "bf16"), ({"avx512_f": True}, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert machine.choose(Recipe(device="cpu")).precision == precision


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(allowance, "cores", lambda: 16)
    assert machine.choose(Recipe(device="cpu")).threads == 8


def test_no_more_threads_than_the_cores_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(allowance, "cores", lambda: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    chosen = machine.choose(Recipe(device="cpu"))
    assert (chosen.threads, chosen.reasons["threads"]) == (3, "the cores that this process may use")


def test_threads_beyond_all_cores_are_refused_with_their_number():
    with pytest.raises(RepFoldError, match=r"threads is 100,000, and \d+ cores? may be used here"):
        machine.choose(Recipe(device="cpu", threads=100_000))


def test_what_the_machine_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RepFoldError, match="no GPU"):
        machine.choose(Recipe(device="cuda"))
    with pytest.raises(RepFoldError, match="fp16 needs a GPU"):
        machine.choose(Recipe(device="cpu", precision="fp16"))


@pytest.mark.parametrize("bias", [True, False])
def test_subsampling_is_the_same_function_with_the_same_gradients(bias):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 1, stride=(2, 3), bias=bias), nn.Conv2d(5, 4, 1, stride=2, groups=1))
    network.double()
    replaced = copy.deepcopy(network)
    parameters = list(replaced.parameters())
    assert replace_strided_pointwise(replaced) == ["0", "1"]
    assert list(replaced.state_dict()) == list(network.state_dict())
    assert all(a is b for a, b in zip(parameters, replaced.parameters(), strict=True))
    x = torch.randn(2, 3, 9, 11, dtype=torch.float64)
    for net in (network, replaced):
        net(x).square().sum().backward()
    assert torch.allclose(network(x), replaced(x))
    for a, b in zip(network.parameters(), replaced.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad)


def test_only_what_the_error_can_strike_is_replaced():
    network = nn.Sequential(
        nn.Conv2d(16, 3, 1, stride=2),
        nn.Conv2d(3, 3, 1),
        nn.Conv2d(3, 3, 3, stride=2),
        nn.Conv2d(3, 3, 1, stride=2, padding=1),
    )
    assert replace_strided_pointwise(network) == []
    shared = nn.Conv2d(3, 3, 1, stride=2)
    twice = nn.Sequential(shared, nn.Sequential(shared))
    replace_strided_pointwise(twice)
    assert isinstance(twice[0], SubsampledConv2d) and twice[0] is twice[1][0]


def test_the_stem_of_repvgg_is_placed_without_the_error():
    network = models.create("repvgg-pico", num_classes=3)
    machine.choose(Recipe(device="cpu")).prepare(network)
    struck = [m for m in network.modules() if type(m) is nn.Conv2d and m.kernel_size == (1, 1) and m.in_channels < 16]
    assert not struck
    machine.choose(Recipe(device="cpu", channels_last="off")).prepare(network := models.create("repvgg-pico"))
    assert not any(isinstance(module, SubsampledConv2d) for module in network.modules())
