"""OSTL: a layer's own recurrence in the trace, what lies between layers in the signal of a step.

    J_t = A_t J_{t-1} + x_t f_t ,    dL/dW = sum_t d_t . J_t

``A_t`` is the Jacobian of the layer's states, its recurrent map included (H in the source), ``d_t``
the exact signal of a step. In the place of ``x_t f_t`` a neuron's parameter has all that it does to
the layer in a step, through spikes and recurrent map too (a threshold). It is exact for one
recurrent layer below a readout without memory.
``ostl-without-h`` leaves the recurrent map out of A: for neurons that act on each other by maps
alone, that is D-RTRL.

Memory: B numbers for every parameter, state and neuron of its layer, for small networks; without H
as D-RTRL.

Source: Bohnstingl et al. 2022 (IEEE Transactions on Neural Networks and Learning Systems 34:8894,
printed 2023), doi 10.1109/TNNLS.2022.3153985.
"""

from snnlab.learners.base import Learner
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.diag import DRTRL
from snnlab.learners.rules.influence import Influence


class OSTL(Influence):
    """The whole layer."""


def make(of: Request) -> Learner:
    rule = OSTL if of.config.method == "ostl" else DRTRL
    return of.online(lambda _graph, _r: rule)
