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
    from snnlab.learners.functional import get_params as get_params
    from snnlab.learners.registry import make_learner as make_learner
    from snnlab.learners.registry import operator_of as operator_of
else:
    __getattr__ = exports(
        __name__,
        {
            "base": ("Learner", "Objective", "Segment"),
            "config": ("LearnerConfig",),
            "functional": ("PureNetwork", "PureSequence", "get_params"),
            "registry": ("make_learner", "operator_of"),
        },
    )
