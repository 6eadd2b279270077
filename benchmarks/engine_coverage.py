"""Which networks that nobody here wrote run in RepFold's engine once they are folded: one of every family of a zoo.

python benchmarks/engine_coverage.py --zoo pytorchcv --out docs/results/engine_pytorchcv.md
python benchmarks/engine_coverage.py --zoo timm densenet convnext    # some families

A family is folded and saved once, with a random image and what the network computes of it in float64, below
runs/coverage; a rerun only tries the engine again. What a zoo needs installed is said in its file in zoos/.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import repfold
from leaves import tensors
from repfold import engine, processor
from repfold.errors import RepFoldError
from zoos import ZOOS

EQUAL = 1e-5  # relative to the largest output
MOST_TIMES = 10  # PyTorch's error: more is no rounding
SMALLER = 96  # pixels, where a network takes them: the same layers in less time


def prepare(zoo: str, family: str, folder: Path) -> dict[str, Any]:
    """Fold one network and save it with an image and the float64 outputs of the network that was not folded."""
    name, network, x = importlib.import_module(ZOOS[zoo]).build(family)
    x = smaller(network, x)
    try:
        plain, certificate = repfold.fold(network, x)
        repfold.models.save(plain, folder / f"{family}.safetensors", example=x)
    except RepFoldError as error:
        return {"network": name, "unsaved": " ".join(str(error).split())[:300]}
    with torch.no_grad():
        found = tensors(network(x))
        exact = tensors(network.double()(x.double()))
    differ = [relative(a.numpy(), b.numpy()) for a, b in zip(found, exact, strict=True)]
    arrays = {f"output{i}": leaf.numpy() for i, leaf in enumerate(exact)}
    np.savez(folder / f"{family}.npz", input=x.numpy(), **arrays)
    return {"network": name, "input": list(x.shape), "regions": len(certificate.regions), "pytorch": max(differ)}


def smaller(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    if min(x.shape[2:]) <= SMALLER:
        return x
    image = torch.randn(1, x.shape[1], SMALLER, SMALLER)
    try:
        with torch.no_grad():
            network(image.clone())
    except Exception:  # the network itself is bound to its size
        return x
    return image


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-30))


def check(family: str, folder: Path) -> dict[str, Any]:
    """Run the saved file in the engine. Where it does not, the engine's words."""
    saved = np.load(folder / f"{family}.npz")
    x, expected = saved["input"], saved["output0"]
    try:
        loaded = engine.load(folder / f"{family}.safetensors", threads=1)
        found = loaded(x)
    except engine.EngineError as error:
        return {"refused": " ".join(str(error).split())}
    layers = loaded.plan(*x.shape)["layers"]
    return {"error": relative(found.reshape(len(x), -1), expected.reshape(len(x), -1)), "layers": len(layers)}


def _in_child(zoo: str, family: str, folder: Path, pipe: Any) -> None:
    torch.set_num_threads(1)
    try:
        pipe.send(prepare(zoo, family, folder))
    except Exception as error:
        pipe.send({"unbuilt": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"})


def prepared(zoo: str, family: str, folder: Path, limit: float) -> dict[str, Any]:
    """What was saved of the family, now or before, in a process of its own: one that fails ends alone."""
    note = folder / f"{family}.json"
    if note.is_file():
        known: dict[str, Any] = json.loads(note.read_text())
        return known
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_in_child, args=(zoo, family, folder, theirs))
    child.start()
    theirs.close()
    try:
        result = ours.recv() if ours.poll(limit) else {"unbuilt": f"took more than {limit:.0f} s to fold"}
    except EOFError:
        result = {"unbuilt": "its process ended without a word (out of memory?)"}
    child.kill()
    child.join()
    note.write_text(json.dumps(result))
    return result


def row(family: str, result: dict[str, Any]) -> str:
    size = "x".join(map(str, result.get("input", ())))
    figures = [f"{result[key]:.1e}" if key in result else "" for key in ("error", "pytorch")]
    said = next((result[key] for key in ("refused", "unsaved", "unbuilt") if key in result), "")
    words = _judged(result) if "error" in result else ""
    cells = [family, result.get("network", ""), size, str(result.get("layers", "")), *figures, said or words]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _judged(result: dict[str, Any]) -> str:
    """Beside PyTorch's own rounding: Winograd's is a few times that of direct convolutions."""
    if result["error"] <= EQUAL:
        return "runs"
    times = result["error"] / max(result["pytorch"], 1e-30)
    return "differs" if times > MOST_TIMES else f"runs; rounds {times:.1f} times as PyTorch does"


def table(zoo: str, results: dict[str, dict[str, Any]]) -> str:
    runs = [r for r in results.values() if "error" in r]
    close = [r for r in runs if r["error"] <= EQUAL]
    folded = [r for r in results.values() if "input" in r]
    head = "| family | network | input | layers | error | PyTorch's | |\n|---|---|---|---|---|---|---|"
    note = (
        f"One network a family, random weights, norm statistics as after training: folded, saved, and run in RepFold's "
        f"engine (fp32, {engine.cpu_kernels()[0]}). `error`: of the outputs, relative to the largest, against the "
        f"unfolded network in PyTorch in float64; beside it that of PyTorch in float32. Families of the "
        f"zoo that are not listed were not tried. "
        f"{processor.name()}, PyTorch {torch.__version__}, Python {platform.python_version()}."
    )
    summary = (
        f"{len(results)} families; {len(folded)} fold and are saved; {len(runs)} of these run, {len(close)} of them "
        f"within {EQUAL:g}."
    )
    rows = [row(family, result) for family, result in results.items()]
    command = f"`python benchmarks/engine_coverage.py --zoo {zoo}`"
    return "\n".join([f"# {zoo} in RepFold's engine", "", command, "", summary, "", note, "", head, *rows, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--zoo", choices=sorted(ZOOS), default="pytorchcv")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds to fold one family")
    parser.add_argument("--known", action="store_true", help="only what is saved already")
    parser.add_argument("--out", type=Path, default=None, help="a Markdown file")
    options = parser.parse_args()
    families = options.families or list(importlib.import_module(ZOOS[options.zoo]).FAMILIES)
    folder = Path("runs/coverage") / options.zoo
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    for family in families:
        if options.known and not (folder / f"{family}.json").is_file():
            continue
        start = time.perf_counter()
        result = prepared(options.zoo, family, folder, options.limit)
        if "input" in result:
            result |= check(family, folder)
        results[family] = result
        print(row(family, result), f"{time.perf_counter() - start:.0f} s", flush=True)
    text = table(options.zoo, results)
    print(text.splitlines()[4])
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
