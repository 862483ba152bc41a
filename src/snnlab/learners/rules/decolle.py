"""DECOLLE: every layer has a fixed random readout of its own, and learns from its loss alone.

    e_t = D_t e_{t-1} + x_t f_t ,    dL/dW = sum_l sum_t (ds_t/dh_t) (dL^l_t/ds_t) . e_t ,
    L^l_t = loss(s^l_t G^l)

No signal passes from layer to layer. The network's own readout, which is evaluated, is trained with
its own loss. The traces are those of the neurons' own dynamics, of which the source's (membrane and
synapse leak by constants) are a case; with ``--detach_reset`` nothing passes the reset, as there.

Memory: as D-RTRL.

Source: Kaiser, Mostafa & Neftci 2020 (Front. Neurosci. 14:424). Departure: G is drawn
from a normal distribution as wide as the readout's, and rates are regularised by the suite's
penalties.
"""

from snnlab.learners.base import Learner
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.diag import DRTRL
from snnlab.learners.signals import Local


def make(of: Request) -> Learner:
    return of.online(lambda _graph, _r: DRTRL, lambda graph: of.feedback(graph, Local))
