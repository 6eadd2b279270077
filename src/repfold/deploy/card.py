"""The model card of a shipped folder: what the model is, how well it does, where it is from; Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repfold import models
from repfold.counted import counted
from repfold.deploy.provenance import Provenance
from repfold.deploy.serve import Choice, Measured
from repfold.errors import few

_MOST_NAMED = 12


def card(plain: models.Model, choice: Choice, provenance: Provenance, described: Mapping[str, Any]) -> str:
    """Return the card."""
    winner, seen = choice.winner, plain.description.preprocessing
    assert seen is not None
    classes: Sequence[str] = described["classes"]
    name = described["architecture"] or "a network of one's own"
    paragraphs = [
        f"# {plain_text(name)}: {len(classes)} classes",
        f"Classifies pictures: {plain_text(few(classes, _MOST_NAMED))}. It answers with one of these whatever it is "
        "shown, and was measured on nothing but the data named below.",
        "## Use",
        "```bash\npip install -r requirements.txt\npython predict.py picture.jpg\n```",
        f"`predict.py` runs `{described['file']}` in {winner.timing.form}, on {counted(choice.threads, 'thread')}, and "
        "needs nothing else but NumPy and Pillow. A picture is "
        f"turned upright, its short side brought to {seen.resize} px, the central square of {seen.image_size} px cut, "
        f"and (x / 255 - mean) / std computed, mean {_numbers(seen.mean)}, std {_numbers(seen.std)}. "
        "`model.json` holds all of this for other programs.",
        "## How well",
        f"Top-1 accuracy {winner.accuracy.top1:.2f} % on {counted(winner.accuracy.images, 'image')} of "
        f"{plain_text(provenance.data)}; the folded network in PyTorch, in float32, {choice.reference.top1:.2f} %.",
        _table(choice),
        f"Milliseconds for {counted(choice.batch, 'image')} at once on {counted(choice.threads, 'thread')} of "
        f"{plain_text(str(choice.machine.get('processor')))}, the engines taking turns; median, 10th and 90th "
        f"percentile of n = {winner.timing.n}. {overlap_words(choice)} What lost more than {choice.max_drop} points "
        "was not considered.",
        *_without(choice),
        "## Where it is from",
        "\n".join(f"- {name}: {plain_text(text)}" for name, text in _facts(provenance, described)),
    ]
    return "\n\n".join(paragraphs) + "\n"


def overlap_words(choice: Choice) -> str:
    """Say whether the winner's time can be told apart from the others'."""
    title = choice.winner.timing.form
    if not choice.overlapping:
        return f"{title} is the fastest, and its times overlap with no other's."
    return f"{title} has the lowest median; its times overlap with those of {', '.join(choice.overlapping)}."


def _table(choice: Choice) -> str:
    lines = ["| engine | ms | 10 – 90 % | top-1 % | same class as folded % | |", "|---|---:|---:|---:|---:|---|"]
    return "\n".join([*lines, *(_row(row, row is choice.winner) for row in choice.rows)])


def _row(row: Measured, won: bool) -> str:
    timing = row.timing
    remark = "**shipped**" if won else row.refused or ""
    return (
        f"| {timing.form} | {timing.median_ms:.2f} | {timing.low_ms:.2f} – {timing.high_ms:.2f} | "
        f"{row.accuracy.top1:.2f} | {row.accuracy.same:.2f} | {remark} |"
    )


def _without(choice: Choice) -> list[str]:
    if not choice.without:
        return []
    reasons = "; ".join(f"{name} ({plain_text(reason)})" for name, reason in choice.without.items())
    return [f"Not measured: {reasons}."]


def _facts(provenance: Provenance, described: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known, by name."""
    certificate = provenance.certificate
    error = certificate.get("error") if certificate else None
    training, environment = provenance.training, provenance.environment
    facts = {
        "licence": provenance.licence or "not stated",
        "started from": _started_from(provenance),
        "from": provenance.source,
        "fold": f"relative error {error:.1e} against the network with its branches" if error is not None else None,
        "trained on": training.get("data"),
        "epochs": training.get("epochs"),
        "seed": training.get("seed"),
        "commit": environment.get("commit"),
        "software": f"RepFold {described['provenance']['repfold']}, PyTorch {environment.get('torch', '?')}"
        if environment
        else None,
        "SHA-256": described["provenance"]["sha256"],
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def _started_from(provenance: Provenance) -> str | None:
    """Whose weights training began with, and on what terms they may be used."""
    known = provenance.started_from
    if "source" not in known:
        return provenance.training.get("init")
    commit = f", commit {known['commit']}" if "commit" in known else ""
    return f"{known['source']}{commit}; licence of these weights: {known.get('licence', 'not stated')}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def plain_text(text: str) -> str:
    """``text`` without what Markdown would take for more than text."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char if char.isprintable() else " " for char in text)
