"""BPTT: the exact gradient, back through the whole segment.

    dL/dW = sum_t x_t (dL/dy_t) ,    with the adjoints ``dL/dy_t`` carried back through all steps

Three programs with the same gradient: in blocks of steps
(:mod:`snnlab.learners.rules.block_bptt`), as reverse mode through the scan over steps
(``--backend plain``), and layer after layer (``--backend layerwise``,
:mod:`snnlab.learners.rules.layerwise`).

Memory: states and drives of T steps; with ``--remat`` of 2 sqrt(T).

Source: Werbos 1990 (Proc. IEEE 78:1550).
"""

from snnlab.learners.base import Learner
from snnlab.learners.rules.block_bptt import BPTT
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.scan_bptt import ScanBPTT
from snnlab.learners.tuning import current


def make(of: Request) -> Learner:
    config = of.config
    if config.backend == "plain" or config.checkpoint_block:
        return ScanBPTT(of.net, of.objective, config.checkpoint_block)
    return BPTT(
        of.net, of.objective, current().bptt_block, remat=config.remat, precision=config.precision
    )
