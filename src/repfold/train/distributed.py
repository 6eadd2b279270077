"""The processes of a run that torchrun starts, or the one process of any other."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from repfold.errors import RepFoldError
from repfold.signals import KNOWN

ELSEWHERE = "Another process of this run cannot go on; it says why."
_BATCH_NORMS = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Agreement:
    """What the processes agree on after some steps.

    Attributes:
        outcomes: loss and share classified right of each step, as means over the processes.
        checkpoint: whether to write one.
        signal: the one to stop for, or 0.
    """

    outcomes: tuple[tuple[float, float], ...]
    checkpoint: bool
    signal: int


@dataclass(frozen=True)
class Ranks:
    """This process is number ``rank`` of ``world``; it alone when ``world`` is 1, and then nothing is communicated."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Return each of ``values`` summed over the processes, in float64."""
        return self.add_up(torch.tensor(list(values), dtype=torch.float64)).tolist()

    def agree(self, outcomes: Sequence[Tensor], *, checkpoint: bool, signal: int) -> Agreement:
        """Return what follows from what each process has; waits for the device, and for the other processes.

        Args:
            outcomes: what ``step`` returned, of the last steps.
            checkpoint: whether one is due; that of the leading process counts.
            signal: which one this process was sent, or 0.
        """
        own = torch.stack(list(outcomes)).flatten().tolist()
        totals = self.total([*own, checkpoint and self.leads, *(signal == number for number in KNOWN)])
        means = [total / self.world for total in totals[: len(own)]]
        due, votes = totals[len(own)], totals[len(own) + 1 :]
        return Agreement(
            outcomes=tuple(zip(means[0::2], means[1::2], strict=True)),
            checkpoint=due > 0,
            signal=next((int(number) for number, count in zip(KNOWN, votes, strict=True) if count), 0),
        )

    def add_up(self, tensor: Tensor) -> Tensor:
        """Return ``tensor`` summed over the processes, on the CPU."""
        summed = tensor.cpu()
        if self.world > 1:
            dist.all_reduce(summed)
        return summed

    def gather(self, value: int) -> list[int]:
        """Return the ``value`` of each process."""
        return self.add_up(torch.tensor([value * (rank == self.rank) for rank in range(self.world)])).tolist()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Wait at the end of the block for every process; a RepFoldError of one ends the block so in all of them."""
        refused: RepFoldError | None = None
        try:
            yield
        except RepFoldError as error:
            refused = error
        refusals = self.total([refused is not None])[0]
        if refused is not None:
            raise refused
        if refusals:
            raise RepFoldError(ELSEWHERE)

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return what to call forward in training: gradients become means over the processes' shares of the batch."""
        if self.world == 1:
            return network
        return DistributedDataParallel(network, device_ids=[device.index] if device.type == "cuda" else None)

    def share_buffers(self, network: nn.Module) -> None:
        """Give every process the running statistics of the leading one."""
        if self.world > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started, for the duration of the block; without torchrun there is but one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    # gloo in both cases carries the few numbers that are on the CPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    try:
        yield Ranks(dist.get_rank(), world)
        dist.barrier()
    finally:
        # DistributedDataParallel, which sits in reference cycles, holds the group, whose threads must end first.
        gc.collect()
        dist.destroy_process_group()
        gc.collect()


def synchronise_batch_norm(network: nn.Module, ranks: Ranks, device: torch.device) -> tuple[nn.Module, str | None]:
    """Have BatchNorm take its statistics over the whole global batch, where PyTorch can: on GPUs.

    Returns: the network (changed in place), and a note for the user about it, or None.
    """
    has_batch_norm = any(isinstance(module, _BATCH_NORMS) for module in network.modules())
    if ranks.world == 1 or not has_batch_norm:
        return network, None
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network), "BatchNorm statistics are synchronised: SyncBatchNorm."
    return network, (
        f"BatchNorm statistics are per process on CPUs, each over 1/{ranks.world} of the batch (PyTorch "
        "synchronises them on GPUs only); the first process's running statistics are those evaluated and saved."
    )
