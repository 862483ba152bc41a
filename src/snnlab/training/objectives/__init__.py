"""Objectives: the loss of a step, what is measured beside it, and the score.

A problem says which one is its own; learners, programs and the loop know them by
:class:`~snnlab.training.objectives.base.Objective` alone.
"""

from snnlab.data.batch import Targets as Targets
from snnlab.training.objectives.base import Metrics as Metrics
from snnlab.training.objectives.base import Objective as Objective
from snnlab.training.objectives.base import Ratio as Ratio
from snnlab.training.objectives.classification import Classification as Classification
from snnlab.training.objectives.regression import Regression as Regression
from snnlab.training.objectives.sequence import SequenceClassification as SequenceClassification
from snnlab.training.objectives.steps import StepClassification as StepClassification
