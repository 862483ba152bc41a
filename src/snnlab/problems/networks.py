"""Networks of tasks: made of a config, and what a learner cannot train of a model."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnlab.errors import UsageError
from snnlab.learners.config import LearnerConfig, require_layerwise
from snnlab.learners.methods import LIBRARIES
from snnlab.registry import load

if TYPE_CHECKING:
    from snnlab.experiment.task import Sizes
    from snnlab.models import Network
    from snnlab.models.maps import Operator


def require_maps_alone(learner: LearnerConfig, others: Sequence[str], remedy: str) -> None:
    """Refuse parameters outside of maps, which braintrace and brainscale have no traces for.

    Args:
        learner: the config's.
        others: what is trained beside maps, in the user's words.
        remedy: how to leave it out.

    Raises:
        UsageError: there is something, and the backend is a library.
    """
    if others and learner.backend in LIBRARIES:
        raise UsageError(
            f"--backend {learner.backend} trains maps alone, not {', '.join(others)}: {remedy}, or "
            "use --backend snnlab"
        )


def check_model(learner: LearnerConfig, model: Any) -> None:
    """Refuse a learner for which a model, or a part of it, is not defined.

    Args:
        learner: the config's.
        model: section of the config (:class:`snnlab.models.section.ModelSection`).

    Raises:
        UsageError: with the reason.
    """
    method = learner.method
    if method == "bptt":
        if model.needs_sequences:
            require_layerwise(learner)
        require_maps_alone(learner, model.trained, "leave out --trainable")
        return
    reason = {
        "batchnorm": "its statistics are those of whole sequences",
        "layernorm": "it mixes the drives of a step's neurons",
    }.get(model.normalization)
    if reason:
        raise UsageError(
            f"--normalization {model.normalization} needs --method bptt, not {method}: {reason}"
        )
    if model.quantize_adc and model.quantize_as == "affine":
        raise UsageError(
            f"--quantize_adc with --quantize_as affine needs --method bptt, not {method}: the "
            "largest and the smallest value are those of whole sequences"
        )
    if model.bidirectional:
        raise UsageError(
            f"--bidirectional needs --method bptt, not {method}: online, the future of the "
            "sequence is not there yet"
        )
    noisy = model.gauss and model.gauss_on == "drive"
    if (model.dropout or noisy) and learner.backend in LIBRARIES:
        flag = "--dropout" if model.dropout else "--gauss_on drive"
        raise UsageError(
            f"{flag} with --method {method} needs --backend snnlab: the libraries' rules "
            "are given no random key"
        )
    if not model.is_spiking and model.model != "MLP":
        raise UsageError(
            f"--method {method} is not defined for --model {model.model} here; use bptt"
        )
    if model.kind.network:
        require_maps_alone(learner, ["what a file may hold"], "take a network of snnlab's own")
    trained = model.trains_time_constants
    if trained:
        remedy = "add " + " ".join(f"--{flag}" for flag in trained)
        require_maps_alone(learner, ["time constants"], remedy)
    require_maps_alone(learner, model.trained, "leave out --trainable")
    if model.balance_refit:
        require_maps_alone(learner, ["what a refit renews"], "leave out --balance_refit")


def placed(config: Any) -> Any:
    """The model section with the files that the network is made of: of a run that goes on, the
    copies that its folder keeps, whatever became of the originals."""
    model, folder = config.model, config.run.resume
    copies = {o: Path(folder).expanduser() / name for o, name in model.kept.items() if folder}
    return dataclasses.replace(model, **{o: str(p) for o, p in copies.items() if p.is_file()})


def layers(config: Any) -> tuple[str, ...]:
    """Names of the layers of a config's network."""
    model = placed(config)
    if model.kind.network:
        found: tuple[str, ...] = load(model.kind.network)(model).layers
        return found
    return tuple(f"layer {k + 1} ({model.model})" for k in range(model.n_layer))


def network(config: Any, sizes: Sizes, operator: Operator = "plain") -> Network:
    """The network of a config."""
    from snnlab.models import build_network

    return build_network(placed(config), sizes.n_in, sizes.n_out, operator, config.run.seed)


def parts_of(config: Any, sizes: Sizes) -> dict[str, Any]:
    """What a :class:`~snnlab.experiment.Problem` is told of the network: fields by name."""
    from snnlab.models.kinds.rlif import refit_program

    model = placed(config)
    files = {name: Path(getattr(model, o)).expanduser() for o, name in model.kept.items()}
    return {
        "files": files,
        "make_network": functools.partial(network, config, sizes), "layer_names": layers(config),
        "renew": refit_program(config.model),
    }  # fmt: skip
