"""The engine as an object: any image size, many threads at once, no growth, the plan it tells."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.engine.engine_models import Graph, images, plain_network, relative_error

from repfold import engine


@pytest.fixture
def model(tmp_path: Path) -> Path:
    plain_network(tmp_path / "m.safetensors", images(1, 3, 16, 16), (16, 48))
    return tmp_path / "m.safetensors"


def test_any_image_size_and_batch(model: Path) -> None:
    loaded, reference = engine.load(model, threads=2), engine.load(model, threads=1, kernels="scalar")
    for n, h, w in [(1, 1, 1), (5, 2, 31), (2, 33, 17), (1, 64, 64), (9, 8, 8), (2, 33, 17)]:
        x = images(n, 3, h, w, seed=n)
        assert relative_error(loaded(x), reference(x)) < 5e-6
        # Images of a batch do not touch each other.
        alone = np.concatenate([loaded(x[i : i + 1]) for i in range(n)])
        assert relative_error(alone, reference(x)) < 5e-6


def test_input_of_other_types_and_layouts(model: Path) -> None:
    loaded, x = engine.load(model, threads=1), images(2, 3, 16, 16)
    expected = loaded(x)
    assert np.array_equal(loaded(x.astype(np.float64)), expected)
    assert np.array_equal(loaded(np.asfortranarray(x)), expected)


@pytest.mark.parametrize("contexts", [1, 3])
def test_calls_from_many_threads(contexts: int, model: Path) -> None:
    loaded = engine.load(model, threads=2, contexts=contexts)
    inputs = [images(1 + i % 3, 3, 16 + 16 * (i % 3), 32, seed=i) for i in range(12)]
    expected = [loaded(x) for x in inputs]
    wrong = []

    def call(start: int) -> None:
        for i in range(40):
            at = (start + i) % len(inputs)
            if not np.array_equal(loaded(inputs[at]), expected[at]):
                wrong.append(at)

    callers = [threading.Thread(target=call, args=(start,)) for start in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_contexts_share_the_weights(model: Path) -> None:
    loaded = engine.load(model, threads=1, contexts=2)
    for message, number in [("contexts", 0), ("contexts", 257), ("too large", 2**40)]:
        with pytest.raises(engine.EngineError, match=message):
            engine.load(model, contexts=number)
    x, begun, results = images(8, 3, 64, 64), threading.Barrier(2), []

    def call() -> None:
        begun.wait()
        results.extend(loaded(x) for _ in range(5))

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_strict_gives_the_same_bits_however_it_is_computed(precision: str, tmp_path: Path) -> None:
    if precision == "bf16" and "bf16" not in engine.cpu_kernels():
        pytest.skip("this CPU has no bf16")
    path = tmp_path / "m.safetensors"
    plain_network(path, images(1, 3, 16, 16), (32, 64, 96))
    x = images(9, 3, 56, 48)
    expected = engine.load(path, threads=1, strict=True, precision=precision)(x)
    for threads in (1, 2, 3):
        loaded = engine.load(path, threads=threads, strict=True, precision=precision)
        for batch in (1, 2, 9):
            found = np.concatenate([loaded(x[i : i + batch]) for i in range(0, 9, batch)])
            assert found.tobytes() == expected.tobytes()
    with pytest.raises(engine.EngineError, match="leave convolution '2x2' out"):
        engine.load(path, strict=True, convolution="2x2")


def test_results_into_an_array(model: Path) -> None:
    loaded = engine.load(model, threads=1)
    for x in (images(2, 3, 16, 16), images(1, 3, 160, 160)):  # copied, and read where it is
        out = np.empty((len(x), 10), np.float32)
        assert loaded(x, out=out) is out
        assert np.array_equal(out, loaded(x))
    for wrong in (np.empty((2, 9), np.float32), np.empty((2, 10)), np.empty((10, 2), np.float32).T):
        with pytest.raises(engine.EngineError, match=r"float32 array of shape \[2, 10\]"):
            loaded(images(2, 3, 16, 16), out=wrong)


def test_results_keep_the_shape_of_the_network(tmp_path: Path) -> None:
    graph = Graph(images(2, 3, 150, 90))
    expected = graph.conv("x", 8)
    graph.save(tmp_path / "m.safetensors", expected)
    found = engine.load(tmp_path / "m.safetensors", threads=2)(graph.x)
    assert found.shape == (2, 8, 150, 90)
    assert relative_error(found, graph.values[expected]) < 5e-6


def test_small_networks_run_on_the_calling_thread(model: Path) -> None:
    loaded = engine.load(model, threads=2)
    assert loaded.plan(1, 3, 8, 8)["threads"] == 1
    assert loaded.plan(4, 3, 64, 64)["threads"] == 2


# In a process of its own, where nothing else allocates.
GROWTH = """
import sys
from pathlib import Path
import numpy as np
from repfold import engine

loaded = engine.load(sys.argv[1], threads=1)

def work(calls):
    x = np.ones((1, 3, 4, 4), np.float32)
    for _ in range(calls):
        loaded(x)
    for size in range(8, 48):
        loaded(np.ones((1, 3, size, size), np.float32))

def resident():  # exactly, which statm is not
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("Anonymous:")).split()[1])

# What the allocator and the cache of plans keep grows for a few rounds.
for _ in range(6):
    work(100)
# A leak grows in every round; the system's own pages (huge ones, say) come once.
grown = []
for _ in range(4):
    before = resident()
    work(10_000)
    grown.append(resident() - before)
print(min(grown))
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no /proc here")
def test_memory_does_not_grow(model: Path) -> None:
    """10,000 calls, and sizes that displace each other's plans."""
    command = [sys.executable, "-c", GROWTH, str(model)]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown < 10_000 * 32  # bytes: 32 a call would be a leak


def _call_in_child(loaded: engine.Engine, x: np.ndarray, expected: np.ndarray) -> None:
    sys.exit(0 if np.array_equal(loaded(x), expected) else 1)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_works_after_fork(model: Path) -> None:
    """A child has none of its parent's threads."""
    loaded, x = engine.load(model, threads=2), images(2, 3, 64, 64)
    child = multiprocessing.get_context("fork").Process(target=_call_in_child, args=(loaded, x, loaded(x)))
    child.start()
    child.join(20)
    assert child.exitcode == 0


def test_plan_tells_what_is_done(model: Path) -> None:
    plan = engine.load(model, threads=2, convolution="4x4").plan(2, 3, 64, 64)
    assert (plan["threads"], plan["precision"], plan["input"]) == (2, "fp32", [2, 3, 64, 64])
    algorithms = [layer["algorithm"] for layer in plan["layers"] if layer["kind"] == "convolution"]
    assert algorithms == ["direct", "winograd F(4x4,3x3)", "winograd F(4x4,3x3/2)", "winograd F(4x4,3x3)", "direct"]
    macs = [layer["multiply_adds"] for layer in plan["layers"] if layer["kind"] == "convolution"]
    assert macs[0] == 2 * 32 * 32 * 16 * 27
    assert plan["buffers"]["weights"] >= (16 * 27 + 16 * 16 * 36) * 4


def test_memory_is_weights_and_few_activations(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    plain_network(path, images(1, 3, 32, 32), (48, 48, 96))
    plan = engine.load(path, threads=2).plan(8, 3, 128, 128)
    # The largest layer's input and output are there together.
    largest = max(4 * 8 * (np.prod(layer["in"]) + np.prod(layer["out"])) for layer in plan["layers"])
    assert plan["buffers"]["activations"] < 1.5 * largest


def test_absent_engine_says_why_and_what_to_do(tmp_path: Path) -> None:
    """In a process whose library path leads nowhere."""
    code = "from repfold import engine; print(engine.available()); engine.load('x')"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"REPFOLD_ENGINE": str(tmp_path / "nothing.so"), "PATH": "/usr/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "cannot be loaded" in result.stdout
    assert "EngineError" in result.stderr


def test_engine_imports_no_torch() -> None:
    code = "import sys; import repfold.engine; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
