"""What advice looks at in a run: its settings, its data, and what its curves come to at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from repfold.report.numbers import finite, number
from repfold.report.records import Run

FEWEST = 3  # epochs of which a tendency can be read


@dataclass(frozen=True)
class Change:
    """Set ``setting`` of the recipe from ``now`` to ``then``."""

    setting: str
    now: str
    then: str


@dataclass(frozen=True)
class Finding:
    """``topic`` is for machines, ``says`` the conclusion, ``evidence`` the figures it rests on, ``changes`` to try."""

    topic: str
    says: str
    evidence: tuple[str, ...]
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Signs:
    """What the findings look at. Accuracies are in percent; ``noise`` is twice the standard error of validation's."""

    run: Run

    def text(self, key: str, default: str) -> str:
        """Return a setting that is text."""
        return str(self.run.recipe.get(key, default))

    def value(self, key: str, default: float) -> float:
        """Return a setting that is a number."""
        found = number(self.run.recipe.get(key))
        return found if finite(found) else default

    def fact(self, key: str) -> float | None:
        """Return a number that the environment records about the data."""
        data = self.run.environment.get("data")
        found = number(data.get(key)) if isinstance(data, dict) else None
        return found if finite(found) else None

    def known(self, key: str) -> list[tuple[int, float]]:
        """Return (epoch, value) where the value is finite."""
        pairs = zip(self.run.epochs, self.run.column(key), strict=True)
        return [(int(record["epoch"]), value) for record, value in pairs if finite(value)]

    def late(self, key: str) -> float | None:
        """Return the mean over the last tenth of the epochs."""
        values = [value for _, value in self.known(key)]
        last = values[-max(1, len(values) // 10) :]
        return sum(last) / len(last) if last else None

    @cached_property
    def noise(self) -> float:
        """Two standard errors of the validation accuracy, percentage points; 0 when the number of images is unknown."""
        images, top1 = self.fact("validation_images"), self.late("val_top1")
        if not images or top1 is None:
            return 0.0
        share = min(max(top1 / 100, 0.01), 0.99)
        return 200 * math.sqrt(share * (1 - share) / images)

    @cached_property
    def warmed_up(self) -> bool:
        """Whether the recipe has a warm-up."""
        return str(self.run.recipe.get("warmup", "0")).strip() not in ("", "0", "0ep", "0it", "0%")

    @cached_property
    def peak_lr(self) -> float | None:
        """The highest learning rate recorded."""
        rates = [value for key in ("lr_first", "lr") for _, value in self.known(key)]
        return max(rates, default=None)

    @cached_property
    def seen(self) -> float | None:
        """Late accuracy on the training images as training saw them; on clean ones where that is not recorded."""
        seen = self.late("train_seen_top1")
        return self.late("train_top1") if seen is None else seen

    @cached_property
    def chance(self) -> float | None:
        """The accuracy of guessing, in percent: always the largest class; None when the classes are unknown."""
        classes = self.fact("classes")
        if not classes:
            return None
        images_T = self.run.confusion.matrix_TP.sum(axis=1) if self.run.confusion else None
        largest = float(images_T.max() / images_T.sum()) if images_T is not None and images_T.sum() else 0.0
        return 100 * max(largest, 1 / classes)

    @cached_property
    def guessing(self) -> bool:
        """Whether the validation accuracy at the end is no better than guessing, or hardly."""
        top1 = self.late("val_top1")
        return self.chance is not None and top1 is not None and top1 <= self.chance + max(self.noise, self.chance / 10)

    @cached_property
    def rising(self) -> tuple[float, float] | None:
        """Validation accuracy a fifth of the run before its end, and at its end, where it rose by more than noise."""
        scores = self.known("val_top1")
        if len(scores) < FEWEST + 2:
            return None
        before, after = scores[-max(2, len(scores) // 5) - 1][1], scores[-1][1]
        return (before, after) if after - before > max(2.0, self.noise) else None
