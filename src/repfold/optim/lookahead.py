"""Lookahead (Zhang et al. 2019): slow weights that move towards the fast ones of any other optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from repfold.errors import RepFoldError


class Lookahead(Optimizer):
    """Wraps ``inner``: after every ``every`` of its steps, slow += alpha·(fast - slow) and fast = slow.

    The groups are those of ``inner``, so that schedules and scalers work on either. Call ``synchronise`` before
    evaluating: between the slow steps the network holds the fast weights.

    Raises: RepFoldError for ``every`` below 1 or ``alpha`` outside of (0, 1].
    """

    def __init__(self, inner: Optimizer, *, every: int = 5, alpha: float = 0.5) -> None:
        if every < 1 or not 0 < alpha <= 1:
            raise RepFoldError(
                f"Lookahead needs at least 1 step between slow ones and alpha in (0, 1], not {every} and {alpha}: "
                "5 steps and 0.5 are usual."
            )
        super().__init__(inner.param_groups, inner.defaults)
        self.inner, self.every, self.alpha = inner, every, alpha
        self.param_groups = inner.param_groups
        self.taken = 0
        self.slow: list[Tensor] = [parameter.detach().clone() for parameter in self._fast()]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of ``inner``; one of the slow weights when it is due."""
        loss = self.inner.step() if closure is None else self.inner.step(closure)
        self.taken += 1
        if self.taken >= self.every:
            self.synchronise()
        return loss

    @torch.no_grad()
    def synchronise(self) -> None:
        """Step the slow weights now, however many fast steps were taken, and go on from them."""
        if self.taken == 0:
            return
        for slow, fast in zip(self.slow, self._fast(), strict=True):
            slow.lerp_(fast, self.alpha)
            fast.copy_(slow)
        self.taken = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As of ``inner``."""
        self.inner.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The state of ``inner``, the slow weights and how many fast steps were taken since their last."""
        kind = type(self.inner).__name__
        return {"inner_kind": kind, "inner": self.inner.state_dict(), "slow": self.slow, "taken": self.taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises: RepFoldError when the state is not that of a Lookahead over the same kind of optimizer."""
        if state_dict.get("inner_kind") != type(self.inner).__name__:
            raise RepFoldError(
                f"The state is of Lookahead over {state_dict.get('inner_kind')}, not over {type(self.inner).__name__}."
            )
        self.inner.load_state_dict(state_dict["inner"])
        self.param_groups = self.inner.param_groups
        self.taken = int(state_dict["taken"])
        for own, saved in zip(self.slow, state_dict["slow"], strict=True):
            own.copy_(saved)

    def _fast(self) -> list[Tensor]:
        return [parameter for group in self.inner.param_groups for parameter in group["params"]]
