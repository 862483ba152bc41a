"""The package ``nir``, which an extra installs."""

from __future__ import annotations

from typing import Any

from snnlab.errors import UsageError, missing


def require_nir() -> Any:
    """The package ``nir``.

    Raises:
        UsageError: it is not installed.
    """
    if package := missing("nir", "nir"):
        raise UsageError(f"NIR files need {package}")
    import nir

    return nir
