"""What larger networks cost at least, from a rate of memory: computed, not measured.

With n neurons of k synapses each, W = n k weights, B samples, D devices that share the samples,
D-RTRL of neurons with one state keeps a trace for each weight and sample. For a step a device
reads and writes at least::

    traces   2 x 4 B W / D, once for each update, or once for a chunk of K steps
    weights  8 bytes (a weight and where it leads) of each synapse whose neuron spiked, p B W / D

At an update the gradients of the devices, 4 W bytes each, are summed over the links between them;
that time is not in the table. Arithmetic, launches and whatever a program does beside are not
either: a step of today takes two to ten times what memory allows (the tables of measured rows say
how much).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from snnlab.benchmarks import report

#: Share of neurons that spike in a step: 20 Hz at 1 ms.
SPIKING = 0.02
CHUNK = 100


class Network(NamedTuple):
    """Sizes: neurons, synapses of each, samples, devices."""

    n: int
    k: int
    batch: int
    devices: int = 1


NETWORKS = (
    Network(1536, 1536, 32),
    Network(100_000, 1000, 1),
    Network(100_000, 1000, 8, 8),
    Network(1_000_000, 100, 1),
    Network(1_000_000, 100, 8, 8),
    Network(1_000_000, 1000, 1),
    Network(1_000_000, 1000, 8, 8),
)


def rows(memory_bytes_per_second: float) -> list[dict[str, Any]]:
    """For each network ``trace_bytes`` of a device, and the least ms of a step.

    Returns:
        Rows with the network's sizes, ``trace_bytes``, ``ms_each_step`` (an update at every step),
        ``ms_in_chunks`` (of 100 steps) and ``gradient_bytes``.
    """
    found = []
    for net in NETWORKS:
        weights, mine = net.n * net.k, net.batch / net.devices
        traces, spikes = 4 * mine * weights, 8 * SPIKING * mine * weights
        ms = 1e3 / memory_bytes_per_second
        found.append({
            **net._asdict(), "trace_bytes": traces, "gradient_bytes": 4 * weights,
            "ms_each_step": (2 * traces + spikes) * ms,
            "ms_in_chunks": (2 * traces / CHUNK + spikes) * ms,
        })  # fmt: skip
    return found


COLUMNS: report.Columns = {
    "neurons": lambda r: f"{r['n']:,}",
    "synapses each": lambda r: f"{r['k']:,}",
    "samples": lambda r: str(r["batch"]),
    "devices": lambda r: str(r["devices"]),
    "traces on a device, GB": lambda r: f"{r['trace_bytes'] / 1e9:.3g}",
    "update at every step, ms/step": lambda r: f"{r['ms_each_step']:.3g}",
    f"chunks of {CHUNK}, ms/step": lambda r: f"{r['ms_in_chunks']:.3g}",
    "gradients to sum, GB": lambda r: f"{r['gradient_bytes'] / 1e9:.3g}",
}


def markdown(memory_bytes_per_second: float) -> str:
    """The table, with the rate that it is computed from."""
    rate = f"{memory_bytes_per_second / 1e9:,.0f} GB/s"
    return (
        f"Computed, not measured: the least time that memory at {rate} allows, "
        f"{SPIKING:.0%} of the neurons spiking in a step.\n\n"
        + report.markdown(rows(memory_bytes_per_second), COLUMNS)
    )
