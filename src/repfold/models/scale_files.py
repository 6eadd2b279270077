"""Files of scales: written as safetensors; read too from JSON, from hyper-search networks, and from .pth files.

The latter are those of github.com/DingXiaoH/RepOptimizers: OrderedDicts, or whole checkpoints, with the keys
stage0.scale_conv.weight, stage1.0.scale_1x1.weight, stage1.1.scale_identity.weight, ...; or lists with (identity, 1x1,
full) or (1x1, full) of each block.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from repfold import regular, run_files
from repfold.errors import RepFoldError, first_line
from repfold.models import weights
from repfold.models.checkpoint import strip_prefixes, unwrap
from repfold.models.file import find_file
from repfold.models.scales import BRANCHES, BlockScales, Scales

FORMAT, VERSION = "repfold-scales", 1
_MOST_BYTES = 2**28

_PUBLIC = {"conv": "kxk", "1x1": "point", "identity": "identity"}
_LISTED = re.compile(r"(?P<block>.+)\.(?P<branch>kxk|point|identity)")
_SEARCHED = re.compile(r"(?P<block>.+)\.branches\.structure\.(?P<branch>kxk|point|identity)_scale_O11")
_THEIRS = re.compile(r"stage(?P<stage>\d+)(?:\.(?P<index>\d+))?\.scale_(?P<branch>conv|1x1|identity)\.weight")


def load_scales(path: str | os.PathLike[str]) -> Scales:
    """Read scales from a scales file, a model file, a .pth checkpoint, or a run directory of a search or a target.

    Raises: RepFoldError, naming the file, when it holds none, or not all of a network's.
    """
    file = Path(path)
    if file.is_dir():
        file = file / run_files.SCALES if (file / run_files.SCALES).exists() else find_file(file)
    try:
        return _READERS.get(file.suffix, _read_checkpoint)(file)
    except RepFoldError as error:
        raise error if str(file) in str(error) else RepFoldError(f"{file}: {error}") from error


def save_scales(scales: Scales, path: str | os.PathLike[str]) -> None:
    """Write scales atomically to a ``.safetensors`` file. Raises: RepFoldError for another suffix."""
    if Path(path).suffix != ".safetensors":
        raise RepFoldError(f"{path}: scales are written to files whose names end in .safetensors.")
    weights.write(path, scales.tensors(), {FORMAT: json.dumps({"version": VERSION})})


def from_tensors(tensors: Mapping[str, Tensor]) -> Scales:
    """The scales among the tensors of a hyper-search network, of ours or of the authors' repository.

    Raises: RepFoldError when there are none, or a block lacks one.
    """
    found: dict[tuple[int, int], dict[str, Tensor]] = {}
    for key, value in tensors.items():
        ours, theirs = _SEARCHED.fullmatch(key) or _LISTED.fullmatch(key), _THEIRS.fullmatch(key)
        if ours is not None:
            found.setdefault(_position(ours["block"]), {})[ours["branch"]] = value.detach().flatten()
        elif theirs is not None:
            position = (int(theirs["stage"]), int(theirs["index"] or 0))
            found.setdefault(position, {})[_PUBLIC[theirs["branch"]]] = value.detach().flatten()
    if not found:
        raise RepFoldError(
            "it holds no scales. Give the run of a hyper-search (--model repopt-vgg-...-hs), its model file, or a "
            "scales file."
        )
    return _checked({_path(position): found[position] for position in sorted(found)})


def _position(path: str) -> tuple[int, int]:
    """(stage, block) with the stem as stage 0, from stem or stages.0.1."""
    numbers = [int(part) for part in path.split(".") if part.isdigit()]
    if path == "stem":
        return 0, 0
    if not path.startswith("stages.") or len(numbers) != 2:
        raise RepFoldError(f"it has scales of a block '{path}', which no RepOpt network has.")
    return numbers[0] + 1, numbers[1]


def _path(position: tuple[int, int]) -> str:
    return f"stages.{position[0] - 1}.{position[1]}" if position[0] else "stem"


def _checked(found: Mapping[str, Mapping[str, Tensor]]) -> Scales:
    blocks = {}
    for path, block in found.items():
        for branch in ("kxk", "point"):
            if branch not in block:
                raise RepFoldError(f"block {path} lacks the scale of its {branch} branch: the file is not complete.")
        sizes = {tuple(value.shape) for value in block.values()}
        if len(sizes) > 1 or len(next(iter(sizes))) != 1:
            raise RepFoldError(f"the scales of block {path} have shapes {sorted(sizes)}, not one per channel.")
        values = [block[branch].float() if branch in block else None for branch in BRANCHES]
        blocks[path] = BlockScales(*values)  # type: ignore[arg-type]
    return Scales(blocks)


def _read_safetensors(file: Path) -> Scales:
    return from_tensors(weights.read_tensors(file))


def _read_json(file: Path) -> Scales:
    try:
        content = json.loads(regular.read_text(file, _MOST_BYTES))
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise RepFoldError(f"it is not version {VERSION} of the format {FORMAT}.")
        return from_tensors({name: torch.tensor(values) for name, values in content["scales"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, RepFoldError):
            raise
        raise RepFoldError(f"it cannot be read as scales ({type(error).__name__}: {error}).") from error


def _read_checkpoint(file: Path) -> Scales:
    """A .pth: the tensors of a network, or the list of (identity, 1x1, full) or (1x1, full) scales of its blocks."""
    try:
        with regular.opened(file) as opened:
            content = torch.load(opened, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RepFoldError(f"{file} does not exist. Give the file or the run of a hyper-search.") from error
    except Exception as error:  # whatever a damaged or hostile file makes the unpickler raise
        raise RepFoldError(f"it cannot be read safely ({first_line(error)}).") from error
    if isinstance(content, list | tuple):
        return _from_list(content)
    return from_tensors(strip_prefixes(unwrap(content)))


def _from_list(content: Iterable[object]) -> Scales:
    """A block without an identity begins a stage: its stride is 2."""
    stage, index = -1, 0
    found: dict[str, dict[str, Tensor]] = {}
    for number, block in enumerate(content):
        if not isinstance(block, list | tuple) or len(block) not in (2, 3) or not all(map(torch.is_tensor, block)):
            raise RepFoldError(f"block {number} of the list is no tuple of two or three tensors.")
        stage, index = (stage + 1, 0) if len(block) == 2 else (stage, index + 1)
        names = ("point", "kxk") if len(block) == 2 else ("identity", "point", "kxk")
        found[_path((max(stage, 0), index))] = {
            name: value.detach().flatten() for name, value in zip(names, block, strict=True)
        }
    return _checked(found)


_READERS: dict[str, Callable[[Path], Scales]] = {".safetensors": _read_safetensors, ".json": _read_json}
