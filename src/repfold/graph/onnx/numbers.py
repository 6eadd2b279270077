"""Shape arithmetic: nodes of a file that compute numbers from constants and sizes, evaluated while it is read.

Numbers are arrays: of a plain dtype where all are constants, of objects where some are free sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

WHOLE = np.dtype(np.int64)
LARGEST = 2**27  # elements of a computed constant


@dataclass(frozen=True)
class Numbers:
    """``items``: an array of integers or floats, some of them symbolic; ``dtype``: their type in the file."""

    items: np.ndarray
    dtype: np.dtype


Known = np.ndarray | Numbers
Arguments = tuple[Known | None, ...]
Attributes = Mapping[str, Any]


class Unknown(Exception):
    """These numbers cannot be computed while the file is read."""


def is_symbol(item: object) -> bool:
    """Whether ``item`` is one of PyTorch's symbolic numbers."""
    return isinstance(item, (torch.SymInt, torch.SymFloat, torch.SymBool))


def _fits(item: object) -> bool:
    """Whether a number fits the file's int64, since Python's integers are unbounded."""
    return not isinstance(item, int) or abs(item) < 2**63


@dataclass(frozen=True)
class Given:
    """A node whose inputs are known; its methods raise Unknown where they are not."""

    arguments: Arguments
    attributes: Attributes
    opset: int

    def items(self, i: int) -> np.ndarray:
        """The elements of an argument, symbolic ones among them."""
        given = self.arguments[i]
        if given is None:
            raise Unknown
        return given.items if isinstance(given, Numbers) else given

    def ints(self, i: int, name: str) -> list[int] | None:
        """Integers from an argument, in older opsets an attribute; None where they are not given."""
        if name in self.attributes:
            return list(self.attributes[name])
        if i < len(self.arguments) and self.arguments[i] is not None:
            return [int(item) for item in self.constants(i).flat]
        return None

    def dtype(self, i: int) -> np.dtype:
        """The dtype of an argument in the file."""
        given = self.arguments[i]
        if given is None:
            raise Unknown
        return given.dtype

    def give(self, items: object, dtype: np.dtype | None = None) -> Known:
        """A result, of the first argument's dtype unless given. Raises: Unknown where it is too large to hold."""
        array = np.asarray(items)
        dtype = self.dtype(0) if dtype is None else dtype
        if array.size > LARGEST or (array.dtype == object and not all(map(_fits, array.flat))):
            raise Unknown
        return Numbers(array, dtype) if array.dtype == object else array.astype(dtype, copy=False)

    def constants(self, i: int) -> np.ndarray:
        """``items`` without free sizes among them."""
        found = self.items(i)
        if found.dtype == object:
            raise Unknown
        return found
