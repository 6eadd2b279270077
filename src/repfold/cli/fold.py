"""``repfold fold``: write the plain network that computes the same function, and the certificate that it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from repfold.errors import RepFoldError

if TYPE_CHECKING:
    from repfold.fold import Certificate


def fold(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    weights: Path | None = None,
    example: str | None = None,
    num_classes: int | None = None,
    policy: Literal["auto", "always"] = "auto",
    certificate: Path | None = None,
    factory: str | None = None,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Fold a network's linear regions into single convolutions, and prove that its function is the same.

    Args:
        model: A run directory, a model file, an ONNX file, a model's name, or package.module:factory.
        output: The file to write: .safetensors, .onnx or .pt2. For a run directory plain.safetensors in it.
        weights: Checkpoint to load into a network given by name.
        example: Shape of an input, such as 1,3,224,224. Known for trained models.
        num_classes: Number of classes of a network given by name.
        policy: Fold where it does not cost more (auto), or wherever it is exact (always).
        certificate: Where to write the certificate as JSON. For a run directory certificate.json in it.
        factory: Your own package.module:factory that builds a model file's network.
        trust: Run the code that a run or a model file names: only for what you trained yourself.
        json: Print one JSON object: the certificate and the cost of both forms.
    """
    from dataclasses import replace
    from json import dumps

    from repfold import atomic, deploy, models, run_files
    from repfold.cli.console import Console
    from repfold.cli.model_source import is_onnx, make_example, open_model, output_path, parse_shape
    from repfold.fold import fold as fold_network

    shape = parse_shape(example)
    source = open_model(model, factory=factory, trust=trust, weights=weights, num_classes=num_classes, example=shape)
    path = output_path(output, model, run_files.PLAIN, [".safetensors", *deploy.EXPORTERS])
    if certificate is not None and certificate.is_dir():
        raise RepFoldError(f"--certificate {certificate} is a directory. Name a file in it: certificate.json.")
    x = make_example(shape, source)
    with Console(stderr=True).status("folding") as status:
        plain, proof = fold_network(source.network, x, policy=policy, progress=status.update)
    if path.suffix == ".safetensors":
        models.save(plain, path, description=replace(source.description, form="folded"))
    elif path.suffix == ".onnx" and is_onnx(model):
        deploy.write_back(plain, x, model, path)
    else:
        deploy.EXPORTERS[path.suffix](plain, x, path)
    if certificate is None and Path(model).is_dir():
        certificate = Path(model) / run_files.CERTIFICATE
    if certificate is not None:
        atomic.write_text(certificate, dumps(proof.to_dict(), indent=1) + "\n")
    summary = {
        "output": str(path),
        "parameters": [_parameters(source.network), _parameters(plain)],
        "certificate": proof.to_dict(),
    }
    print(dumps(summary)) if json else _print_report(summary, proof)


def _parameters(network: Any) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _print_report(summary: dict[str, Any], proof: Certificate) -> None:
    from rich.table import Table

    from repfold.cli.console import Console

    console = Console()
    before, after = summary["parameters"]
    console.print(f"{len(proof.regions)} regions folded, {len(proof.left)} left; {before:,} -> {after:,} parameters.")
    console.print(f"Relative error of the whole network: {proof.error:.2e} (proved in float64, run in {proof.dtype}).")
    compared = ", ".join(" and ".join("x".join(map(str, shape)) for shape in shapes) for shapes in proof.sizes)
    console.print(f"Compared on inputs of {compared}.")
    for caveat in proof.caveats:
        console.print(f"Caveat: {caveat}.", markup=False)
    if proof.left:
        table = Table("left as it is", "because", box=None)
        for region in proof.left:
            table.add_row(region.name, region.reason)
        console.print(table)
    console.print(f"Written: {summary['output']}", soft_wrap=True, highlight=False)
