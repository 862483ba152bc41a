"""Compiled programs outlive their process: JAX's and numba's, below ``$SNNLAB_CACHE``.

A program is found again by its own text, the version of JAX and the processor: what is read back
is what would have been compiled, and gives the same bits. JAX does not keep what calls back into
Python. numba's loops are custom calls by a name made of their content, under which each process
registers its own before it reads a program back (:mod:`snnlab.learners.stores.kernels.support`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
import tempfile
from pathlib import Path

import filelock

from snnlab.errors import UsageError

#: Environment variable; 0 switches the cache off.
SWITCH = "SNNLAB_COMPILE_CACHE"
#: Bytes of JAX's programs; the least recently used go first.
LARGEST = 2**30
#: Seconds: what compiles faster is not kept.
SHORTEST = 0.1


def keep_compiled() -> Path | None:
    """Keep compiled programs, and read back those of earlier processes; before the first one.

    What a user has set for JAX (``JAX_COMPILATION_CACHE_DIR``) and numba (``NUMBA_CACHE_DIR``)
    stays.

    Returns:
        The folder; ``None`` where it is switched off or cannot be written.
    """
    if os.environ.get(SWITCH, "").strip().lower() in ("0", "off", "no", "false"):
        return None
    from snnlab.data.cache import cache_root

    try:
        folder = cache_root() / "compiled" / _processor()
        for name in ("jax", "numba"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder / name):
                pass
        _drop_unfinished(folder / "jax")
    except (OSError, RuntimeError, UsageError, filelock.Timeout):  # no place; nobody's home
        return None
    # XLA writes lines about its own settings, as errors, when it reads a program back.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "NUMBA_CACHE_DIR" not in os.environ:
        os.environ["NUMBA_CACHE_DIR"] = str(folder / "numba")
        if "numba" in sys.modules:
            sys.modules["numba"].config.CACHE_DIR = str(folder / "numba")
    import jax

    settings = {
        "jax_compilation_cache_dir": str(folder / "jax"),
        "jax_compilation_cache_max_size": LARGEST,
        "jax_persistent_cache_min_compile_time_secs": SHORTEST,
    }
    if getattr(jax.config, next(iter(settings))) is None:
        for name, value in settings.items():
            jax.config.update(name, value)
    return folder


def _processor() -> str:
    """A name for what machine code of this processor runs on: kind and instruction sets."""
    known = platform.processor()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                known = " ".join(sorted(value.split()))
                break
    return f"{platform.machine()}-{hashlib.sha256(known.encode()).hexdigest()[:12]}"


def _drop_unfinished(folder: Path) -> None:
    """Remove programs that a killed process was writing: JAX writes the time of use after them."""
    with filelock.FileLock(folder / ".lockfile", timeout=10):
        for path in folder.glob("*-cache"):
            if not path.with_name(f"{path.name.removesuffix('-cache')}-atime").is_file():
                path.unlink(missing_ok=True)
