"""What the libraries' learners cannot train."""

from __future__ import annotations

from collections.abc import Sequence

from snnlab.errors import UsageError
from snnlab.learners import LearnerConfig
from snnlab.learners.methods import LIBRARIES


def require_maps_alone(learner: LearnerConfig, others: Sequence[str], remedy: str) -> None:
    """Refuse parameters outside of maps, which braintrace and brainscale have no traces for.

    Args:
        learner: the config's.
        others: what is trained beside maps, in the user's words.
        remedy: how to leave it out.

    Raises:
        UsageError: there is something, and the backend is a library.
    """
    if others and learner.backend in LIBRARIES:
        raise UsageError(
            f"--backend {learner.backend} trains maps alone, not {', '.join(others)}: {remedy}, or "
            "use --backend snnlab"
        )
