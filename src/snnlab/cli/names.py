"""``snnlab tasks``, ``models``, ``rules``: what has a name, packages of users included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from snnlab.flags import Parser


def _listed(prog: str, argv: Sequence[str], what: str) -> None:
    Parser(
        prog=prog, description=f"{what}, with those of installed packages (entry points)."
    ).parse_args(argv)


def _print(rows: Iterable[tuple[str, str]], head: str = "") -> None:
    rows = list(rows)
    wide = max((len(name) for name, _ in rows), default=0)
    if head:
        print(head)
    for name, text in rows:
        print(f"{name:{wide}}  {text}")


def tasks(prog: str, argv: Sequence[str]) -> int:
    """What ``snnlab run`` takes."""
    from snnlab.cli.run import titles

    _listed(prog, argv, "Tasks of snnlab run")
    _print(titles().items())
    return 0


def models(prog: str, argv: Sequence[str]) -> int:
    """Names of ``--model`` and of ``--spk_fun``."""
    from snnlab.models.registry import MODELS
    from snnlab.models.surrogates import SURROGATES

    _listed(prog, argv, "Models of --model and surrogates of --spk_fun")
    _print(((name, about.summary) for name, about in MODELS.items()), "--model")
    _print(((name, about.summary) for name, about in SURROGATES.items()), "\n--spk_fun")
    return 0


def rules(prog: str, argv: Sequence[str]) -> int:
    """Names of ``--method``."""
    from snnlab.learners.methods import METHODS

    _listed(prog, argv, "Learning rules of --method")
    _print(
        (name, about.summary + (f" (also {', '.join(about.aliases)})" if about.aliases else ""))
        for name, about in METHODS.items()
    )
    return 0
