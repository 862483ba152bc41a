"""``--devices``: where the programs run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from snnlab.errors import UsageError, shown

if TYPE_CHECKING:
    import jax

#: Devices that a CPU can be divided into.
MOST_CPUS = 64


def select_device(devices: str) -> str:
    """Choose the devices of this process; call it before anything else uses JAX.

    Args:
        devices: comma list of accelerator ids, ``all``, ``cpu`` (also ``-1``), or ``cpu:N``: N
            devices of the CPU, which it is divided into.

    Returns:
        A line for the user, empty if there is nothing to say.

    Raises:
        UsageError: not a list of ids, or an id that is not there.
    """
    wanted = _wanted(devices)
    if isinstance(wanted, _Cpu):
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax

        jax.config.update("jax_platforms", "cpu")
        if wanted.n > 1:
            with contextlib.suppress(RuntimeError):  # JAX runs already: what there is stays
                jax.config.update("jax_num_cpu_devices", wanted.n)
            chosen(devices)
        return ""
    import jax

    found = chosen(devices)
    if not found:
        return "" if devices == "0" else f"no accelerator here: --devices {devices} runs on the CPU"
    if found[0].platform != "cpu" or found[0].id:
        jax.config.update("jax_default_device", found[0])
    return ""


def check_devices(devices: str) -> None:
    """Whether ``--devices`` can be read, without JAX.

    Raises:
        UsageError: it cannot.
    """
    _wanted(devices)


def chosen(devices: str) -> list[jax.Device]:
    """The devices that ``--devices`` names, each once; none: the one that JAX chooses itself.

    Without an accelerator, ids and ``all`` mean devices of the CPU if there are several.

    Raises:
        UsageError: one that is not there.
    """
    import jax

    wanted = _wanted(devices)
    if isinstance(wanted, _Cpu):
        if wanted.n == 1:
            return []
        there = jax.local_devices(backend="cpu")
        if len(there) < wanted.n:
            raise UsageError(
                f"--devices {shown(devices)}: JAX runs already, with {len(there)} device(s) of the "
                "CPU"
            )
        return there[: wanted.n]
    found = jax.local_devices()
    if found[0].platform == "cpu" and len(found) == 1:
        return []
    # Of several processes each counts its own from 0; JAX numbers all of them.
    alone = jax.process_count() == 1
    by_id = {d.id if alone else k: d for k, d in enumerate(found)}
    if wanted is None:
        return found
    missing = [i for i in wanted if i not in by_id]
    if missing:
        have = ", ".join(f"{i} ({d.device_kind})" for i, d in by_id.items())
        kind = "accelerator" if found[0].platform != "cpu" else "device"
        raise UsageError(
            f"--devices {shown(devices)}: there is no {kind} {missing[0]}; here: {have}"
        )
    return [by_id[i] for i in dict.fromkeys(wanted)]


class _Cpu(NamedTuple):
    """``cpu``, or ``cpu:n``."""

    n: int


def _wanted(devices: str) -> _Cpu | list[int] | None:
    """What ``--devices`` asks; ``None`` for all of them."""
    text = devices.strip().lower().replace(" ", "")
    if text in ("cpu", "-1"):
        return _Cpu(1)
    if text == "all":
        return None
    on_cpu, ids = text.startswith("cpu:"), text.removeprefix("cpu:")
    parts = [p for p in ids.split(",") if p]
    if not parts or not all(p.isdecimal() and len(p) < 10 for p in parts):
        parts = []
    if on_cpu and len(parts) == 1 and 0 < int(parts[0]) <= MOST_CPUS:
        return _Cpu(int(parts[0]))
    if on_cpu or not parts:
        raise UsageError(
            f"--devices {shown(devices)}: must be a comma list of accelerator ids (such as 0 or "
            f"0,1), all, cpu, or cpu:N for N of 1 to {MOST_CPUS} devices of the CPU"
        )
    return [int(p) for p in parts]


class Memory(NamedTuple):
    """Bytes of a device, or of the host and of what this process may have of it."""

    total: int
    free: int


def memory() -> Memory | None:
    """Memory of the device of this process; ``None`` if unknown.

    Of the host it is what is there, or less if a control group (a container, a batch job) limits
    the process to less.
    """
    import jax

    device = next(iter(jax.numpy.zeros(()).devices()))
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return Memory(int(stats["bytes_limit"]), stats["bytes_limit"] - stats["bytes_in_use"])
    return host_memory(Path("/"))


def host_memory(root: Path) -> Memory | None:
    """Memory of the host; ``root`` is ``/``, or another one in tests."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        found = dict(line.split(":", 1) for line in lines)
        total, free = (int(found[k].split()[0]) * 1024 for k in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return None
    for limit, used in _limits(root):
        total, free = min(total, limit), min(free, max(limit - used, 0))
    return Memory(total, free)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of the control groups of this process, of version 2 and 1, innermost first."""
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for group in groups:
        _, controllers, path = group.split(":", 2)
        top = root / "sys/fs/cgroup"
        names = ("memory.max", "memory.current", "inactive_file")
        if controllers:
            if "memory" not in controllers.split(","):
                continue
            top /= "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        inner = top / path.lstrip("/")
        # In a container the path may be the host's: its own group is then the top.
        for folder in (inner, *inner.parents):
            if folder != top and top not in folder.parents:
                break
            try:
                limit, used = (int((folder / name).read_text()) for name in names[:2])
                stat = (folder / "memory.stat").read_text().split()
            except (OSError, ValueError):  # no such group here; "max"
                continue
            numbers = dict(zip(stat[::2], stat[1::2]))
            yield limit, used - int(numbers.get(names[2], 0))  # a cache of files is given back


def require_memory(n_bytes: float, what: str) -> None:
    """Refuse an array that the device cannot hold, before it is made.

    Raises:
        UsageError: ``what`` takes ``n_bytes``, and fewer are free.
    """
    found = memory() if n_bytes > 1e8 else None  # asking takes longer than smaller ones
    if found is not None and n_bytes > found.free:
        raise UsageError(
            f"out of memory: {what} takes {n_bytes / 1e9:,.1f} GB, {found.free / 1e9:,.1f} GB are "
            "free; fewer neurons, inputs or samples need less"
        )
