"""What every test shares: the CPU, a cache folder of its own, no state left behind."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before anything imports JAX or matplotlib.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "agg"
# XLA reports features of its own, not of the processor, when it reads a compiled program back.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# Commands that tests call in this process set up no cache for all others (test_compile_cache.py).
os.environ["SNNLAB_COMPILE_CACHE"] = "0"

# What a process has compiled is read back by later ones: many runs are of one kind. One folder for
# pytest-xdist's workers, which have the environment of the process that starts them.
COMPILED = Path(os.environ.get("SNNLAB_TESTS_COMPILED") or tempfile.mkdtemp(prefix="snnlab-tests-"))
if "SNNLAB_TESTS_COMPILED" not in os.environ:
    os.environ["SNNLAB_TESTS_COMPILED"] = str(COMPILED)
    atexit.register(shutil.rmtree, COMPILED, ignore_errors=True)
#: JAX's programs: of all, and of this process and what it starts. JAX does not write a file at
#: once, so that only what is complete goes from one to the other (``_programs``).
SHARED, OWN = COMPILED / "jax", COMPILED / f"jax-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
for _folder in (SHARED, OWN):
    _folder.mkdir(exist_ok=True)
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": str(OWN),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    "NUMBA_CACHE_DIR": str(COMPILED / "numba"),
}
# Where Python is to keep no bytecode, each process compiles all that it imports, three times as
# long as it imports it. Not beside the sources then, but for the session.
if sys.dont_write_bytecode:
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(COMPILED / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
# Programs are traced of millions of small objects that stay; Python's collector reads them all
# again and again, a sixth of the time of learners' tests. See ``_programs``.
gc.set_threshold(50_000, 20, 100)

import pytest  # noqa: E402

TESTS = Path(__file__).parent
#: Tests have many programs that run for milliseconds; to compile them as users do takes half of the
#: suite's time, with these options of XLA (value here, and XLA's own) a sixth of that. What is
#: computed is the same but for rounding.
QUICK: dict[str, tuple[object, object]] = {
    "xla_cpu_parallel_codegen_split_count": (1, 32),
    "xla_backend_optimization_level": (0, 3),
    "xla_llvm_disable_expensive_passes": (True, False),
}
if importlib.metadata.version("jaxlib").startswith("0.9."):  # later ones have no such option
    QUICK["xla_cpu_use_fusion_emitters"] = (False, True)
FLAGS = "".join(f" --{name}={str(value).lower()}" for name, (value, _) in QUICK.items())
#: Compiled as users compile: the ladder of learners, golden numbers, the example network, what is
#: measured. Where slow tests run, and with SNNLAB_TESTS_COMPILE=users, all is.
AS_USERS = (
    "learners/test_ladder.py", "learners/test_memory.py", "models/test_balanced_golden.py",
    "test_experiment.py",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is compiled, here or in a worker, which has the environment of its maker."""
    as_users = os.environ.get("SNNLAB_TESTS_COMPILE") == "users"
    if config.option.markexpr == "not slow" and not as_users:
        given = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = given if FLAGS in given else given + FLAGS


@pytest.fixture(scope="module", autouse=True)
def _programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """A module has the compiled programs of those before it, and leaves its own."""
    patch = pytest.MonkeyPatch()
    as_users = os.path.relpath(request.path, TESTS) in AS_USERS and FLAGS in os.environ.get(
        "XLA_FLAGS", ""
    )
    if as_users:
        _compile_as_users(patch)
    for theirs, ours in ((SHARED, OWN), (OWN, SHARED)):
        for name in {*os.listdir(theirs)} - {*os.listdir(ours)}:
            with contextlib.suppress(FileExistsError):
                os.link(theirs / name, ours / name)
    yield
    if as_users:
        patch.undo()
        sys.modules["jax"].clear_caches()
    gc.collect()
    gc.freeze()  # what a module leaves is what later ones use


def _compile_as_users(patch: pytest.MonkeyPatch) -> None:
    """Here, whose flags XLA has read, and in what is started."""
    import jax
    from jax._src import compiler

    jax.devices()  # now the flags are read
    patch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace(FLAGS, ""))
    real = compiler.get_compile_options

    def options(*args: object, **kwargs: object) -> object:
        made = real(*args, **kwargs)
        theirs = [(name, str(value)) for name, (_, value) in QUICK.items()]
        made.env_option_overrides = [*theirs, *made.env_option_overrides]
        return made

    patch.setattr(compiler, "get_compile_options", options)
    jax.clear_caches()  # in memory


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


#: Files of few and long tests go first, so that no worker is left with them at the end.
LONG = (
    "test_resume.py", "test_kills.py", "problems/test_gradient_analysis.py", "test_interrupts.py",
    "test_experiment.py", "search/test_search.py", "test_loggers.py", "training/test_placement.py",
    "test_library.py", "test_notebooks.py", "problems/test_stream.py", "problems/test_evidence.py",
    "learners/test_neurons.py", "learners/test_tuning.py", "learners/test_sparse.py",
    "learners/test_chunked.py", "learners/test_precision.py", "test_times.py",
    "training/test_alarms.py", "problems/test_balanced.py", "test_examples.py",
    "learners/test_kernels.py", "problems/test_delayed_match.py", "problems/test_boerlin.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """See :data:`LONG`; within a file the order stays."""
    assert all((TESTS / name).is_file() for name in (*AS_USERS, *LONG))
    places = {name: k for k, name in enumerate(LONG)}
    items.sort(key=lambda i: places.get(os.path.relpath(i.path, TESTS), len(LONG)))
