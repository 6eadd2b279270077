"""``repfold fold``: write the plain network that computes the same function, and the certificate that it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from repfold.cli.model_flags import ModelFlags, output_path
from repfold.cli.terminal import print_json
from repfold.counted import counted
from repfold.errors import RepFoldError

if TYPE_CHECKING:
    from repfold.fold import Certificate


def fold(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    policy: Literal["auto", "always"] = "auto",
    certificate: Path | None = None,
    flags: Annotated[ModelFlags, tyro.conf.arg(name="")] = ModelFlags(),  # noqa: B008
    json: bool = False,
) -> None:
    """Fold a network's linear regions into single convolutions, and prove that its function is the same.

    Args:
        model: A run directory, a model file, an ONNX file, a model's name, or package.module:factory.
        output: The file to write: .safetensors, .onnx or .pt2. For a run directory plain.safetensors in it.
        policy: Fold where it does not cost more (auto), or wherever it is exact (always).
        certificate: Where to write the certificate as JSON. For a run directory certificate.json in it.
        json: Print one JSON object: the certificate and the cost of both forms.
    """
    from dataclasses import replace

    from repfold import atomic, deploy, models, run_files
    from repfold.cli.console import Console
    from repfold.fold import fold as fold_network

    opened, x = flags.open(model)
    path = output_path(output, model, run_files.PLAIN, deploy.FORMATS)
    if certificate is not None and certificate.is_dir():
        raise RepFoldError(f"--certificate {certificate} is a directory. Name a file in it: {run_files.CERTIFICATE}.")
    with Console(stderr=True).status("folding") as status:
        plain, proof = fold_network(opened.network, x, policy=policy, progress=status.update)
    deploy.write_plain(models.Model(plain, replace(opened.description, form="folded")), x, path, source=model)
    if certificate is None and Path(model).is_dir():
        certificate = Path(model) / run_files.CERTIFICATE
    if certificate is not None:
        atomic.write_json(certificate, proof.to_dict(), indent=1)
    summary = {
        "output": str(path),
        "parameters": [_parameters(opened.network), _parameters(plain)],
        "certificate": proof.to_dict(),
    }
    print_json(summary) if json else _print_report(summary, proof)


def _parameters(network: Any) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _print_report(summary: dict[str, Any], proof: Certificate) -> None:
    from rich.table import Table

    from repfold.cli.console import Console

    console = Console()
    before, after = summary["parameters"]
    console.print(
        f"{counted(len(proof.regions), 'region')} folded, {len(proof.left)} left; {before:,} -> {after:,} parameters."
    )
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
