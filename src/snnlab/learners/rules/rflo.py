"""RFLO: D-RTRL's traces, and the readout's error by random weights.

    e_t = D_t e_{t-1} + x_t f_t ,    dL/dW = sum_t (ds_t/dh_t) (B dL_t/dy_t) . e_t

Random feedback local online learning drops the recurrence between neurons from the trace, and the
weights of the readout from the signal. Its rate neuron's trace ``p_t = (1 - 1/tau) p_{t-1} + phi'
x_t / tau`` is the recursion of D-RTRL for that neuron; here it is that of any neuron model.
``--feedback adaptive``: B learns as the readout does. Readouts have their exact gradient.

Memory: as D-RTRL.

Source: Murray 2019 (eLife 8:e43299).
"""

from snnlab.learners.base import Learner
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.diag import DRTRL


def make(of: Request) -> Learner:
    learned = of.config.feedback == "adaptive"
    return of.online(lambda _graph, _r: DRTRL, lambda graph: of.feedback(graph, learned=learned))
