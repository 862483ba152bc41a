"""What every test shares: the CPU, a cache folder of its own, no state left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before anything imports JAX or matplotlib.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "agg"
# XLA reports features of its own, not of the processor, when it reads a compiled program back.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# Commands that tests call in this process set up no cache for all others (test_compile_cache.py).
os.environ["SNNLAB_COMPILE_CACHE"] = "0"

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The session's own data cache, so that no test reads or fills the user's."""
    folder = tmp_path_factory.mktemp("cache")
    patch = pytest.MonkeyPatch()
    patch.setenv("SNNLAB_CACHE", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def _signals_are_pytests() -> Iterator[None]:
    """A command that is called in this process does not take over its signals."""
    from snnlab import interrupts

    patch = pytest.MonkeyPatch()
    patch.setattr(interrupts, "install", lambda prog: None)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _environ_of_brainstate() -> Iterator[None]:
    """Global settings of brainstate (``dt``, precision) end with the test that made them."""
    from brainstate import environ

    before = dict(environ.all())
    yield
    after = environ.all()
    for name in set(after) - set(before):
        environ.pop(name)
    changed = {k: v for k, v in before.items() if k not in after or after[k] is not v}
    if changed:
        environ.set(**changed)


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs of this module's tests are compiled once and read back: many runs of one kind."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    names = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in names.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
