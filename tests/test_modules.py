"""Modules replaced at every path, modes put back one by one, and what does not fit told by name."""

from __future__ import annotations

from torch import nn

from repfold.modules import differences, eval_mode, replace_modules, shapes


def test_a_module_is_replaced_at_every_path_by_one():
    shared, other = nn.Conv2d(1, 1, 1), nn.Identity()
    network = nn.Sequential(shared, nn.Sequential(nn.ReLU(), shared))
    assert replace_modules(network, {shared: other}) is network
    assert network[0] is other and network[1][1] is other and isinstance(network[1][0], nn.ReLU)


def test_a_network_may_be_replaced_itself():
    network, other = nn.Conv2d(1, 1, 1), nn.Identity()
    assert replace_modules(network, {network: other}) is other


def test_every_module_gets_its_own_mode_back():
    network = nn.Sequential(nn.BatchNorm2d(1).eval(), nn.Dropout()).train()
    network[0].eval()
    try:
        with eval_mode(network):
            assert not any(module.training for module in network.modules())
            raise KeyError
    except KeyError:
        pass
    assert [module.training for module in network.modules()] == [True, False, True]


def test_differences_name_what_does_not_fit():
    own = shapes(nn.Conv2d(1, 2, 3).state_dict())
    assert differences(own, dict(own)) == ""
    given = {"weight": (2, 1, 1, 1), "other": ()}
    assert differences(own, given) == (
        "'bias' is missing, 'other' belongs to nothing in the network, 'weight' is [2, 1, 1, 1], not [2, 1, 3, 3]"
    )
    assert differences({str(i): 0 for i in range(5)}, {}).endswith("'2' is missing and 2 more")
