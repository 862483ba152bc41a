"""The machine of a measurement: what it is, and what it reaches.

Both are found in a process of their own (:func:`snnlab.benchmarks.cells.machine`), on the device
that is measured.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snnlab import runs

#: Other frameworks, whose versions belong to a measurement.
FRAMEWORKS = ("torch", "snntorch", "norse", "spikingjelly", "spyx", "dm-haiku", "flax")
#: Versions that are shown; all are in the file of rows and ratios.
SHOWN = ("snnlab", "commit", "python", "jax", "jaxlib", *FRAMEWORKS)
#: What ``nvidia-smi`` is asked for, and what it is called here.
NVIDIA = {
    "driver_version": "driver", "clocks.max.sm": "clock_mhz", "clocks.max.mem": "memory_clock_mhz",
    "power.limit": "power_limit_w",
}  # fmt: skip


def describe() -> dict[str, Any]:
    """Device, clocks, versions and rates of this process's machine.

    Returns:
        ``device`` (its kind; of a CPU the processor's name), ``platform`` (``cpu``, ``gpu``,
        ``tpu``), ``n_devices``, what :func:`clocks` finds, ``versions`` (name -> version, of
        packages that are installed), ``date``, and what :func:`rates` finds.
    """
    import jax

    device = here()
    versions = runs.provenance()
    for name in FRAMEWORKS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    date = versions.pop("written")
    cores = versions.pop("cores")
    del versions["device"]
    return {
        "device": (processor() if device.platform == "cpu" else "") or device.device_kind,
        "platform": device.platform,
        "n_devices": len(jax.local_devices()),
        "cores": int(cores),
        "date": date,
        **clocks(device.platform, getattr(device, "local_hardware_id", 0) or 0),
        **rates(),
        "versions": {k: v for k, v in versions.items() if v != "not installed"},
    }


def here() -> Any:
    """The device that programs of this process run on."""
    import jax

    return next(iter(jax.numpy.zeros(()).devices()))


def clocks(platform: str, number: int = 0) -> dict[str, Any]:
    """Clocks, driver and power limit, as far as the machine tells.

    Args:
        platform: of the device.
        number: of the device, among those of its kind.
    """
    if platform == "gpu":
        return of_nvidia(number)
    info = Path("/proc/cpuinfo")
    if platform != "cpu" or not info.exists():
        return {}
    found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", info.read_text(encoding="utf-8"), re.MULTILINE)
    return {"clock_mhz": round(max(map(float, found)))} if found else {}


def of_nvidia(number: int, command: str = "nvidia-smi") -> dict[str, Any]:
    """What ``nvidia-smi`` says of a GPU; empty where it is not there or does not answer."""
    try:
        done = subprocess.run(
            [command, f"--query-gpu={','.join(NVIDIA)}", "--format=csv,noheader,nounits",
             f"--id={number}"],
            capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in done.stdout.strip().split(",")]
    if len(values) != len(NVIDIA):
        return {}
    found: dict[str, Any] = {}
    for name, value in zip(NVIDIA.values(), values):
        number_like = value.replace(".", "", 1).isdecimal() and name != "driver"
        found[name] = round(float(value)) if number_like else value
    return found


def processor() -> str:
    """Name of the CPU and its number of cores, where the system tells."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return ""
    names = re.findall(r"^model name\s*:\s*(.*)$", info.read_text(encoding="utf-8"), re.MULTILINE)
    return f"{names[0]}, {len(names)} cores" if names else ""


def rates() -> dict[str, float]:
    """What this machine reaches.

    Returns:
        ``product_flop_per_second`` of a product of float32 matrices as XLA makes it (on a GPU or
        TPU with fewer bits inside), on an accelerator also ``bfloat16_flop_per_second``;
        ``memory_bytes_per_second`` of one read and write of memory that no cache holds.
    """
    import jax
    import jax.numpy as jnp

    from snnlab.benchmarks.cells import clock
    from snnlab.devices import memory

    def fastest(function: Callable[[jax.Array], jax.Array], argument: jax.Array) -> float:
        value = jax.block_until_ready(function(argument))
        times, now = [], clock()
        for _ in range(5):
            began = now()
            value = jax.block_until_ready(function(value))
            times.append(now() - began)
        return min(times)

    accelerator = here().platform != "cpu"
    n, rows = (8192, 1024) if accelerator else (2048, 64)
    room = memory()
    if accelerator and room is not None:  # launches must not count, nor memory run out
        rows = max(min(rows, room.free // (8 * 2**22)), 64)
    product = jax.jit(lambda a: (a @ a) * 1e-3)
    change = jax.jit(lambda a: a * 1.0001, donate_argnums=0)
    large = 4 * rows * 2**20
    found = {
        "product_flop_per_second": 2 * n**3 / fastest(product, jnp.ones((n, n))),
        "memory_bytes_per_second": 2 * large / fastest(change, jnp.ones((rows, 1024, 1024))),
    }
    if accelerator:
        ones = jnp.ones((n, n), jnp.bfloat16)
        found["bfloat16_flop_per_second"] = 2 * n**3 / fastest(product, ones)
    return found


def line(machine: dict[str, Any]) -> str:
    """What :func:`rates` found, as a line of text."""
    more = machine.get("bfloat16_flop_per_second")
    return (
        f"{machine['device']}: products {machine['product_flop_per_second'] / 1e9:,.0f} GFLOP/s"
        + (f" ({more / 1e9:,.0f} with bfloat16)" if more else "")
        + f", memory {machine['memory_bytes_per_second'] / 1e9:,.0f} GB/s (read + write)"
    )


def about(machine: dict[str, Any]) -> str:
    """Where and with what was measured, as a line of text."""
    words = {"clock_mhz": "{} MHz", "memory_clock_mhz": "memory {} MHz", "driver": "driver {}",
             "power_limit_w": "{} W at most"}  # fmt: skip
    known = machine.get("versions", {})
    versions = {name: known[name] for name in SHOWN if name in known}
    parts = [
        str(machine.get("date", ""))[:10],
        *(text.format(machine[name]) for name, text in words.items() if name in machine),
        *(f"{name} {version}" for name, version in versions.items()),
    ]
    return ", ".join(part for part in parts if part)
