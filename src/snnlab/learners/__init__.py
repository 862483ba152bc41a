"""Learners: one protocol, and the rules behind it."""

from snnlab.learners.base import Learner as Learner
from snnlab.learners.base import Objective as Objective
from snnlab.learners.base import Segment as Segment
from snnlab.learners.config import LearnerConfig as LearnerConfig
from snnlab.learners.functional import PureNetwork as PureNetwork
from snnlab.learners.functional import PureSequence as PureSequence
from snnlab.learners.functional import get_params as get_params
from snnlab.learners.registry import make_learner as make_learner
from snnlab.learners.registry import operator_of as operator_of
from snnlab.learners.rules.layerwise import require_layerwise as require_layerwise
