"""Weights in a repository of the Hugging Face Hub: found, fetched once, and what its card and config say of them.

Only data is fetched: tensors, a JSON file and a text. No code of a repository is ever read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repfold import regular
from repfold.errors import RepFoldError, first_line

# Tried in this order: a safetensors file holds nothing but tensors.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_REPOSITORY = re.compile(r"(?P<name>[\w][\w.-]*/[\w][\w.-]*?)(@(?P<revision>[\w][\w./-]*))?")
_PREFIXES = ("hf-hub:", "hf_hub:", "hf://")
_MOST_BYTES = 2**22  # of a config or a card


@dataclass(frozen=True)
class HubFiles:
    """``weights`` on this machine, of ``commit``; ``config``: what config.json holds; ``licence``: "" if not stated."""

    weights: Path
    commit: str
    config: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""


def repository_of(source: str) -> tuple[str, str | None] | None:
    """Return the repository and revision that ``source`` names, as "owner/name@revision", or None if it cannot."""
    named = next((source.removeprefix(p) for p in _PREFIXES if source.startswith(p)), None)
    match = _REPOSITORY.fullmatch(source if named is None else named)
    if match and (named is not None or not is_local(source)):
        return match["name"], match["revision"]
    if named is not None:
        raise RepFoldError(f"'{source}' is no repository: write owner/name, as hf-hub:timm/repvgg_a0.rvgg_in1k.")
    return None


def is_local(source: str) -> bool:
    """Whether ``source`` is meant as a path: something of it is there, or its name says so."""
    path = Path(source)
    suffixes = (".safetensors", ".pth", ".pt", ".bin", ".onnx")
    return path.exists() or path.is_absolute() or Path(path.parts[0]).exists() or source.endswith(suffixes)


def fetch(repository: str, revision: str | None = None) -> HubFiles:
    """Return the files of a repository, fetched if they are not in huggingface_hub's cache in their newest version.

    Where they come from (HF_ENDPOINT), where they are kept (HF_HOME), with what token (HF_TOKEN) and whether the
    network is used at all (HF_HUB_OFFLINE) is for huggingface_hub to know.

    Raises: RepFoldError when that package is missing, or the repository cannot be had or holds no weights.
    """
    try:
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise RepFoldError(
            f"'{repository}' is no file or run here, so it would be a repository of the Hugging Face Hub, which takes "
            "the package huggingface_hub: pip install 'repfold[hub]'."
        ) from error
    for name in WEIGHTS:
        try:
            weights = _download(repository, name, revision)
        except EntryNotFoundError:
            continue
        commit = weights.parent.name
        config, card = (_optional(repository, file, commit) for file in ("config.json", "README.md"))
        return HubFiles(weights, commit, _config(config, repository), _licence(card))
    raise RepFoldError(
        f"The repository {repository} holds neither {' nor '.join(WEIGHTS)}: it is of no network in one file. "
        "Give one of timm's convolutional networks, as timm/repvgg_a0.rvgg_in1k."
    )


def _download(repository: str, file: str, revision: str | None) -> Path:
    """Raises: EntryNotFoundError when there is no such file in the repository."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except LocalEntryNotFoundError as error:
        raise RepFoldError(
            f"{repository} cannot be fetched: no server is reached ({_reason(error)}), and it is not in the cache. "
            f"If '{repository}' is a path, there is nothing at it. Else check the network, or HF_ENDPOINT if you use a "
            "mirror; or give a file of weights."
        ) from error
    except EntryNotFoundError:
        raise
    except Exception as error:  # of several libraries: refused, not found, rate limits, a name that is none
        raise RepFoldError(
            f"{repository} cannot be fetched: {_reason(error)}. Check its name (and, where it is a path, that there is "
            "something at it); a private repository takes HF_TOKEN."
        ) from error


def _optional(repository: str, file: str, commit: str) -> Path | None:
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return _download(repository, file, commit)
    except (EntryNotFoundError, RepFoldError):
        return None


def _config(path: Path | None, repository: str) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        content = json.loads(regular.read_text(path.resolve(), _MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise RepFoldError(f"The config.json of {repository} cannot be read: {error!s:.200}") from error
    return content if isinstance(content, dict) else {}


def _licence(path: Path | None) -> str:
    """The licence in the front matter of a card: lines between two of three dashes."""
    try:
        text = regular.read_text(path.resolve(), _MOST_BYTES) if path else ""
    except (OSError, UnicodeDecodeError):
        return ""
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    said: dict[str, str] = dict(
        re.findall(r"^(license\w*):[ \t]*[\"']?([^\"'\n]{1,200})", front[1] if front else "", re.MULTILINE)
    )
    name = said.get("license", "")
    name = said.get("license_name", name) if name in ("other", "") else name
    return f"{name} ({said['license_link']})" if "license_link" in said else name


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error, 300).rstrip('.')}"
