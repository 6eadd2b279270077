"""RepFold's own engine: inference of a folded network on a CPU, without PyTorch.

    engine = repfold.engine.load("plain.safetensors", threads=2, precision="fp32")
    logits = engine(images_NCHW)

The work is done by a small native library (``native/``); this package finds it and passes numpy arrays to it.
"""

from repfold.engine.face import Engine, load, tune
from repfold.engine.library import EngineError, available, cpu_kernels
from repfold.engine.tuning import Tuning

__all__ = ["Engine", "EngineError", "Tuning", "available", "cpu_kernels", "load", "tune"]
