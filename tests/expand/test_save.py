"""What was expanded is saved and loaded as any network is."""

from __future__ import annotations

import pytest
import torch
from tests.expand.users_networks import FOREIGN, settled
from torch import nn

import repfold
from repfold.expand import EXPANDABLE

pytestmark = pytest.mark.filterwarnings("ignore::repfold.expand.ExpandWarning")
IMAGES = torch.randn(2, 3, 25, 27, generator=torch.Generator().manual_seed(5))


def expanded(name: str) -> nn.Module:
    torch.manual_seed(0)
    return repfold.expand(settled(FOREIGN["resnet"](), torch.float32), name)


@pytest.mark.parametrize("name", sorted(EXPANDABLE))
def test_an_expanded_network_loads_as_it_was_saved(name, tmp_path):
    rich = expanded(name)
    repfold.save(rich, tmp_path / "rich.safetensors")
    again = repfold.load(tmp_path / "rich.safetensors")
    state = rich.state_dict()
    assert again.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(again(IMAGES), rich(IMAGES))


def test_the_border_of_a_loaded_dbb_follows_its_norm(tmp_path):
    """It is computed from running statistics: from those of the moment, not from those when it was saved."""
    rich = expanded("dbb")
    repfold.save(rich, tmp_path / "rich.safetensors")
    again = repfold.load(tmp_path / "rich.safetensors")
    # With scales of 1 all branches count.
    changed = {key: torch.rand_like(v) + 0.5 if v.is_floating_point() else v for key, v in rich.state_dict().items()}
    rich.load_state_dict(changed)
    again.load_state_dict(changed)
    with torch.no_grad():
        torch.testing.assert_close(again(IMAGES), rich(IMAGES))


def test_saving_leaves_no_trace_on_the_network(tmp_path):
    rich = expanded("dbb")
    before = {path: set(vars(module)) for path, module in rich.named_modules()}
    repfold.save(rich, tmp_path / "rich.safetensors")
    assert {path: set(vars(module)) for path, module in rich.named_modules()} == before
