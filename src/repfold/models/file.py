"""The model file: tensors in safetensors, and in its metadata all that is needed to use them, but no code.

``metadata["repfold"]`` is JSON: {"format": "repfold-model", "version": 2, "form", "architecture", "classes",
"preprocessing", "graph"}. A network of MODELS is rebuilt from its architecture; a folded or otherwise rewritten one
from its graph (see ``repfold.graph.file``); a network of the user's own factory only when the caller vouches for that
factory (see ``models.building``), for a file never makes Python import anything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import fx, nn

from repfold import run_files
from repfold.errors import RepFoldError
from repfold.models import graph, version1, weights
from repfold.models.building import NOTHING, Vouched, build
from repfold.models.create import MODELS, architecture_of
from repfold.models.description import Architecture, Description
from repfold.models.proof import Proof
from repfold.modules import differences, eval_mode, shapes

FORMAT, VERSION = "repfold-model", 2

# Which file of a run directory is meant.
RunForm = Literal["train", "plain", "fastest"]
_RUN_FILES: dict[str, tuple[str, ...]] = {
    "train": (run_files.BEST, run_files.PLAIN),
    "plain": (run_files.PLAIN,),
    "fastest": (run_files.PLAIN, run_files.BEST),
}


@dataclass(frozen=True)
class Model:
    """A network in eval mode and the description in its file."""

    network: nn.Module
    description: Description


def save(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    description: Description | None = None,
    example: object = None,
) -> None:
    """Write ``network`` to ``path`` atomically, such that ``load`` gives back the same function and the same tensors.

    Without a description a network of MODELS is recognised, and an fx.GraphModule is taken for a folded one. Any other
    network is written as the graph of its forward on ``example`` (a tensor, or a tuple of its arguments; made up if not
    given), which loads without the code that built it. Before the file replaces an older one it is loaded, and what it
    computes of the example is compared with the network; that of a factory's network only its own factory could load.
    Raises: RepFoldError when the network cannot be described, or its file would not give it back, with what to do.
    """
    if description is None:
        form: Literal["train", "folded"] = "folded" if isinstance(network, fx.GraphModule) else "train"
        description = Description(architecture=architecture_of(network), form=form)
    if not isinstance(network, fx.GraphModule) and description.architecture is not None:
        if description.architecture.name not in MODELS:
            return _write(path, description, None, network.state_dict())
        if _rebuilds(description.architecture, network.state_dict()):
            prove = lambda file: Proof(network, example, description).check(_load(file).network)  # noqa: E731
            return _write(path, description, None, network.state_dict(), prove)
    with eval_mode(network):
        proof = Proof(network, example, description)
        prove = lambda file: proof.check(_load(file).network)  # noqa: E731
        refused: RepFoldError | None = None
        for written_graph, state in graph.descriptions(network, proof.arguments):
            try:
                return _write(path, description, written_graph, state, prove)
            except RepFoldError as error:
                refused = refused or error
    assert refused is not None
    raise refused


def load(
    path: str | os.PathLike[str],
    *,
    form: RunForm = "train",
    factory: str | Callable[..., Any] | None = None,
    trust: bool = False,
) -> nn.Module:
    """The network of ``load_model``."""
    return load_model(path, form=form, factory=factory, trust=trust).network


def load_model(
    path: str | os.PathLike[str],
    *,
    form: RunForm = "train",
    factory: str | Callable[..., Any] | None = None,
    trust: bool = False,
) -> Model:
    """Load a model file, or the best (``form="train"``) or folded (``form="plain"``) network of a run directory.

    Args:
        form: of a run directory also "fastest": the folded network, or the best one when it was not folded.
        factory: for a network of MODELS nothing; for one of your own, the factory (or its "package.module:factory")
            that builds it, called with the numbers of classes and channels alone.
        trust: import the factory that the file names, and call it with the options that the file holds. Only for what
            you, or somebody whom you trust, trained: this runs their code.

    Returns the network in eval mode on the CPU, its tensors bit-equal to those saved.
    Raises: RepFoldError, naming the file, for anything that is not a complete and consistent model file.
    """
    file = find_file(path, form)
    model = _load(file, Vouched(factory, trust))
    try:
        weights.refuse_nan(model.network.state_dict())
    except RepFoldError as error:
        raise RepFoldError(f"{file}: {error}") from error
    return model


def read_description(path: str | os.PathLike[str], form: RunForm = "train") -> Description:
    """The description in a model file or run directory, read without building the network."""
    file = find_file(path, form)
    return _read(file)[0]


def find_file(path: str | os.PathLike[str], form: RunForm = "train") -> Path:
    """The model file that ``path`` means: itself, or the one of a run directory."""
    path = Path(path)
    if form not in _RUN_FILES:
        raise RepFoldError(f"form is {form!r}; it is 'train' or 'plain'.")
    if not path.is_dir():
        return path
    names = _RUN_FILES[form]
    for name in names:
        if (path / name).exists():
            return path / name
    raise RepFoldError(
        f"{path} holds no {' or '.join(names)}: it is not a run directory, or its run has not finished an epoch."
    )


def _load(file: Path, vouched: Vouched = NOTHING) -> Model:
    try:
        description, version, written_graph, contents = _read(file)
        if written_graph is not None and version == VERSION:
            network, filled = graph.from_json(written_graph, weights.read_tensors(file)), True
        elif written_graph is not None:
            network, filled = version1.read(written_graph, contents.shapes), False
        elif description.architecture is None:
            raise RepFoldError("it names neither an architecture nor a graph, so nothing can be built from it.")
        else:
            network, filled = build(description.architecture, vouched), False
        _check_fit(network, contents)
    except RepFoldError as error:
        raise error if str(file) in str(error) else RepFoldError(f"{file}: {error}") from error
    if not filled:
        _fill(network, weights.read_tensors(file))
    return Model(network.eval(), description)


def _write(
    path: str | os.PathLike[str],
    description: Description,
    written_graph: object,
    state: Mapping[str, torch.Tensor],
    check: Callable[[Path], None] = lambda file: None,
) -> None:
    header = {"format": FORMAT, "version": VERSION, **description.to_dict(), "graph": written_graph}
    try:
        text = json.dumps(header, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RepFoldError(f"The model's description cannot be written as JSON: {error}.") from error
    weights.write(path, state, {"repfold": text}, check)


def _read(file: Path) -> tuple[Description, int, Any, weights.Contents]:
    """Read and check the header: description, version, graph (or None), and the shapes of the tensors."""
    contents = weights.read_header(file)
    text = contents.metadata.get("repfold")
    if text is None:
        raise RepFoldError(
            f"{file} holds tensors but does not say of which network. If they are a known model's, `repfold convert` "
            "makes a model file of them; for a network of your own load them with its load_state_dict."
        )
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RepFoldError(f"{file}: its description is not JSON ({error}).") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise RepFoldError(f"{file}: its description is not that of a RepFold model.")
    version = header.get("version")
    if version not in (1, VERSION):
        raise RepFoldError(
            f"{file} has version {version!r} of the model format, but this RepFold reads {VERSION} and 1: "
            "it was probably written by a later one."
        )
    return Description.from_dict(header), version, header.get("graph"), contents


def _rebuilds(architecture: Architecture, state: Mapping[str, torch.Tensor]) -> bool:
    """Whether ``create`` with this architecture gives a network with exactly these tensors."""
    return shapes(build(architecture).state_dict()) == shapes(state)


def _check_fit(network: nn.Module, contents: weights.Contents) -> None:
    if found := differences(shapes(network.state_dict()), contents.shapes):
        raise RepFoldError(f"its tensors do not fit its network: {found}.")


def _fill(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give the network exactly these tensors, their dtypes included."""
    if any(value.is_meta for value in network.state_dict().values()):
        network.load_state_dict(tensors, assign=True)
        return
    # A factory's network may tie parameters together: those must stay the same objects, so values are copied in.
    for key, value in network.state_dict(keep_vars=True).items():
        value.data = value.data.to(tensors[key].dtype)
    network.load_state_dict(tensors)
