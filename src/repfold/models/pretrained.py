"""Trained weights to start from, wherever they are: found, read, and described."""

from __future__ import annotations

import os
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from repfold import run_files
from repfold.errors import RepFoldError
from repfold.models import download, hub, weights
from repfold.models.checkpoint import read_checkpoint
from repfold.models.convert import usual_preprocessing
from repfold.models.create import MODELS
from repfold.models.description import Description, Preprocessing
from repfold.models.file import find_file, read_description
from repfold.models.recognise import read_names

_LONGEST = 400  # characters of a licence


@dataclass(frozen=True)
class Located:
    """A file of weights on this machine.

    Attributes:
        source: what the user gave.
        licence: as stated where they came from, "" where nothing is.
        commit: of the repository that they came from, or "".
        config: the repository's, or empty.
    """

    source: str
    file: Path
    licence: str = ""
    commit: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pretrained:
    """Weights, read: of what network, if that is known, and whose names they had ("" if they were ours all along)."""

    located: Located
    description: Description
    code_base: str
    state: dict[str, torch.Tensor]


def locate(source: str | os.PathLike[str]) -> Located:
    """Return the file that ``source`` means, fetched if need be.

    A model file, a checkpoint of other code or a run directory; an http(s) or file address; or a repository of the
    Hugging Face Hub, as timm/repvgg_a0.rvgg_in1k or hf-hub:owner/name@revision.

    Raises: RepFoldError when there is none, or it cannot be had.
    """
    text = str(source)
    address = urllib.parse.urlsplit(text)
    if address.scheme in ("http", "https"):
        return Located(text, download.fetch(text))
    if address.scheme == "file":
        return Located(text, find_file(urllib.request.url2pathname(address.path)))
    if repository := hub.repository_of(text):
        files = hub.fetch(*repository)
        return Located(text, files.weights, files.licence, files.commit, files.config)
    if not os.path.lexists(source):
        raise RepFoldError(
            f"There is no file or run {text}. Weights may be a model file, a checkpoint (.pth, .safetensors), a run, "
            "an address, or a repository of the Hugging Face Hub, as timm/repvgg_a0.rvgg_in1k."
        )
    return Located(text, find_file(source), _licence_in(Path(source)))


def _licence_in(path: Path) -> str:
    """The licence of the weights that a run started from, as it keeps it, or ""; ``path``: the run or a file in it."""
    directory = path if path.is_dir() else path.parent
    init = run_files.environment_of(directory).get("init")
    told = init.get("licence") if isinstance(init, dict) else None
    return told[:_LONGEST] if isinstance(told, str) else ""


def is_remote(source: str) -> bool:
    """Whether ``locate`` would ask a server for ``source``."""
    return urllib.parse.urlsplit(source).scheme in ("http", "https") or hub.repository_of(source) is not None


def read(located: Located, preset: str | None = None) -> Pretrained:
    """Read the tensors, in our names where they are those of a network of ``MODELS``.

    ``preset``: as for ``read_names``.

    Raises: RepFoldError when the file is damaged, holds more than tensors, or tensors that are not numbers.
    """
    if _is_ours(located.file):
        description, code_base, state = read_description(located.file), "", weights.read_tensors(located.file)
    else:
        state = read_checkpoint(located.file)
        try:
            found = read_names(state, preset)
        except RepFoldError:
            description, code_base = Description(), ""
        else:
            usual = usual_preprocessing(found.architecture)
            description = Description(found.architecture, preprocessing=usual, form=found.form)
            code_base = "" if found.state.keys() >= state.keys() else found.code_base
            state = found.state
    try:
        weights.refuse_nan(state)
    except RepFoldError as error:
        raise RepFoldError(f"{located.source}: {error}") from error
    if told := preprocessing_of(located.config):
        description = replace(description, preprocessing=told)
    return Pretrained(located, description, code_base, state)


def architecture_told(located: Located) -> str:
    """The network that a repository's config names, in our spelling if it is one of ``MODELS``, or ""."""
    name = located.config.get("architecture")
    if not isinstance(name, str):
        return ""
    ours = name.replace("_", "-")
    return ours if ours in MODELS else name[:100]


def preprocessing_of(config: Mapping[str, Any]) -> Preprocessing | None:
    """What timm's config says of the images that a network was trained on, or None where it says nothing of use."""
    told = config.get("pretrained_cfg", config)
    try:
        channels, height, width = told["input_size"]
        side = int(min(height, width))
        resize = round(side / float(told.get("crop_pct") or 0.875))
        mean, std = (tuple(float(value) for value in told[key]) for key in ("mean", "std"))
        return Preprocessing(side, max(side, resize), mean, std, channels)
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _is_ours(file: Path) -> bool:
    if file.suffix != ".safetensors":
        return False
    try:
        return "repfold" in weights.read_header(file).metadata
    except RepFoldError:  # a pickle under that name, say: ``read_checkpoint`` says what is wrong
        return False
