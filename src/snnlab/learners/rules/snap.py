"""SnAp-n: the influence of a parameter on the neurons that it reaches within n steps.

    J_t = M_n . (A_t J_{t-1} + x_t f_t) ,    dL/dW = sum_t d_t . J_t

``A_t`` is the Jacobian of the layer's states, its recurrent map included, ``d_t`` the exact signal
of a step. SnAp-1 keeps the states of the neuron that a parameter acts on: D-RTRL with the neuron's
synapse onto itself. SnAp-2 keeps also those that this neuron acts on, the whole layer if all are
connected.

Memory: B numbers for every parameter, state and neuron of its layer; for small networks.

Source: Menick et al. 2021 (ICLR), "Practical real time recurrent learning with a sparse
approximation". Departure: a layer's own recurrence; layers above are in the signal of a step.
"""

from snnlab.learners.base import Learner
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.influence import Influence


class SnAp1(Influence):
    order = 1


class SnAp2(Influence):
    order = 2


def make(of: Request) -> Learner:
    rule = SnAp1 if of.config.method == "snap-1" else SnAp2
    return of.online(lambda graph, r: rule)
