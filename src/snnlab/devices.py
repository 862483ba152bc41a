"""``--devices``: where the programs run."""

from __future__ import annotations

import os

from snnlab.errors import UsageError, shown


def select_device(devices: str) -> str:
    """Choose the device of this process; call it before anything else uses JAX.

    Args:
        devices: comma list of accelerator ids, ``all``, or ``cpu`` (also ``-1``).

    Returns:
        A line for the user, empty if there is nothing to say.

    Raises:
        UsageError: not a list of ids, or an id that is not there.
    """
    wanted = devices.strip().lower()
    if wanted in ("cpu", "-1"):
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax

        jax.config.update("jax_platforms", "cpu")
        return ""
    ids: list[int] | None = None
    if wanted != "all":
        parts = [p for p in wanted.replace(" ", "").split(",") if p]
        if not parts or not all(p.isdecimal() and len(p) < 10 for p in parts):
            raise UsageError(
                f"--devices {shown(devices)}: must be a comma list of accelerator ids (such as 0 "
                "or 0,1), all, or cpu"
            )
        ids = [int(p) for p in parts]
    import jax

    found = [d for d in jax.local_devices() if d.platform != "cpu"]
    if not found:
        return "" if devices == "0" else f"no accelerator here: --devices {devices} runs on the CPU"
    there = {d.id: d for d in found}
    chosen = list(there) if ids is None else ids
    missing = [i for i in chosen if i not in there]
    if missing:
        have = ", ".join(f"{i} ({d.device_kind})" for i, d in there.items())
        raise UsageError(
            f"--devices {shown(devices)}: there is no accelerator {missing[0]}; here: {have}"
        )
    jax.config.update("jax_default_device", there[chosen[0]])
    if len(chosen) > 1:
        return f"one run uses one accelerator: {chosen[0]} of {devices}"
    return ""


def require_memory(n_bytes: float, what: str) -> None:
    """Refuse an array that the device cannot hold, before it is made.

    Raises:
        UsageError: ``what`` takes ``n_bytes``, and fewer are free.
    """
    free = free_memory() if n_bytes > 1e8 else None  # asking takes longer than smaller ones
    if free is not None and n_bytes > free:
        raise UsageError(
            f"out of memory: {what} takes {n_bytes / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free; "
            "fewer neurons, inputs or samples need less"
        )


def free_memory() -> int | None:
    """Bytes that a program can still take on the device of this process; ``None`` if unknown."""
    import jax

    device = next(iter(jax.numpy.zeros(()).devices()))
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = dict(line.split(":", 1) for line in lines)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
