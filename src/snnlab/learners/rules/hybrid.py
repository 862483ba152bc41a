"""Hybrid: D-RTRL where its trace is the smaller one, ES-D-RTRL elsewhere.

A map keeps a number per weight and sample under D-RTRL, ``n_in + n`` under ES-D-RTRL. Where the
second is not smaller, the exact trace costs nothing more. Both see one forward pass and one
learning signal. (brainscale's own hybrid does not run, and braintrace dropped it.)
"""

from snnlab.learners.base import Learner
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.rules.base import Rule
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.diag import DRTRL
from snnlab.learners.rules.expsm_diag import ESDRTRL


def exact_trace_is_smaller(n_in: int, n_out: int, n_weights: int) -> bool:
    """Whether a map ``(n_in, n_out)`` with ``n_weights`` weights gets D-RTRL."""
    return n_in + n_out > n_weights


def choose(graph: StepGraph, r: int) -> type[Rule]:
    one = graph.relations[r]
    n_in = sum(block.size for block in one.blocks)
    exact = not one.is_map or exact_trace_is_smaller(n_in, one.shape[1], one.w.aval.size)
    return DRTRL if exact else ESDRTRL


def make(of: Request) -> Learner:
    return of.online(choose)
