"""snnlab: recurrent spiking networks on JAX, trained by learners that one flag swaps."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

__version__ = "0.1.0"


def _caches_of_libraries() -> None:
    """Give brainevent and matplotlib a temporary cache folder where the home has no place.

    brainevent makes its folder when it is imported, and fails where it cannot. Processes that a
    command starts share the folder, which ends with the command.
    """
    if "BRAINEVENT_CACHE_DIR" in os.environ:
        return
    try:
        own = Path.home() / ".cache" / "brainevent"
        own.mkdir(parents=True, exist_ok=True)
        if os.access(own, os.W_OK | os.X_OK):
            return
    except (OSError, RuntimeError):  # read-only, no folder; nobody's home
        pass
    folder = tempfile.mkdtemp(prefix="snnlab-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["BRAINEVENT_CACHE_DIR"] = folder
    os.environ.setdefault("MPLCONFIGDIR", folder)


_caches_of_libraries()
