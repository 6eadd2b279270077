"""What a run will need of the machine, looked at before its first step: room on the disk, memory, open files.

What is short is reported with figures, so that it can be seen to before hours are spent; only what cannot work at all
is refused, for these are estimates, and others use the machine too.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from repfold import allowance
from repfold.counted import counted
from repfold.errors import RepFoldError
from repfold.modules import eval_mode
from repfold.train.assemble import Assembly

# Record, confusions, report and what else is small.
_SMALL_FILES = 8 << 20
# Descriptors that a process has open for a moment besides its images: files that are written, libraries, pipes.
_OTHER_FILES = 32


@dataclass(frozen=True)
class Needs:
    """Bytes of the run's files when it is done, of its first ones, and of a step of this process; and open files.

    ``step`` is None where it cannot be measured.
    """

    files: int
    first_files: int
    step: int | None
    open_files: int


def check(run: Assembly, directory: Path) -> list[str]:
    """Return what is short for a run in ``directory``, a sentence each.

    Raises: RepFoldError where not even the first files can be written, or too few may be open.
    """
    needs = estimate(run)
    return [*_disk(needs, directory), *_memory(needs, run), *_descriptors(needs), *_threads(run)]


def estimate(run: Assembly) -> Needs:
    """What a run needs, from the sizes of its network and of what a step keeps for the way back."""
    optimizer = run.settings.optimizer
    weights = sum(tensor.numel() * tensor.element_size() for tensor in run.parts.network.state_dict().values())
    copies = optimizer.algorithm.values_per_weight + bool(optimizer.lookahead) + (run.parts.average is not None)
    checkpoint = weights * (1 + copies)
    share = run.settings.batch // run.ranks.world
    kept = _kept_for_the_way_back(run)
    # The last two checkpoints and one being written; the best network twice, the folded one, and that as ONNX.
    return Needs(
        files=3 * checkpoint + 4 * weights + _SMALL_FILES,
        first_files=2 * weights,
        step=None if kept is None else int(kept * share / 2) + weights * (1 + copies),
        open_files=(run.loaders.train.workers or allowance.cores()) + _OTHER_FILES,
    )


def _disk(needs: Needs, directory: Path) -> Iterator[str]:
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    there = sum(path.stat().st_size for path in directory.glob("*") if path.is_file())
    free = shutil.disk_usage(existing).free
    if free + there < needs.first_files:
        raise RepFoldError(
            f"{directory} has room for {_size(free)}, and the first checkpoint and network alone take at least "
            f"{_size(needs.first_files)}. Make room, or choose another directory (--out)."
        )
    if free + there < needs.files:
        yield (
            f"{directory} has room for {_size(free)}; the run's files will take about {_size(needs.files - there)} "
            "more, so the disk may be full before its end. Make room, or choose another directory (--out)."
        )


def _memory(needs: Needs, run: Assembly) -> Iterator[str]:
    device, processes = run.machine.device, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else allowance.free_memory() // processes
    if needs.step is not None and needs.step > free:
        yield (
            f"A step of {run.settings.batch // run.ranks.world} images will take about {_size(needs.step)} of "
            f"memory, and {_size(free)} {'of the GPU are' if on_gpu else 'are'} free for it: the process may be "
            "ended. Use a smaller batch, image_size or network."
        )


def _descriptors(needs: Needs) -> Iterator[str]:
    if sys.platform == "win32":
        return
    import resource

    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _open_now() + needs.open_files
    if limit == resource.RLIM_INFINITY or limit >= wanted:
        return
    if most == resource.RLIM_INFINITY or most >= wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
        return
    yield f"{most} files may be open at once, and this run may want {wanted}. Allow more: ulimit -n {max(1024, wanted)}"


def _threads(run: Assembly) -> Iterator[str]:
    threads, cores = run.machine.threads, allowance.cores()
    if run.machine.device.type == "cpu" and threads > cores:
        yield f"{counted(threads, 'thread')} on {counted(cores, 'core')}: that many, or fewer, are faster."


def _open_now() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


@torch.enable_grad()
def _kept_for_the_way_back(run: Assembly) -> int | None:
    """Bytes that autograd keeps of a forward pass of two images, weights excepted; None where it cannot be run."""
    network = run.parts.network
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    source = run.source
    x_NCHW = torch.zeros(2, source.channels, source.image_size, source.image_size, device=run.machine.device)
    with eval_mode(network), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        try:
            with run.machine.autocast():
                outputs = network(x_NCHW)  # held, as what it keeps is freed, and its memory used again, without it
        except (RuntimeError, ValueError, TypeError):  # training will say what is wrong with it, if anything
            return None
        del outputs
    return sum(kept.values())


def _size(count: float) -> str:
    """Bytes in a unit of three digits: 1.23 GB."""
    power = min(4, max(0, int(math.log10(max(count, 1)) // 3)))
    return f"{count / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"
