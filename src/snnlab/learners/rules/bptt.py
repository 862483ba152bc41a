"""BPTT: the exact gradient, back through the whole segment.

    dL/dW = sum_t x_t (dL/dy_t) ,    with the adjoints ``dL/dy_t`` carried back through all steps

Three programs with the same gradient: in blocks of steps
(:mod:`snnlab.learners.rules.block_bptt`), as reverse mode through the scan over steps
(``--backend plain``), and layer after layer (``--backend layerwise``).

Memory: states and drives of T steps; with ``--remat`` of 2 sqrt(T).

Source: Werbos 1990 (Proc. IEEE 78:1550).
"""

from snnlab.errors import UsageError
from snnlab.learners.base import Learner
from snnlab.learners.config import require_layerwise
from snnlab.learners.rules.block_bptt import BPTT
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.layerwise import LayerwiseBPTT
from snnlab.learners.rules.scan_bptt import ScanBPTT
from snnlab.learners.tuning import current
from snnlab.models.base import Network


def make(of: Request) -> Learner:
    """Layer after layer where that is asked for, or the network exists in this order only."""
    config, network = of.config, of.network
    parts = network, of.batch_size, of.objective
    if network.layerwise:
        require_layerwise(config)
    if config.backend == "layerwise" and type(network).sequence is Network.sequence:
        raise UsageError("--backend layerwise: the layers of this network run step by step only")
    if network.layerwise or config.backend == "layerwise":
        return LayerwiseBPTT(*parts)
    if config.backend == "plain" or config.checkpoint_block:
        return ScanBPTT(*parts, config.checkpoint_block)
    return BPTT(*parts, current().bptt_block, remat=config.remat, precision=config.precision)
