"""The composition root: from a config to a finished run.

A *task* (image classification, ...) provides a :class:`Problem`; everything after it, training,
checkpoints, figures, results, is the same for all of them.
"""

from snnlab.experiment.command import command as command
from snnlab.experiment.command import proceed as proceed
from snnlab.experiment.parts import build_parts as build_parts
from snnlab.experiment.problem import Problem as Problem
from snnlab.experiment.problem import RunConfig as RunConfig
from snnlab.experiment.run import run as run
from snnlab.experiment.seeds import run_seeds as run_seeds
