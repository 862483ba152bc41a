"""Networks: neurons, synapses, maps, layers, readouts."""

from snnlab.models.base import Network as Network
from snnlab.models.base import StepOutput as StepOutput
from snnlab.models.config import ModelConfig as ModelConfig
from snnlab.models.networks import LAYER_MODELS as LAYER_MODELS
from snnlab.models.networks import LayeredNetwork as LayeredNetwork
from snnlab.models.networks import build_network as build_network
