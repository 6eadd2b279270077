"""The model file: exact both ways, complete, atomic, and clear about every file that is not one."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import fx, nn

import repfold
from repfold import models
from repfold.errors import RepFoldError

DESCRIPTION = models.Description(
    architecture=models.Architecture("repvgg-pico", 3, "32px", 1),
    classes=("ant", "bee", "Käfer"),
    preprocessing=models.Preprocessing(image_size=8, resize=9, mean=(0.5,), std=(0.25,), channels=1),
)


def pico(dtype: torch.dtype = torch.float32) -> nn.Module:
    network = models.create("repvgg-pico", num_classes=3, preset="32px", in_channels=1)
    with torch.no_grad():
        network.train()(torch.rand(8, 1, 8, 8))  # running statistics of their own
    return network.to(dtype).eval()


def assert_same(first: nn.Module, second: nn.Module) -> None:
    one, other = first.state_dict(), second.state_dict()
    assert one.keys() == other.keys()
    for key in one:
        assert one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]), key


def header_of(path) -> dict:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["repfold"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_network_of_the_family_comes_back_bit_equal(tmp_path, dtype):
    network = pico(dtype)
    repfold.save(network, tmp_path / "net.safetensors", description=DESCRIPTION)
    model = models.load_model(tmp_path / "net.safetensors")
    assert_same(network, model.network)
    assert model.description == DESCRIPTION
    assert not model.network.training and all(p.requires_grad for p in model.network.parameters())
    x = torch.rand(2, 1, 8, 8, dtype=dtype)
    assert torch.equal(model.network(x), network(x))


def test_without_a_description_the_network_is_recognised(tmp_path):
    repfold.save(pico(), tmp_path / "net.safetensors")
    found = models.read_description(tmp_path / "net.safetensors")
    assert found == models.Description(architecture=DESCRIPTION.architecture)
    assert header_of(tmp_path / "net.safetensors")["graph"] is None


def test_a_traced_network_comes_back_bit_equal_and_trains_on(tmp_path):
    network = fx.symbolic_trace(pico())
    repfold.save(network, tmp_path / "plain.safetensors")
    model = models.load_model(tmp_path / "plain.safetensors")
    assert model.description.form == "folded"
    assert_same(network, model.network)
    loss = model.network(torch.rand(2, 1, 8, 8)).sum()
    loss.backward()
    assert all(p.grad is not None for p in model.network.parameters())


def test_a_network_that_was_rewritten_is_saved_by_its_graph(tmp_path):
    network = pico()
    network.stages[0][0].branches.kxk = nn.Conv2d(16, 16, 5, padding=2)
    repfold.save(network, tmp_path / "net.safetensors", description=DESCRIPTION)
    loaded = repfold.load(tmp_path / "net.safetensors")
    assert_same(network, loaded)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(loaded(x), network(x))


def test_saving_leaves_train_mode_as_it_was(tmp_path):
    network = nn.Sequential(nn.Linear(3, 3), nn.Dropout()).train()
    network[1].eval()
    repfold.save(network, tmp_path / "net.safetensors")
    assert network.training and network[0].training and not network[1].training


class DecidesByData(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class OnlyInTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.main, self.extra = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.main(x) + self.extra(x) if self.training else self.main(x)


@pytest.mark.parametrize("network", [DecidesByData(), OnlyInTraining()])
def test_a_network_that_its_graph_would_not_describe_needs_a_factory(tmp_path, network):
    with pytest.raises(RepFoldError, match=r"package\.module:factory"):
        repfold.save(network, tmp_path / "net.safetensors", example=torch.randn(3, 2))
    assert not (tmp_path / "net.safetensors").exists()


def tied() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    network[1].weight = network[0].weight
    return network


def test_a_factorys_network_loads_only_when_the_caller_vouches_for_the_factory(tmp_path):
    network = tied().double()
    architecture = models.Architecture("tests_of_models:tied")
    path = tmp_path / "net.safetensors"
    repfold.save(network, path, description=models.Description(architecture=architecture))
    with pytest.raises(RepFoldError, match=r"--trust .* --factory 'tests_of_models:tied'"):
        repfold.load(path)
    loaded = repfold.load(path, factory=tied)
    assert_same(network, loaded)
    assert loaded[0].weight is loaded[1].weight


LINEAR = models.Architecture("torch.nn:Linear", options={"in_features": 2, "out_features": 2})


def test_a_run_directory_prefers_its_best_and_vouches_for_nothing(tmp_path):
    best, last = nn.Linear(2, 2), nn.Linear(2, 2)
    repfold.save(best, tmp_path / "best.safetensors", description=models.Description(architecture=LINEAR))
    repfold.save(fx.symbolic_trace(last), tmp_path / "plain.safetensors", example=torch.randn(1, 2))
    (tmp_path / "recipe.toml").write_text('model = "torch.nn:Linear"\n')
    for path in (tmp_path, tmp_path / "best.safetensors"):
        with pytest.raises(RepFoldError, match="a file may not import code"):
            repfold.load(path)
        assert_same(repfold.load(path, trust=True), best)
    assert_same(repfold.load(tmp_path, form="plain"), last)  # a graph is no code


def test_a_factory_is_called_with_nothing_that_only_the_file_says(tmp_path):
    path = tmp_path / "net.safetensors"
    network = nn.Linear(2, 2)
    repfold.save(network, path, description=models.Description(architecture=LINEAR))
    with pytest.raises(RepFoldError, match="called with in_features=2, out_features=2"):
        repfold.load(path, factory="torch.nn:Linear")
    assert_same(repfold.load(path, factory="torch.nn:Linear", trust=True), network)
    own = models.Architecture("torch.nn:Linear", preset="https://elsewhere")
    repfold.save(network, path, description=models.Description(architecture=own))
    with pytest.raises(RepFoldError, match="called with preset='https://elsewhere'"):
        repfold.load(path, factory=lambda preset: nn.Linear(2, 2))


def test_an_unfinished_run_says_so(tmp_path):
    with pytest.raises(RepFoldError, match="has not finished an epoch"):
        repfold.load(tmp_path)


def test_the_loaded_network_survives_the_replacement_of_its_file(tmp_path):
    path = tmp_path / "net.safetensors"
    network = pico()
    repfold.save(network, path)
    loaded = repfold.load(path)
    path.write_bytes(b"\0" * path.stat().st_size)  # in place: a memory-mapped tensor would change
    assert_same(network, loaded)


def test_a_failed_save_leaves_the_last_good_file(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    network = pico()
    repfold.save(network, path)

    def full_disk(tensors, name, metadata):
        name.write_bytes(b"torn")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("repfold.models.weights.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        repfold.save(pico(), path)
    assert_same(network, repfold.load(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.safetensors"]


def good_bytes(tmp_path) -> bytes:
    repfold.save(pico(), tmp_path / "good.safetensors", description=DESCRIPTION)
    return (tmp_path / "good.safetensors").read_bytes()


def write_pickle(path, good):
    torch.save({"weight": torch.zeros(2)}, path)


def rewrite(edit):
    """A fault that edits the header's dictionary."""

    def fault(path, good):
        path.write_bytes(good)
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["repfold"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        edit(header, tensors)
        save_file(tensors, path, metadata={"repfold": json.dumps(header)})

    return fault


FAULTS = {
    "missing": (lambda path, good: None, "does not exist"),
    "empty": (lambda path, good: path.write_bytes(b""), "is empty"),
    "a pipe that nobody writes to": (lambda path, good: os.mkfifo(path), "it is a pipe"),
    "a pickle": (write_pickle, "is a pickle"),
    "truncated": (lambda path, good: path.write_bytes(good[:-100]), "truncated"),
    "truncated in the header": (lambda path, good: path.write_bytes(good[:50]), "truncated"),
    "an image": (lambda path, good: path.write_bytes(b"\x89PNG\r\n\x1a\n" * 9), "not a complete safetensors"),
    "huge header": (lambda path, good: path.write_bytes(b"\xff" * 64), "not a complete safetensors"),
    "foreign weights": (lambda path, good: save_file({"a": torch.zeros(1)}, path), "of which network"),
    "other format": (rewrite(lambda h, t: h.update(format="other")), "not that of a RepFold model"),
    "later version": (rewrite(lambda h, t: h.update(version=3)), "later one"),
    "no form": (rewrite(lambda h, t: h.pop("form")), "form is None"),
    "nothing to build": (rewrite(lambda h, t: h.update(architecture=None)), "neither an architecture nor a graph"),
    "unknown model": (rewrite(lambda h, t: h["architecture"].update(name="repvgg-pic")), "Did you mean"),
    "other model": (rewrite(lambda h, t: h["architecture"].update(name="repvgg-a0")), "do not fit"),
    "other classes": (rewrite(lambda h, t: h["architecture"].update(num_classes=4)), "names 3 classes, .* has 4"),
    "other outputs": (
        rewrite(lambda h, t: (h.pop("classes"), h["architecture"].update(num_classes=4))),
        r"\[3, 128\], not \[4, 128\]",
    ),
    "a mean that is no number": (
        rewrite(lambda h, t: h["preprocessing"].update(mean=[float("nan")])),
        r"mean has a wrong value: \[nan\]",
    ),
    "weights that are no numbers": (
        rewrite(lambda h, t: t["head.bias"].fill_(float("nan"))),
        r"not numbers \(NaN\), 'head.bias' for one",
    ),
    "an image of 10^8 px": (rewrite(lambda h, t: h["preprocessing"].update(resize=10**8)), "at most 8192 px"),
    "10^9 classes": (
        rewrite(lambda h, t: (h.pop("classes"), h["architecture"].update(num_classes=10**9))),
        "num_classes has a wrong value",
    ),
    "a name of a megabyte": (rewrite(lambda h, t: h.update(classes=["x" * 2**20] * 3)), "at most 1000 characters"),
    "an option that is none": (
        rewrite(lambda h, t: h["architecture"].update(options={"num_classes": 3})),
        "options has a wrong value",
    ),
    "options of a wrong kind": (
        rewrite(lambda h, t: h["architecture"].update(options={"block": ["repvgg"]})),
        "cannot be built",
    ),
    "a thousand levels": (
        rewrite(lambda h, t: h["architecture"].update(name="mgnet-64", options={"iterations": [10**6]})),
        "at most 1000",
    ),
    "lost tensor": (rewrite(lambda h, t: t.pop("head.bias")), "'head.bias' is missing"),
    "extra tensor": (rewrite(lambda h, t: t.update(tail=torch.zeros(1))), "'tail' belongs to nothing"),
    "bad field": (rewrite(lambda h, t: h["architecture"].update(num_classes="3")), "architecture.num_classes"),
    "unknown field": (rewrite(lambda h, t: h["architecture"].update(depth=3)), "unknown fields: depth"),
    "lost field": (rewrite(lambda h, t: h["preprocessing"].pop("mean")), "lacks mean"),
    "bad preprocessing": (rewrite(lambda h, t: h["preprocessing"].update(std=[0.0])), "above 0"),
    "bad classes": (rewrite(lambda h, t: h.update(classes=[1, 2])), "list of names"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_no_model_is_refused_by_name_and_reason(tmp_path, fault):
    path = tmp_path / "bad.safetensors"
    make, message = FAULTS[fault]
    make(path, good_bytes(tmp_path))
    with pytest.raises(RepFoldError, match=message) as caught:
        models.load_model(path)
    assert "bad.safetensors" in str(caught.value)


def test_tensors_without_values_are_not_saved(tmp_path):
    with torch.device("meta"):
        network = models.create("repvgg-pico")
    with pytest.raises(RepFoldError, match="only dense values"):
        repfold.save(network, tmp_path / "net.safetensors")


def test_options_that_json_lacks_are_refused(tmp_path):
    architecture = models.Architecture("torch.nn:Linear", options={"dtype": torch.float32})
    with pytest.raises(RepFoldError, match="as JSON"):
        repfold.save(nn.Linear(1, 1), tmp_path / "n.safetensors", description=models.Description(architecture))
