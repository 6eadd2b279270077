"""What the numbers of a run depend on besides its recipe, and what can no longer hold when that has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from repfold import processor
from repfold.data.fingerprint import Fingerprint
from repfold.train.assemble import Assembly


@dataclass(frozen=True)
class Surroundings:
    """Of a run: its processes, the threads of each, device, processor, precision, PyTorch; and its data, if known."""

    processes: int
    threads: int
    device: str
    cpu: str
    precision: str
    torch: str
    data: Fingerprint | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)


# What may change, and what then differs.
_TOLD = {
    "processes": "what each process draws and BatchNorm sees is another share of the batch",
    "threads": "sums are added up in another order",
    "device": "it calculates in another way",
    "cpu": "its kernels may add up in another order",
    "precision": "activations and gradients are rounded in another way",
    "torch": "its kernels may add up in another order",
}


NAMES = tuple(_TOLD)


def of(run: Assembly) -> Surroundings:
    """Return the surroundings of a run."""
    machine = run.machine
    return Surroundings(
        processes=run.ranks.world,
        threads=machine.threads,
        device=machine.device.type,
        cpu=processor.name(),
        precision=machine.precision,
        torch=str(torch.__version__),
        data=run.source.fingerprint,
    )


def from_dict(saved: Mapping[str, Any] | None) -> Surroundings | None:
    """Return what ``to_dict`` gave, or None when it is not that: of another version, or unknown."""
    try:
        assert saved is not None
        data = saved["data"]
        known = {field.name: saved[field.name] for field in fields(Surroundings)}
        return Surroundings(**known | {"data": Fingerprint(**data) if data else None})
    except (AssertionError, KeyError, TypeError):
        return None


def consequences(before: Surroundings, now: Surroundings) -> Iterator[str]:
    """Yield a sentence for each change with which the run ends as good, but not, or perhaps not, at the same bits."""
    for name, why in _TOLD.items():
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            yield (
                f"The run went on with {name} {old}, and now has {new}: {why}, so it will not end at the same bits as "
                "an undisturbed run."
            )
    then, here = before.data, now.data
    if then is not None and here is not None and then.content == here.content and then.times != here.times:
        yield (
            "Files of the data were written since the checkpoint, but are of the same names and sizes; should their "
            "content be another, the run will not end as it would have."
        )


def changed_data(before: Surroundings, now: Surroundings) -> str | None:
    """Return what is known of a change of the data themselves, or None when they look the same."""
    then, here = before.data, now.data
    if then is None or here is None or then.content == here.content:
        return None
    if (then.images, then.bytes) == (here.images, here.bytes):
        return f"still {here}, but of other names, sizes, classes or pixels"
    return f"{then} before, {here} now"
