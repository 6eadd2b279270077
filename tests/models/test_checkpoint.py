"""Checkpoints of other code: unwrapped, their prefixes stripped, never run."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from repfold.errors import RepFoldError
from repfold.models import load_weights, read_checkpoint

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict", "net"])
def test_wrappers_and_prefixes_come_off(tmp_path, prefix, wrapper):
    state = {prefix + key: value for key, value in STATE.items()}
    content = state if wrapper is None else {"epoch": 3, wrapper: state, "optimizer": {"lr": 0.1}}
    torch.save(content, tmp_path / "c.pth")
    found = read_checkpoint(tmp_path / "c.pth")
    assert found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_averaged_weights_are_preferred(tmp_path):
    averaged = {key: value + 1 for key, value in STATE.items()}
    torch.save({"state_dict": STATE, "state_dict_ema": averaged}, tmp_path / "c.pth")
    assert torch.equal(read_checkpoint(tmp_path / "c.pth")["bias"], averaged["bias"])


def test_a_prefix_that_only_some_keys_share_is_a_name(tmp_path):
    state = {"module.weight": torch.zeros(1), "head.weight": torch.zeros(1)}
    save_file(state, tmp_path / "c.safetensors")
    assert read_checkpoint(tmp_path / "c.safetensors").keys() == state.keys()


def test_old_and_new_files_of_torch_save_are_read(tmp_path):
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_checkpoint(tmp_path / "old.pth").keys() == STATE.keys()


class Attack:
    ran = False

    @staticmethod
    def run():
        Attack.ran = True

    def __reduce__(self):
        return (Attack.run, ())


def write_attack(path):
    torch.save({"state_dict": STATE, "extra": Attack()}, path)


def write_bare_pickle(path):
    path.write_bytes(pickle.dumps(Attack(), protocol=2))


def write_truncated(path):
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_attack, "more than tensors"),
        (write_bare_pickle, "more than tensors|damaged"),
        (write_truncated, "damaged"),
        (lambda path: torch.save([1, 2], path), "holds no state_dict"),
        (lambda path: torch.save({}, path), "holds no state_dict"),
        (lambda path: path.write_text("hello"), "not a complete safetensors"),
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: None, "is not a file"),
    ],
)
def test_what_is_no_checkpoint_is_refused_by_name_and_never_run(tmp_path, write, message):
    path = tmp_path / "bad.pth"
    write(path)
    with pytest.raises(RepFoldError, match=message) as caught:
        read_checkpoint(path)
    assert "bad.pth" in str(caught.value) and not Attack.ran


def test_weights_have_to_fit_whole(tmp_path):
    torch.save(STATE, tmp_path / "c.pth")
    network = nn.Linear(3, 2)
    load_weights(network, tmp_path / "c.pth")
    assert torch.equal(network.weight, STATE["weight"])
    other = nn.Linear(3, 4, bias=False)
    before = other.weight.clone()
    with pytest.raises(
        RepFoldError, match=r"'bias' belongs to nothing in the network, 'weight' is \[2, 3\], not \[4, 3\]"
    ):
        load_weights(other, tmp_path / "c.pth")
    assert torch.equal(other.weight, before)


def test_a_header_whose_length_looks_like_a_pickle_is_none(tmp_path):
    """The file begins with the length of its header: 0x280 bytes, which a pickle of protocol 2 may begin with too."""
    for padding in range(0x280):
        save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors", {"x": "y" * padding})
        if (tmp_path / "w.safetensors").read_bytes().startswith(b"\x80\x02"):
            break
    assert list(read_checkpoint(tmp_path / "w.safetensors")) == ["a"]
