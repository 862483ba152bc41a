"""Networks: neurons, synapses, maps, layers, readouts. Names are loaded when first used."""

from typing import TYPE_CHECKING

from snnlab.lazy import exports

if TYPE_CHECKING:
    from snnlab.models.base import Network as Network
    from snnlab.models.base import StepOutput as StepOutput
    from snnlab.models.config import ModelConfig as ModelConfig
    from snnlab.models.networks import LayeredNetwork as LayeredNetwork
    from snnlab.models.networks import build_network as build_network
    from snnlab.models.registry import MODELS as MODELS
else:
    __getattr__ = exports(
        __name__,
        {
            "base": ("Network", "StepOutput"),
            "config": ("ModelConfig",),
            "networks": ("LayeredNetwork", "build_network"),
            "registry": ("MODELS",),
        },
    )
