"""Learners: one protocol, and the rules behind it. Names are loaded when they are first used."""

from typing import TYPE_CHECKING

from snnlab.lazy import exports

if TYPE_CHECKING:
    from snnlab.learners.base import Learner as Learner
    from snnlab.learners.base import Objective as Objective
    from snnlab.learners.base import Segment as Segment
    from snnlab.learners.config import LearnerConfig as LearnerConfig
    from snnlab.learners.functional import PureNetwork as PureNetwork
    from snnlab.learners.functional import PureSequence as PureSequence
    from snnlab.learners.functional import PureStep as PureStep
    from snnlab.learners.functional import get_params as get_params
    from snnlab.learners.registry import make_learner as make_learner
    from snnlab.learners.registry import operator_of as operator_of
    from snnlab.learners.rules.base import Rule as Rule
    from snnlab.learners.rules.base import hidden_maps as hidden_maps
    from snnlab.learners.rules.build import Request as Request
    from snnlab.learners.rules.diag import DRTRL as DRTRL
    from snnlab.learners.rules.per_parameter import PerParameter as PerParameter
    from snnlab.learners.stores.dynamics import Dynamics as Dynamics
else:
    __getattr__ = exports(
        __name__,
        {
            "base": ("Learner", "Objective", "Segment"),
            "config": ("LearnerConfig",),
            "functional": ("PureNetwork", "PureSequence", "PureStep", "get_params"),
            "registry": ("make_learner", "operator_of"),
            "rules.base": ("Rule", "hidden_maps"),
            "rules.build": ("Request",),
            "rules.diag": ("DRTRL",),
            "rules.per_parameter": ("PerParameter",),
            "stores.dynamics": ("Dynamics",),
        },
    )
