"""A tensor placed and made dense again is the same tensor, and what is stored is small where it can be."""

import pytest
import torch

from repfold.optim.placed import Placed, place

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


def stored(placed: Placed) -> int:
    return placed.values.numel() + (0 if placed.index is None else placed.index.numel())


@pytest.mark.parametrize("tensor, most", CASES.values(), ids=CASES)
def test_dense_gives_the_tensor_back(tensor, most):
    placed = place(tensor.double())
    assert torch.equal(placed.dense(), tensor.double())
    assert stored(placed) <= most
    assert placed.is_zero == (not tensor.any())


@pytest.mark.parametrize("tensor, most", CASES.values(), ids=CASES)
def test_places_see_all_that_differs_from_zero(tensor, most):
    placed = place(tensor)
    rest = tensor.clone().contiguous(memory_format=torch.channels_last if tensor.dim() == 4 else torch.preserve_format)
    if not placed.is_zero:
        rest[placed.places()] -= placed.values
    assert not rest.any()


def test_state_is_safe_to_load_and_exact(tmp_path):
    placed = place(EYE)
    torch.save(placed.to_state(), tmp_path / "state.pt")
    loaded = Placed.from_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (
        torch.equal(loaded.dense(), EYE)
        and loaded.to(torch.ones(1, dtype=torch.float64)).values.dtype.is_floating_point
    )
