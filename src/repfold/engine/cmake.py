"""Print where CMake finds the engine: ``cmake -Drepfold_engine_DIR=$(python -m repfold.engine.cmake)``."""

from pathlib import Path

from repfold.engine.library import find


def directory() -> Path:
    """The folder of ``repfold_engine-config.cmake``. Raises: EngineError when the engine is absent."""
    return find().parent / "cmake"


if __name__ == "__main__":
    print(directory())
