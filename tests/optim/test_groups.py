"""Which parameters decay."""

from __future__ import annotations

from torch import nn

from repfold.blocks import CSLABranches
from repfold.optim.groups import parameter_groups


def test_kernels_decay_and_norms_and_biases_do_not():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm([4, 2, 2]), nn.Linear(4, 2))
    groups = parameter_groups(network)
    assert {id(p) for p in groups.decayed} == {id(network[0].weight), id(network[3].weight)}
    assert len(groups.exempt) == 6
    decays = [group["weight_decay"] for group in groups.for_optimizer(0.01)]
    assert decays == [0.01, 0.0]
    assert "BatchNorm2d: 2 tensors, 8 values, no decay" in groups.summary
    assert "Conv2d: 1 tensor, 108 values, decay" in groups.summary


def test_the_type_of_the_module_decides_and_not_a_name():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn_bias = nn.Linear(2, 2, bias=False)
            self.weight = nn.BatchNorm1d(2)

    odd = Odd()
    groups = parameter_groups(odd)
    assert groups.decayed == (odd.bn_bias.weight,) and len(groups.exempt) == 2


def test_shared_and_frozen_parameters():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    second.bias.requires_grad_(False)
    groups = parameter_groups(nn.Sequential(first, second))
    assert groups.decayed == (first.weight,) and groups.exempt == (first.bias,)
    only = parameter_groups(nn.BatchNorm1d(3))
    assert len(only.for_optimizer(1.0)) == 1


def test_scales_of_whatever_shape_do_not_decay_and_kernels_of_one_channel_do():
    branches = CSLABranches(4, 4, train_scales=True)
    searching = parameter_groups(branches)
    assert {id(p) for p in searching.exempt} == {id(branches.kxk_scale_O11), id(branches.point_scale_O11)}
    assert {id(p) for p in searching.decayed} == {
        id(p) for p in (branches.kxk.weight, branches.point.weight, branches.identity_scale_O11)
    }
    assert len(parameter_groups(nn.Conv2d(1, 4, 1, bias=False)).decayed) == 1
