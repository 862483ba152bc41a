"""The composition root: from a config to a finished run.

A *task* (image classification, ...) provides a :class:`Problem`; everything after it, training,
checkpoints, figures, results, is the same for all of them. Names are loaded when first used.
"""

from typing import TYPE_CHECKING

from snnlab.lazy import exports

if TYPE_CHECKING:
    from snnlab.experiment.assembly import assemble as assemble
    from snnlab.experiment.problem import Problem as Problem
    from snnlab.experiment.problem import RunConfig as RunConfig
    from snnlab.experiment.seeds import run_seeds as run_seeds
else:
    __getattr__ = exports(
        __name__,
        {
            "assembly": ("assemble",),
            "problem": ("Problem", "RunConfig"),
            "seeds": ("run_seeds",),
        },
    )
