"""A folder that can be shipped: the model's file, the program that uses it, what it needs, and what is known of it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from repfold import models, run_files
from repfold.data import Loader
from repfold.deploy.candidates import Candidate
from repfold.deploy.card import card
from repfold.deploy.provenance import Provenance, provenance_of
from repfold.deploy.runtimes import RUNTIMES
from repfold.deploy.script import SCRIPT, script
from repfold.deploy.serve import Choice, choose
from repfold.errors import NotWritten, RepFoldError
from repfold.fold import fold

MODEL, MEASURED, CARD, NEEDS = "model.json", "deploy.json", "README.md", "requirements.txt"
_SHIPPED_WITH_EVERY_MODEL = ("numpy", "pillow")


def deploy_model(
    model: models.Model,
    loader: Loader,
    directory: Path,
    *,
    source: Path,
    data: str,
    licence: str | None = None,
    int8_onnx: Path | None = None,
    engines: Sequence[str] | None = None,
    batch: int = 1,
    threads: int | None = None,
    rounds: int = 20,
    max_drop: float = 0.5,
    on_stage: Callable[[str], None] = lambda name: None,
) -> Choice:
    """Fold a model, measure every engine on it, and write the folder of the fastest that is accurate enough.

    Args:
        model: in either form.
        loader: the images that the accuracy is measured on, each once; ``data`` names them.
        source: the run directory or file that the model was opened from; a run's quantized model is measured too.

    Other arguments are those of ``choose``. Raises: RepFoldError as it does, and when other files lie in
    ``directory``.
    """
    check_target(directory)
    if int8_onnx is None and (source / run_files.INT8).is_file():
        int8_onnx = source / run_files.INT8
    if int8_onnx is not None and not int8_onnx.is_file():
        raise RepFoldError(f"--int8 {int8_onnx}: no such file. `repfold quantize` makes one.")
    plain, certificate = model, None
    if model.description.form != "folded":
        network, proof = fold(model.network, models.example_input(model))
        plain, certificate = models.Model(network, replace(model.description, form="folded")), proof.to_dict()
    with tempfile.TemporaryDirectory(prefix="repfold-deploy-") as temporary:
        choice, chosen = choose(
            plain,
            loader,
            Path(temporary),
            int8_onnx=int8_onnx,
            engines=engines or tuple(RUNTIMES),
            batch=batch,
            threads=threads,
            rounds=rounds,
            max_drop=max_drop,
            on_stage=on_stage,
        )
        ship(directory, plain, choice, chosen, provenance_of(source, data, licence=licence, certificate=certificate))
    return choice


def check_target(directory: Path) -> None:
    """Raise RepFoldError for a place that holds anything but an earlier shipped folder, which may be replaced."""
    try:
        if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
            raise RepFoldError(f"{directory} is there and no directory. Choose another path for the folder: -o FOLDER.")
        if directory.is_dir() and any(directory.iterdir()) and not (directory / MODEL).is_file():
            raise RepFoldError(
                f"{directory} holds files that no `repfold deploy` wrote, and a shipped folder replaces all in it. "
                "Choose a path that is not there yet: -o FOLDER."
            )
    except OSError as error:
        raise NotWritten(error.errno, error.strerror or str(error), str(directory)) from error


def ship(directory: Path, plain: models.Model, choice: Choice, chosen: Candidate, provenance: Provenance) -> Path:
    """Write the folder of the chosen engine, whole or not at all; an earlier one is replaced. Return its path.

    Raises: RepFoldError when other files lie there, NotWritten when it cannot be written.
    """
    check_target(directory)
    mark = secrets.token_hex(4)
    fresh, old = (directory.with_name(f".{directory.name}.{mark}.{name}") for name in ("new", "old"))
    try:
        fresh.mkdir(parents=True)
        _fill(fresh, plain, choice, chosen, provenance)
        if directory.exists():
            directory.rename(old)
        fresh.rename(directory)
    except OSError as error:
        if old.exists() and not directory.exists():
            old.rename(directory)
        raise NotWritten(error.errno, error.strerror or str(error), str(directory)) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return directory


def _fill(folder: Path, plain: models.Model, choice: Choice, chosen: Candidate, provenance: Provenance) -> None:
    runtime = chosen.runtime
    for suffix in (runtime.suffix, *runtime.others):
        shutil.copyfile(chosen.path.with_suffix(suffix), folder / f"model{suffix}")
    file = f"model{runtime.suffix}"
    described = _described(plain, choice, chosen, provenance, folder / file)
    for name, content in ((MODEL, described), (MEASURED, choice.to_dict())):
        (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / SCRIPT).write_text(script(runtime), encoding="utf-8")
    (folder / NEEDS).write_text(_needs(chosen), encoding="utf-8")
    (folder / CARD).write_text(card(plain, choice, provenance, described), encoding="utf-8")
    for path in folder.iterdir():
        with open(path, "rb") as written:
            os.fsync(written.fileno())


def _described(
    plain: models.Model, choice: Choice, chosen: Candidate, provenance: Provenance, file: Path
) -> dict[str, Any]:
    """What ``predict.py`` reads, and what somebody who gets the folder asks."""
    seen = plain.description.preprocessing
    assert seen is not None
    architecture = plain.description.architecture
    certificate = provenance.certificate or {}
    return {
        "file": file.name,
        "engine": chosen.engine,
        "precision": chosen.precision,
        "threads": choice.threads,
        "classes": class_names(plain, choice),
        "preprocessing": asdict(seen),
        "licence": provenance.licence,
        "started_from": provenance.started_from or None,
        "top1": choice.winner.accuracy.top1,
        "data": provenance.data,
        "images": choice.winner.accuracy.images,
        "architecture": architecture.name if architecture is not None else None,
        "certificate": {"error": certificate.get("error"), "dtype": certificate.get("dtype")},
        "provenance": {
            "source": provenance.source,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "repfold": version("repfold"),
            "training": dict(provenance.training),
            "environment": dict(provenance.environment),
        },
    }


def class_names(plain: models.Model, choice: Choice) -> list[str]:
    """The names of the classes, or their numbers."""
    if plain.description.classes is not None:
        return list(plain.description.classes)
    count = plain.description.architecture.num_classes if plain.description.architecture is not None else None
    return [str(index) for index in range(count or 0)]


def _needs(chosen: Candidate) -> str:
    """The packages, in the versions that were measured."""
    lines = [f"{name}=={version(name)}" for name in (*_SHIPPED_WITH_EVERY_MODEL, *chosen.runtime.packages)]
    if chosen.engine == "repfold":
        lines[-1] = f"# RepFold's engine needs no PyTorch: pip install --no-deps repfold=={version('repfold')}"
    return "\n".join(lines) + "\n"


def version(package: str) -> str:
    """The installed version of a package, without what builds add to it."""
    return metadata.version(package).split("+")[0]
