"""A network of snnlab in the metadata of its graph, from which the same one is made again.

What a graph does not say is kept beside it: the options of the model and the seed, of which
everything that is not trained follows, and the parameters that are no weights of a node. It counts
only as long as the nodes say the same: whoever changes a node changes the network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from snnlab.errors import UsageError
from snnlab.learners.functional import get_params, set_params
from snnlab.models import config as sections
from snnlab.models.maps import Operator
from snnlab.models.networks import LayeredNetwork, build_network
from snnlab.options import as_dict
from snnlab.yaml_files import parse_yaml, write_yaml

#: Sections of models by name.
SECTIONS = {
    kind.__name__: kind
    for kind in (
        sections.ModelConfig, sections.GIFConfig, sections.EIConfig, sections.BalancedConfig
    )
}  # fmt: skip


def recorded(
    network: LayeredNetwork, nodes: Mapping[str, Any], sources: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Metadata of a graph; empty for a network that :func:`build_network` has not made.

    Args:
        network: of the graph.
        nodes: of the graph.
        sources: parameter -> nodes whose weights, transposed, are its rows.
    """
    recipe = network.recipe
    if recipe is None or type(recipe.config).__name__ not in SECTIONS:
        return {}
    kept, held = {}, {}
    for name, value in get_params(network).items():
        parameter = np.asarray(value)
        if name in sources and np.array_equal(_stacked(nodes, sources[name]), parameter):
            held[name] = ",".join(sources[name])
        else:
            kept[name] = parameter
    values = as_dict(_Holder(recipe.config))["model"]
    said = {k: v for k, v in dataclasses.asdict(recipe).items() if k != "config"}
    return {
        "section": type(recipe.config).__name__, "model": write_yaml(values),
        "made": write_yaml(said), "parameters": kept, "nodes": held,
    }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Holder:
    model: Any


def _stacked(nodes: Mapping[str, Any], names: list[str]) -> np.ndarray:
    return np.concatenate([np.asarray(nodes[name].weight).T for name in names])


def rebuilt(
    meta: Mapping[str, Any], nodes: Mapping[str, Any], operator: Operator
) -> LayeredNetwork | None:
    """The network of which :func:`recorded` speaks; ``None`` if that cannot be.

    Whether it is what the nodes say is for the caller to compare.
    """
    try:
        config = SECTIONS[str(meta["section"])](**parse_yaml(str(meta["model"]), "a NIR file"))
        made = parse_yaml(str(meta["made"]), "a NIR file")
        if not _fits(config, made, nodes):
            return None
        network = build_network(config, operator=operator, **made)
        found = {k: np.asarray(v) for k, v in meta.get("parameters", {}).items()}
        for name, parts in meta.get("nodes", {}).items():
            found[name] = _stacked(nodes, str(parts).split(","))
        params = get_params(network)
        if found.keys() != params.keys() or any(
            found[k].shape != v.shape or found[k].dtype != v.dtype for k, v in params.items()
        ):
            return None
        set_params(network, found)
    except (UsageError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError):
        return None
    return network


def _fits(config: Any, made: Mapping[str, Any], nodes: Mapping[str, Any]) -> bool:
    """Whether the sizes are those of the nodes, before anything of such a size is made."""
    shapes = {
        name: (int(made["n_in"]) if k == 0 else config.outputs, config.n_rec)
        for k, name in enumerate(f"layer{k}.weights" for k in range(config.n_layer))
    }
    if "readout.weights" in nodes:
        shapes["readout.weights"] = (config.outputs, int(made["n_out"]))
    layers = sum(name.startswith("layer") and name.endswith(".weights") for name in nodes)
    return layers == config.n_layer and all(
        np.shape(nodes[name].weight) == shape[::-1] for name, shape in shapes.items()
    )
