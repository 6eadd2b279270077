"""What the machine gains from: device, precision, memory layout, fused optimizer, threads, allocator; with reasons.

Decided by what the hardware can do and not by timing it, so that the same recipe on the same machine always trains in
the same way, and every decision can be read in environment.json. The measurements behind the rules are those of
benchmarks/train_step.py.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from repfold import allowance
from repfold.errors import RepFoldError
from repfold.threads import check_threads
from repfold.train.faster_convolutions import replace_small_maps, replace_strided_pointwise
from repfold.train.recipe import Recipe

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# mallopt's parameters (malloc.h): above this size blocks are mapped from the system anew; free memory above this size
# is given back to it.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BELOW = 1 << 30


@dataclass(frozen=True)
class Machine:
    """How a run uses its machine. ``reasons``: for each field, why it is as it is."""

    device: torch.device
    precision: str
    channels_last: bool
    fused: bool
    small_map_products: bool
    threads: int
    reasons: dict[str, str]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the network's input and activations; parameters stay float32."""
        return PRECISIONS[self.precision]

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which networks run forward."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.precision != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """What scales losses so that float16 gradients do not vanish; it does nothing in other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def prepare(self, network: nn.Module) -> nn.Module:
        """Move the network to the device and into the layout in which it trains best, in place.

        On CPUs only activations are channels-last: oneDNN packs weights for itself either way, and the fused optimizer
        copies weights that are not contiguous.
        """
        network.to(self.device)
        if self.channels_last and self.device.type == "cuda":
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.channels_last and self.device.type == "cpu":
            replace_strided_pointwise(network)
        return network

    def specialise(self, network: nn.Module, shape: Sequence[int]) -> None:
        """Have the prepared network run faster on images of ``shape`` [N, C, H, W], in place."""
        if self.small_map_products:
            with self.autocast():
                replace_small_maps(network, torch.zeros(*shape, device=self.device))

    def to_dict(self) -> dict[str, Any]:
        """For environment.json."""
        return vars(self) | {"device": str(self.device)}


def choose(recipe: Recipe) -> Machine:
    """Decide what the recipe leaves "auto", for this machine.

    Raises: RepFoldError when the recipe asks for what the machine does not have.
    """
    device, why_device = _device(recipe.device)
    precision, why_precision = _precision(recipe.precision, device)
    gains = device.type == "cpu" and precision == "bf16" and recipe.channels_last != "off"
    threads, why_threads = _threads(recipe.threads)
    return Machine(
        device=device,
        precision=precision,
        channels_last=recipe.channels_last != "off",
        fused=recipe.fused != "off",
        small_map_products=gains,
        threads=threads,
        reasons={
            "device": why_device,
            "precision": why_precision,
            "channels_last": "convolutions run faster on it" if recipe.channels_last == "auto" else _WANTED,
            "small_map_products": "CPUs gain from them in bf16, channels-last" + ("" if gains else " only"),
            "fused": "one pass over parameters instead of several" if recipe.fused == "auto" else _WANTED,
            "threads": why_threads,
        },
    )


def prepare_process(machine: Machine) -> None:
    """Set the threads of this process, and have it keep freed memory for its next step.

    By default glibc returns large blocks to the system when they are freed, and each training step then pays for
    mapping its activations anew, page by page: up to a third of the time of a step.
    """
    if machine.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    if torch.get_num_threads() != machine.threads:
        torch.set_num_threads(machine.threads)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        kept = libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BELOW) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        machine.reasons["allocator"] = "freed memory is kept" if kept else "as the system's"


_WANTED = "the recipe says so"


def _device(wanted: str) -> tuple[torch.device, str]:
    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise RepFoldError("device is cuda, but PyTorch finds no GPU here. Use device auto or cpu.")
    if wanted == "cpu" or not present:
        return torch.device("cpu"), _WANTED if wanted == "cpu" else "no GPU was found"
    number = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
    return torch.device("cuda", number), _WANTED if wanted == "cuda" else "a GPU was found"


def _precision(wanted: str, device: torch.device) -> tuple[str, str]:
    if wanted == "fp16" and device.type == "cpu":
        raise RepFoldError("precision fp16 needs a GPU. Use auto, bf16 or fp32 on a CPU.")
    return (wanted, _WANTED) if wanted != "auto" else _BEST_PRECISION[device.type]()


def _best_on_cpu() -> tuple[str, str]:
    try:
        capabilities = torch.cpu.get_capabilities()
    except AttributeError:  # PyTorch before 2.10
        return "fp32", "this PyTorch does not report what the CPU can do"
    found = [name for name in ("amx_bf16", "avx512_bf16", "bf16") if capabilities.get(name)]
    if found:
        return "bf16", f"the CPU multiplies bf16 ({found[0]})"
    return "fp32", "the CPU has no bf16 multiplication"


def _best_on_gpu() -> tuple[str, str]:
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16", "the GPU multiplies bf16"
    return "fp16", "the GPU multiplies fp16 but not bf16"


_BEST_PRECISION: dict[str, Callable[[], tuple[str, str]]] = {"cpu": _best_on_cpu, "cuda": _best_on_gpu}


def _threads(wanted: int) -> tuple[int, str]:
    if wanted:
        check_threads(wanted)
        return wanted, _WANTED
    cores, processes = allowance.cores(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes == 1:
        found = torch.get_num_threads()  # PyTorch knows of no control group's quota
        return (found, "PyTorch's own choice") if found <= cores else (cores, "the cores that this process may use")
    # torchrun gives each process one thread unless set otherwise, whatever the number of cores.
    return max(1, cores // processes), f"the cores, shared among {processes} processes"
