"""Published claims: what was published, the runs that test it, and when it holds.

A claim is a file of ``configs/reproduce/``::

    # ES-D-RTRL learns delayed match to sample          (its title)
    published: 92.8 % after four epochs of one run
    source: Wang et al. 2026, Nature Communications 17:1745
    shows: what its runs can and cannot show            (may be left out, as needs)
    needs: what else they need, such as a dataset
    minutes: 4                                          # of one core, a run, about
    sweep:                                              # as a sweep file has it
      task: long-term-dependency
      config: published/long-term-dependency-expsm-diag
      options: {epochs: 4}
      grid: {seed: [0, 1, 2]}
    checks:                                             # it is reproduced if all of them hold
      - {measure: last_train_accuracy, statistic: every, within: [[0.928, 1.0]]}

In the place of its own ``sweep`` it may name another claim, whose runs it judges too.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic

from snnlab import config_files
from snnlab.errors import UsageError, nearest, one_line, shown
from snnlab.experiment.sweep_file import SweepFile, members_of, sweep_of
from snnlab.yaml_files import read_yaml_file


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable text of one line")
    return text


#: Text of a table.
Text = Annotated[
    str, pydantic.StringConstraints(max_length=500), pydantic.AfterValidator(_one_line)
]
Line = Annotated[Text, pydantic.StringConstraints(min_length=1)]


class _Declared(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Check(_Declared):
    """When a claim holds: a statistic of a measure lies in a range.

    Attributes:
        measure: of :meth:`snnlab.experiment.comparison.Outcome.numbers`, a value for each seed, or
            a number of ``results.json`` (of a list, the mean).
        of: the run of the sweep that is measured, with all that its grid varies; empty: all.
        over: a run of the sweep by whose values, seed by seed, those of ``of`` are divided.
        statistic: ``mean`` of all values, ``every`` or ``some`` value, or the ``best`` of the
            means of the sweep's runs.
        within: ``[low, high]`` ranges, in one of which it must lie.
        diverged: what a seed counts that diverged, such as chance where a published program goes on
            with values that are not finite; without it, it has no value.
        label: what it is called; the measure by default.
    """

    measure: Line
    of: Text = ""
    over: Text = ""
    statistic: Literal["mean", "every", "some", "best"] = "mean"
    within: list[tuple[float, float]] = pydantic.Field(min_length=1)
    diverged: float | None = pydantic.Field(default=None, allow_inf_nan=False)
    label: Text = ""

    @pydantic.model_validator(mode="after")
    def _ranges(self) -> Self:
        if any(not low <= high for low, high in self.within):
            raise ValueError("within: a range is [low, high], the second one not below the first")
        if self.over and (not self.of or self.statistic == "best"):
            raise ValueError("over: divides the values of one run, of; there is no best of one")
        return self

    @property
    def words(self) -> str:
        """What it is called."""
        return self.label or self.measure.replace("_", " ")


class Declared(_Declared):
    """What the file of a claim may hold; see the module."""

    published: Line
    source: Line
    shows: Text = ""
    needs: Text = ""
    minutes: float = pydantic.Field(gt=0, allow_inf_nan=False)
    sweep: Line | dict[Any, Any]
    checks: list[Check] = pydantic.Field(min_length=1)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim and its file.

    Attributes:
        name: of the file.
        path: of the file.
        title: one line.
        declared: what it says.
        runs: the claim whose runs it judges; itself, or another one.
        file: the sweep of these runs.
    """

    name: str
    path: Path
    title: str
    declared: Declared
    runs: str
    file: SweepFile

    @property
    def minutes(self) -> float:
        """Of one core, all its runs, about; those of another claim cost nothing more."""
        return self.declared.minutes * len(members_of(self.file, {}))

    @property
    def cost(self) -> str:
        """``5 runs, about 1.2 h of one core``."""
        n, minutes = len(members_of(self.file, {})), self.minutes
        long = f"{minutes / 60:,.1f} h" if minutes >= 90 else f"{minutes:.3g} min"
        return f"{n} run{'s' * (n > 1)}, about {long} of one core"


def names() -> dict[str, Path]:
    """The claims that come with snnlab: name -> file."""
    found = config_files.names(config_files.CLAIMS)
    return {name.rpartition("/")[2]: path for name, path in found.items()}


def find(given: str) -> Claim:
    """A claim by its name, or of a file.

    Raises:
        UsageError: there is no such one, or the file is none.
    """
    if not given.endswith((".yaml", ".yml")) and given not in names():
        raise UsageError(
            f"no claim '{shown(given)}'{nearest(given, names())}; snnlab reproduce list has all"
        )
    return read(Path(config_files.find(str(Path(given).expanduser()), config_files.CLAIMS)))


def read(path: Path) -> Claim:
    """The claim of a file.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    head = f"claim {shown(path)}"
    content = read_yaml_file(path, "claim")
    if not isinstance(content, dict):
        raise UsageError(f"{head} must be a mapping with published, sweep, checks")
    try:
        declared = Declared.model_validate({str(key): value for key, value in content.items()})
    except pydantic.ValidationError as error:
        raise UsageError(f"{head}{_fault(error)}") from None
    runs, own = path.stem, declared.sweep
    if isinstance(own, str):
        if own not in names():
            raise UsageError(f"{head}, sweep: no claim '{shown(own)}'{nearest(own, names())}")
        other = read(names()[own])
        runs, file = other.runs, other.file
    else:
        file = sweep_of(own, f"{head}, sweep")
    if file.search is not None:
        raise UsageError(f"{head}, sweep: a claim is tested by runs and a grid, not by a search")
    if file.left_out or file.refused != "stop":
        raise UsageError(f"{head}, sweep: all runs of a claim count: no left_out, no refused")
    groups = {member.group for member in members_of(file, {})}
    for check in declared.checks:
        for group in {check.of, check.over} - {"", *groups}:
            raise UsageError(f"{head}, checks: no run '{shown(group)}'{nearest(group, groups)}")
    title = config_files.title(path) or path.stem
    return Claim(path.stem, path, title, declared, runs, file)


_WORDS = {
    "Input should be": "must be", "List should have": "must have", "Field required": "is missing",
    "a valid dictionary or instance of Check": "a mapping",
    " after validation, not 0": "",
}  # fmt: skip


def _fault(error: pydantic.ValidationError) -> str:
    """``, checks.0.within: must be ...`` for the first fault; a key that is none goes first."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    place = [str(part) for part in first["loc"]]
    what = one_line(first["msg"]).removeprefix("Value error, ")
    for said, better in _WORDS.items():
        what = what.replace(said, better)
    if place[0] == "sweep":
        place, what = ["sweep"], "must be a mapping with task, runs, grid, or the name of a claim"
    if first["type"] == "extra_forbidden":
        model = Check if place[0] == "checks" else Declared
        what = f"no such key; valid: {', '.join(model.model_fields)}"
    return f", {shown('.'.join(place))}: {shown(what, 150)}"
