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

    def place(self, network: nn.Module) -> nn.Module:
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
        """Have the placed network run faster on images of ``shape`` [N, C, H, W], in place."""
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
    reasons: dict[str, str] = {}
    device = _device(recipe.device, reasons)
    precision = _precision(recipe.precision, device, reasons)
    channels_last = _switch("channels_last", recipe.channels_last, "convolutions run faster on it", reasons)
    return Machine(
        device=device,
        precision=precision,
        channels_last=channels_last,
        small_map_products=_products(device, precision, channels_last, reasons),
        fused=_switch("fused", recipe.fused, "one pass over parameters instead of several", reasons),
        threads=_threads(recipe.threads, reasons),
        reasons=reasons,
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


def _device(wanted: str, reasons: dict[str, str]) -> torch.device:
    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise RepFoldError("device is cuda, but PyTorch finds no GPU here. Use device auto or cpu.")
    if wanted == "cpu" or not present:
        reasons["device"] = "the recipe says so" if wanted == "cpu" else "no GPU was found"
        return torch.device("cpu")
    reasons["device"] = "the recipe says so" if wanted == "cuda" else "a GPU was found"
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _precision(wanted: str, device: torch.device, reasons: dict[str, str]) -> str:
    best, why = _BEST_PRECISION[device.type]()
    if wanted == "auto":
        reasons["precision"] = why
        return best
    if wanted == "fp16" and device.type == "cpu":
        raise RepFoldError("precision fp16 needs a GPU. Use auto, bf16 or fp32 on a CPU.")
    reasons["precision"] = "the recipe says so"
    return wanted


def _best_on_cpu() -> tuple[str, str]:
    try:
        capabilities = torch.cpu.get_capabilities()
    except AttributeError:  # PyTorch before 2.10
        return "fp32", "this PyTorch does not tell what the CPU can do"
    found = [name for name in ("amx_bf16", "avx512_bf16", "bf16") if capabilities.get(name)]
    if found:
        return "bf16", f"the CPU multiplies bf16 ({found[0]})"
    return "fp32", "the CPU has no bf16 multiplication"


def _best_on_gpu() -> tuple[str, str]:
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16", "the GPU multiplies bf16"
    return "fp16", "the GPU multiplies fp16 but not bf16"


_BEST_PRECISION: dict[str, Callable[[], tuple[str, str]]] = {"cpu": _best_on_cpu, "cuda": _best_on_gpu}


def _switch(name: str, wanted: str, why: str, reasons: dict[str, str]) -> bool:
    reasons[name] = why if wanted == "auto" else "the recipe says so"
    return wanted != "off"


def _products(device: torch.device, precision: str, channels_last: bool, reasons: dict[str, str]) -> bool:
    gains = device.type == "cpu" and precision == "bf16" and channels_last
    reasons["small_map_products"] = "CPUs gain from them in bf16, channels-last" + ("" if gains else " only")
    return gains


def _threads(wanted: int, reasons: dict[str, str]) -> int:
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if wanted:
        check_threads(wanted)
        reasons["threads"] = "the recipe says so"
        return wanted
    cores = allowance.cores()
    if processes == 1:
        chosen = torch.get_num_threads()  # PyTorch knows of no control group's quota
        reasons["threads"] = "PyTorch's own choice" if chosen <= cores else "the cores that this process may use"
        return min(chosen, cores)
    # torchrun gives each process one thread unless told otherwise, whatever the number of cores.
    reasons["threads"] = f"the cores, shared among {processes} processes"
    return max(1, cores // processes)
