"""What arms can be compared by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A quantity of a finished trial: its title, its unit, and whether more of it is better."""

    title: str
    unit: str
    higher: bool

    @property
    def sign(self) -> int:
        """What makes a difference positive when it is an improvement."""
        return 1 if self.higher else -1


# Those of a record's line, and of a trial as a whole (seconds; those of the folded network).
METRICS: dict[str, Metric] = {
    "val_top1": Metric("top-1", "%", True),
    "val_top5": Metric("top-5", "%", True),
    "val_precision": Metric("mean precision", "%", True),
    "val_recall": Metric("mean recall", "%", True),
    "val_loss": Metric("validation loss", "", False),
    "train_top1": Metric("training top-1", "%", True),
    "train_error": Metric("training error", "%", False),
    "train_loss": Metric("training loss", "", False),
    "int8_top1": Metric("top-1 of the folded network in int8", "%", True),
    "seconds": Metric("training time", "s", False),
    "images_per_second": Metric("training speed", "images/s", True),
}
