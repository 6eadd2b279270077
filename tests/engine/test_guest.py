"""The engine as a guest: whatever the process around it does, a call ends with its result or with a message.

What may kill or hang a process is tried in a process of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from tests.engine.engine_models import Graph, images, plain_network

from repfold import allowance, engine

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    plain_network(tmp_path / "m.safetensors", images(1, 3, 16, 16), (16, 48))
    return tmp_path / "m.safetensors"


def run_guest(code: str, model: Path, **environment: str) -> str:
    """Run the code, which finds the engine, numpy and images ``x`` for several threads; return what it printed."""
    begin = """
        import ctypes, os, resource, signal, sys, threading, time
        import numpy as np
        from repfold import engine
        path, x = sys.argv[1], np.ones((2, 3, 64, 64), np.float32)
    """
    script = textwrap.dedent(begin) + textwrap.dedent(code)
    command = [sys.executable, "-c", script, str(model)]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((1 << 20, 3, 16384, 16384), "give fewer or smaller images"),
        ((1 << 20, 3, 65536, 65536), "give fewer or smaller images"),
        ((1 << 20, 3, 1, 4096), "give fewer or smaller images"),
        ((1, 3, 65536, 65536), "give fewer or smaller images"),
        ((1 << 21, 3, 1, 1), "within reason"),
        ((0, 3, 16, 16), "within reason"),
        ((-1, 3, 16, 16), "within reason"),
        ((1 << 32 | 1, 3, 16, 16), "too large a number"),  # C's int would see 1
    ],
)
def test_absurd_sizes_are_refused(size: tuple[int, ...], words: str, model: Path) -> None:
    code = f"""
        for convolution in ("auto", "direct", "4x4"):
            for threads in (1, 3):
                try:
                    print(engine.load(path, threads=threads, convolution=convolution).plan{size})
                except engine.EngineError as error:
                    print(error)
    """
    answers = run_guest(code, model).splitlines()
    assert len(answers) == 6
    assert all(words in answer for answer in answers)


def test_absurd_numbers_of_threads_are_refused(model: Path) -> None:
    for threads in (0, 257, 1 << 32 | 1):
        with pytest.raises(engine.EngineError, match="threads"):
            engine.load(model, threads=threads)


def test_closed_during_calls(model: Path) -> None:
    code = """
        answers = set()
        for _ in range(100):
            loaded = engine.load(path, threads=2)
            expected = loaded(x).tobytes()
            begun = threading.Barrier(3)
            def call():
                begun.wait()
                while True:
                    try:
                        answers.add(loaded(x).tobytes() == expected)
                    except engine.EngineError as error:
                        return answers.add(str(error))
            callers = [threading.Thread(target=call) for _ in range(2)]
            for caller in callers:
                caller.start()
            begun.wait()
            loaded.close()
            loaded.close()
            for caller in callers:
                caller.join()
        assert answers <= {True, "This engine is closed. Load the model again."}, answers
    """
    run_guest(code, model)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_forks_during_calls(model: Path) -> None:
    """Children use and close the engine, while in the parent another thread is always in a call."""
    code = """
        loaded = engine.load(path, threads=2)
        expected, large = loaded(x), np.ones((4, 3, 96, 96), np.float32)
        ending = False
        def call():
            while not ending:
                loaded(large)
        caller = threading.Thread(target=call)
        caller.start()
        for _ in range(20):
            if not (child := os.fork()):
                signal.alarm(30)
                same = np.array_equal(loaded(x), expected)
                loaded.close()
                os._exit(0 if same else 1)
            assert os.waitpid(child, 0)[1] == 0
            assert np.array_equal(loaded(x), expected)
        ending = True
        caller.join()
    """
    run_guest(code, model)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_closed_in_a_child_that_never_called_it(model: Path) -> None:
    code = """
        loaded = engine.load(path, threads=2)
        loaded(x)
        if not (child := os.fork()):
            signal.alarm(30)
            loaded.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    run_guest(code, model)


@LINUX
@pytest.mark.parametrize("granted", [0, 2])
def test_threads_that_the_system_does_not_grant(granted: int, model: Path) -> None:
    """Each stack takes a GiB of an address space that has room for so many."""
    code = f"""
        expected = engine.load(path, threads=1)(x)
        loaded, planned = engine.load(path, threads=6), engine.load(path, threads=6).plan(*x.shape)
        if resource.getrlimit(resource.RLIMIT_STACK)[0] != 1 << 30:
            resource.setrlimit(resource.RLIMIT_STACK, (1 << 30, resource.getrlimit(resource.RLIMIT_STACK)[1]))
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        room = used + {granted} * ((1 << 30) + (1 << 20)) + (1 << 28)
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        result = loaded(x)
        print(planned["threads"], loaded.plan(*x.shape)["threads"], np.allclose(result, expected, atol=1e-5))
    """
    assert run_guest(code, model).split() == ["6", str(1 + granted), "True"]


@pytest.mark.skipif(shutil.which("localedef") is None, reason="no locales can be made here")
def test_a_locale_of_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    graph = Graph(images(1, 3, 16, 16))
    expected = graph.save(path, graph.activation(graph.conv("x", 16), "leaky_relu"))
    source = tmp_path / "source"
    source.write_text('LC_NUMERIC\ndecimal_point "<U002C>"\nthousands_sep "<U002E>"\ngrouping 3\nEND LC_NUMERIC\n')
    command = ["localedef", "--force", "--inputfile", str(source), str(tmp_path / "commas")]
    subprocess.run(command, capture_output=True, check=False)  # it warns of what else a locale has
    code = """
        import locale
        locale.setlocale(locale.LC_NUMERIC, "commas")
        assert locale.localeconv()["decimal_point"] == ","
        loaded = engine.load(path, threads=1)
        x = np.load(os.environ["GUEST_IMAGES"])
        error = np.abs(loaded(x).reshape(1, -1) - np.load(os.environ["GUEST_EXPECTED"])).max()
        assert error < 1e-5, error
        print(loaded.plan(1, 3, 1000, 1000)["input"])
    """
    np.save(tmp_path / "x.npy", graph.x)
    np.save(tmp_path / "y.npy", expected)
    files = {"GUEST_IMAGES": str(tmp_path / "x.npy"), "GUEST_EXPECTED": str(tmp_path / "y.npy")}
    assert run_guest(code, path, LOCPATH=str(tmp_path), **files) == "[1, 3, 1000, 1000]\n"


def test_weights_are_packed_once_for_images_that_are_not_finite(model: Path) -> None:
    """Shown by a file that can no longer be read."""
    loaded, x = engine.load(model, threads=2, convolution="4x4"), images(1, 3, 32, 32)
    broken = np.where(np.arange(32) == 7, np.nan, x).astype(np.float32)
    expected = [loaded(broken), loaded(x)]
    held = loaded.plan(*x.shape)["buffers"]["weights"]
    fresh = engine.load(model, threads=2)
    os.truncate(model, 8)
    with pytest.raises(engine.EngineError, match="became shorter"):
        fresh(broken)
    for _ in range(3):
        assert np.array_equal(loaded(broken), expected[0], equal_nan=True)
        assert np.array_equal(loaded(x), expected[1])
    assert loaded.plan(*x.shape)["buffers"]["weights"] == held


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_stays_of_images_that_are_not_finite(precision: str, tmp_path: Path) -> None:
    """Layers of odd widths, where bf16 kernels read one channel more."""
    if precision == "bf16" and "bf16" not in engine.cpu_kernels():
        pytest.skip("this CPU has no bf16")
    path, x = tmp_path / "m.safetensors", images(2, 3, 23, 23)
    graph = Graph(x)
    at = graph.activation(graph.conv("x", 7), "relu")
    at = graph.max_pool(at, graph.values[at][:, :, ::2, ::2], 1, 2, 0)
    beside = graph.conv(at, 7, (1, 1))
    at = graph.call("add", at, graph.values[at] + graph.values[beside], other={"value": beside})
    at = graph.activation(graph.conv(graph.conv(at, 19), 19), "silu")
    at = graph.conv(graph.conv(graph.conv(at, 19, groups=19), 5, (5, 5)), 21)
    graph.save(path, graph.head(graph.activation(graph.conv(at, 33), "relu")))
    for convolution in ("auto", "direct", "2x2"):
        loaded = engine.load(path, threads=2, precision=precision, convolution=convolution)
        expected = loaded(x)
        for value in (np.nan, np.inf):
            loaded(np.full_like(x, value))
            assert np.array_equal(loaded(x), expected)


@LINUX
def test_more_memory_than_the_process_may_use_is_refused(model: Path) -> None:
    told = run_guest(
        """
        from repfold import allowance
        pages = open("/proc/self/statm").read().split()
        limit = (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") + (64 << 20)
        allowance.memory = lambda: limit
        loaded = engine.load(path, threads=1)
        expected = loaded(x)
        try:
            loaded.plan(1, 3, 2048, 2048)
        except engine.EngineError as error:
            print(limit >> 20, error)
        # Each of these fits, but not beside the others.
        for size in (700, 710, 720, 730, 740):
            assert loaded(np.ones((1, 3, size, size), np.float32)).shape[1:] == expected.shape[1:]
        assert np.array_equal(loaded(x), expected)
        """,
        model,
    )
    limit, _, words = told.partition(" ")
    assert re.search(
        rf"need \d+ MiB .* beside the \d+ MiB .* more than the {limit} MiB of this control group; give fewer", words
    )


def test_threads_are_those_that_the_process_may_use(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "cores", lambda: 3)
    assert engine.load(model).plan(2, 3, 64, 64)["threads"] == 3
