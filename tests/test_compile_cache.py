"""Compiled programs that later processes read back: the same bits, or they are not kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from runs import assert_same, command_of
from snnlab.experiment import compile_cache
from snnlab.experiment.compile_cache import keep_compiled

#: Two loops of one name that differ in what they close over, a program with a donated argument,
#: and one that calls Python; ``argv``: factors of the loops, in the order of their compilation.
CHILD = """
import re, sys
from snnlab.experiment import compile_cache
compile_cache.SHORTEST = 0.0
folder = compile_cache.keep_compiled()
import jax, jax.numpy as jnp, numba, numpy as np
from snnlab.learners.stores.kernels.support import call, compiled, part_of

def loop(factor):
    def part(x, k):
        return factor * x[k]
    part = part_of(part)
    def run(x, y):
        for k in numba.prange(x.size):
            y[k] = part(x, k)
    return compiled(run)

x = jnp.arange(4, dtype=jnp.float32)
said = []
for factor in map(float, sys.argv[1:]):
    kernel = loop(factor)
    program = jax.jit(lambda x: call(kernel, [((4,), jnp.float32)], x)[0] + 1)
    # Called by a name made of its content, not by a number that means another one elsewhere.
    assert re.search("brainevent_numba_ffi_[0-9a-f]{16}", program.lower(x).as_text())
    said += program(x).tolist()
donated = jax.jit(lambda x: x * 2 + 1, donate_argnums=0)
said += donated(x + 0).tolist()
number = len(sys.argv)
called = jax.jit(lambda x: jax.pure_callback(lambda x: x * np.float32(number), x, x))
said += called(x).tolist()
print(folder, *said)
"""


def counted(folder: Path) -> tuple[int, int]:
    """Programs of JAX and machine codes of numba that are kept."""
    return len(list(folder.rglob("*-cache"))), len(list(folder.rglob("*.nbc")))


@pytest.fixture(autouse=True)
def _without_the_tests_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What conftest.py sets for all tests is not there."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    for name in ("JAX_COMPILATION_CACHE_DIR", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("COMPILE_TIME_SECS", "ENTRY_SIZE_BYTES"):
        monkeypatch.delenv(f"JAX_PERSISTENT_CACHE_MIN_{name}", raising=False)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def child(tmp_path: Path, *factors: int, **env: str) -> tuple[Path | None, list[float], str]:
    """Folder, results and messages of one process."""
    script = tmp_path / "child.py"
    if not script.exists():  # numba takes code for new if its file is
        script.write_text(CHILD)
    own = {"SNNLAB_CACHE": str(tmp_path / "cache"), "SNNLAB_COMPILE_CACHE": "1"}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, factors)],
        env=os.environ | own | env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder, *said = done.stdout.split()
    return None if folder == "None" else Path(folder), [float(v) for v in said], done.stderr


def expected(*factors: int) -> list[float]:
    loops = [f * k + 1.0 for f in factors for k in range(4)]
    return [*loops, *(2.0 * k + 1 for k in range(4)), *((len(factors) + 1.0) * k for k in range(4))]


def test_a_second_process_reads_back_and_computes_the_same(tmp_path: Path) -> None:
    folder, said, _ = child(tmp_path, 2)
    assert folder is not None
    assert said == expected(2)
    programs, codes = counted(folder)
    assert programs > 0
    assert codes >= 2  # the loop and its part
    # Nothing is compiled again, and Python's own function is this process's.
    assert child(tmp_path, 2) == (folder, expected(2), "")
    assert counted(folder) == (programs, codes)
    # One loop read back, another of the same name compiled beside it, in either order.
    assert child(tmp_path, 3, 2)[1] == expected(3, 2)
    assert child(tmp_path, 2, 4)[1] == expected(2, 4)


def test_damaged_files_are_compiled_again(tmp_path: Path) -> None:
    folder, said, _ = child(tmp_path, 2)
    assert folder is not None
    for path in folder.rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:40])
    for path in folder.rglob("*-atime"):  # as a process leaves them that was killed while writing
        path.unlink()
    for path in folder.rglob("*-cache"):
        path.write_bytes(path.read_bytes()[:40])
    assert child(tmp_path, 2) == (folder, said, "")


def test_it_is_switched_off(tmp_path: Path) -> None:
    assert child(tmp_path, 2, SNNLAB_COMPILE_CACHE="0") == (None, expected(2), "")
    assert not (tmp_path / "cache").exists()


def test_without_a_place_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNLAB_COMPILE_CACHE", "1")
    monkeypatch.setenv("SNNLAB_CACHE", "/proc/none")
    before = jax.config.jax_compilation_cache_dir
    assert keep_compiled() is None
    monkeypatch.setenv("SNNLAB_CACHE", str(tmp_path))
    (tmp_path / "compiled").write_text("a file")
    assert keep_compiled() is None
    assert jax.config.jax_compilation_cache_dir == before


def test_what_a_user_has_set_for_jax_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNLAB_COMPILE_CACHE", "1")
    monkeypatch.setenv("SNNLAB_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "theirs"))
    try:
        assert keep_compiled() is not None
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "theirs")
        assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "numba")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_programs_that_were_not_written_to_the_end_go(tmp_path: Path) -> None:
    for name in ("a-cache", "b-cache", "b-atime"):
        (tmp_path / name).touch()
    compile_cache._drop_unfinished(tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*-*")) == ["b-atime", "b-cache"]


def test_every_loop_of_ours_has_a_name_of_its_content() -> None:
    """Under a number a program of another process would call another loop."""
    from brainevent._op.ffi_naming import kernel_content_fingerprint

    from snnlab.learners.stores.kernels import events, traces

    loops = [
        f(binary)
        for binary in (True, False)
        for f in (events._times, events._outer, events._weighted)
    ]
    loops += [
        traces._kernel(n, reads, y)
        for n in (1, 2)
        for reads in (True, False)
        for y in (True, False)
    ]
    names = [kernel_content_fingerprint(loop) for loop in loops]
    assert None not in names
    assert len(set(names)) == len(loops)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "flags", "loops"), [("image", "--downsample 1 --data_length 60 --epochs 1", True),
                                    ("evidence", "--epochs 2", False)],
)  # fmt: skip
def test_a_run_is_the_same_to_the_bit(
    problem: str, flags: str, loops: bool, tmp_path: Path
) -> None:
    """Without the cache, with an empty one, and read back by two processes at once."""
    env = os.environ | {"SNNLAB_COMPILE_CACHE": "1", "SNNLAB_CACHE": str(tmp_path / "cache")}

    def start(name: str, **own: str) -> subprocess.Popen[bytes]:
        command = [*command_of(problem), *flags.split(), "--filepath", str(tmp_path / name)]
        return subprocess.Popen(command, env=env | own, stdout=subprocess.DEVNULL)

    assert start("off", SNNLAB_COMPILE_CACHE="0").wait() == 0
    assert start("first").wait() == 0
    programs, codes = counted(tmp_path / "cache")
    assert any("train" in p.name for p in (tmp_path / "cache").rglob("*-cache"))
    assert programs > 0
    assert (codes > 0) == loops
    both = [start("second"), start("third")]
    assert [process.wait() for process in both] == [0, 0]
    assert counted(tmp_path / "cache")[1] == codes
    for name in ("first", "second", "third"):
        assert_same(tmp_path / name, tmp_path / "off")
