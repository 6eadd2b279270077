"""A tensor made compact and dense again is the same tensor, and what is stored is small where it can be."""

import pytest
import torch

from repfold.optim.compact import CompactTensor, compact

EYE = torch.zeros(32, 32, 3, 3)
EYE[range(32), range(32), 1, 1] = torch.arange(1.0, 33)
CENTRE = torch.zeros(32, 16, 3, 3)
CENTRE[:, :, 1, 1] = torch.arange(32.0)[:, None]
STRIP = torch.zeros(5, 4, 3, 3)
STRIP[:, :, 1, :] = torch.randn(5, 1, 1)
# name -> (tensor, the most numbers that it may take)
CASES = {
    "a factor a channel": (torch.randn(6, 1, 1, 1).expand(6, 4, 3, 3), 6),
    "the centre tap": (CENTRE, 32),
    "a strip": (STRIP, 5),
    "a diagonal": (EYE, 2 * 32),
    "anything": (torch.randn(4, 3, 2, 2), 48),
    "ones": (torch.ones(4, 3, 3, 3), 1),
    "zeros": (torch.zeros(4, 3, 3, 3), 0),
    "a bias": (torch.tensor([0.0, 2.0, 2.0]), 1),
    "a single number": (torch.full((1, 1, 1, 1), 3.0), 1),
    "two far apart": (torch.zeros(8, 8).index_put((torch.tensor([0, 7]), torch.tensor([0, 7])), torch.tensor(1.0)), 4),
}


def stored(tensor: CompactTensor) -> int:
    return tensor.values.numel() + (0 if tensor.index is None else tensor.index.numel())


@pytest.mark.parametrize("tensor, most", CASES.values(), ids=CASES)
def test_dense_gives_the_tensor_back(tensor, most):
    compacted = compact(tensor.double())
    assert torch.equal(compacted.dense(), tensor.double())
    assert stored(compacted) <= most
    assert compacted.is_zero == (not tensor.any())


@pytest.mark.parametrize("tensor, most", CASES.values(), ids=CASES)
def test_the_entries_are_all_that_differ_from_zero(tensor, most):
    compacted = compact(tensor)
    rest = tensor.clone().contiguous(memory_format=torch.channels_last if tensor.dim() == 4 else torch.preserve_format)
    if not compacted.is_zero:
        rest[compacted.entries()] -= compacted.values
    assert not rest.any()


def test_state_is_safe_to_load_and_exact(tmp_path):
    compacted = compact(EYE)
    torch.save(compacted.to_state(), tmp_path / "state.pt")
    loaded = CompactTensor.from_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (
        torch.equal(loaded.dense(), EYE)
        and loaded.to(torch.ones(1, dtype=torch.float64)).values.dtype.is_floating_point
    )
