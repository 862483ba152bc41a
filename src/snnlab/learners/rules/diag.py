"""D-RTRL: the recursion of every parameter's trace along the neurons' own dynamics.

    e_t = D_t e_{t-1} + x_t f_t ,    dL/dW = sum_t d_t . e_t

with ``D_t = dh_t/dh_{t-1}`` of the same neuron, ``f_t = dh_t/dy_t``, the map's input ``x_t`` and
the exact signal ``d_t`` of a step. It drops the part of the recurrence that crosses neurons, and
nothing else. A parameter of a neuron has ``x_t = 1``. With windows, backpropagation inside a window
and the trace for what was before it.

Memory: B numbers for every weight and state that it reaches, none if the sequence is one chunk.

Source: Wang et al. 2026 (Nature Communications 17:1745), doi 10.1038/s41467-026-68453-w.
"""

from snnlab.learners.base import Learner
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.per_parameter import PerParameter


class DRTRL(PerParameter):
    """The network's own dynamics, and the exact signal of a step."""


def make(of: Request) -> Learner:
    return of.online(lambda _graph, _r: DRTRL)
