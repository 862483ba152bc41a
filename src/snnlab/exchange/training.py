"""The network of a NIR file as a model that tasks train (``--model nir --network FILE``)."""

from __future__ import annotations

from typing import Any

from snnlab.errors import UsageError, shown
from snnlab.exchange.files import read
from snnlab.models.maps import Operator
from snnlab.models.networks import LayeredNetwork


class FileNetwork:
    """The network of a section's file.

    Args:
        config: section of ``--model nir``.

    Raises:
        UsageError: the file cannot be read.
    """

    def __init__(self, config: Any) -> None:
        self.path = config.network
        self.scheme = None if config.nir_step == "auto" else config.nir_step
        self.reset = None if config.nir_reset == "auto" else config.nir_reset
        self._graph = read(self.path)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of its layers: those of the nodes that spike."""
        from snnlab.exchange.chains import chain, flattened

        nodes, edges = flattened(self._graph)
        return tuple(block.neuron for block in chain(nodes, edges) if block.neuron)

    def build(self, n_in: int, n_out: int, operator: Operator, dt_ms: float) -> LayeredNetwork:
        """The network with the parameters of the file.

        Raises:
            UsageError: of other sizes, of steps of another length, or for whole sequences only.
        """
        from snnlab.exchange.from_graph import from_nir

        made = from_nir(
            self._graph, dt_ms=dt_ms, scheme=self.scheme, reset=self.reset, operator=operator
        ).network
        if (made.n_in, made.n_out) != (n_in, n_out):
            raise UsageError(
                f"--network {shown(self.path)} has {made.n_in} inputs and {made.n_out} outputs; "
                f"the data have {n_in} and need {n_out}"
            )
        if made.layerwise:
            raise UsageError(f"--network {shown(self.path)} runs over whole sequences only")
        return made
