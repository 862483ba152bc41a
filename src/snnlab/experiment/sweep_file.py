"""The file of a sweep, and the runs that it asks for.

A sweep file::

    task: balanced-rsnn                    # as snnlab run calls it, or the path of a script
    config: [common.yaml]                  # config files of every run, or names of configs
    options: {trials: 3}                   # flags of every run
    runs:                                  # name -> flags (config: its own files)
      baseline: {config: configs/balanced/baseline-multispike.yaml}
      LSM: {config: configs/balanced/lsm.yaml}
    grid:                                  # flags -> values: all combinations, of every run
      repeat: [1, 4]

A run may have a ``task`` of its own, and an axis of the grid may have names, each for some flags::

    runs:
      digits: {task: image-classification, n_rec: 32}
      cue: {task: balanced-rsnn, neurons: 32}
    grid:
      rule:
        BPTT: {method: bptt}
        truncated BPTT: {method: tbptt, chunk_size: 10}
    against: [BPTT]                        # names that the others are compared with
    refused: keep                          # what a task refuses is a cell with the reason
    left_out:                              # run -> name of the axis -> why there is no such run
      cue: {truncated BPTT: its windows are longer than the trials}

Such an axis makes a table of its names and the runs (:mod:`snnlab.experiment.crossed`).
In the place of ``runs`` and ``grid`` a file may have ``search``:
:mod:`snnlab.experiment.search_file`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic

from snnlab.config import PathText
from snnlab.errors import UsageError, nearest, one_line, shown
from snnlab.experiment.search_file import Range, Search
from snnlab.yaml_files import read_yaml_file

Value = bool | int | float | str
#: Flags that the sweep itself gives to its runs.
RESERVED = ("filepath", "new_exp_folder", "resume", "config")
#: The sweep's own files beside its runs' folders.
OWN_FILES = (
    "sweep.yaml", "table.md", "results.csv", "comparison.png", "verdict.json", "verdict.md",
)  # fmt: skip
#: Runs of one sweep.
MOST_RUNS = 2000
#: Characters of a folder's name that are left as they are.
LONGEST_NAME = 100


class SweepFile(pydantic.BaseModel):
    """What a sweep file may hold; see the module."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    task: PathText = ""
    config: PathText | list[PathText] = []
    options: dict[str, Value] = {}
    runs: dict[str, dict[str, Value | list[Any]] | None] = {}
    grid: dict[str, list[Value] | dict[str, dict[str, Value]]] = {}
    against: list[str] = []
    refused: Literal["stop", "keep"] = "stop"
    left_out: dict[str, dict[str, str]] = {}
    search: Search | None = None

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> SweepFile:
        if self.search is not None and (self.runs or self.grid):
            raise ValueError("search draws its runs: there are no runs and no grid beside it")
        if not self.task and not (
            self.runs and all("task" in (r or {}) for r in self.runs.values())
        ):
            raise ValueError("task is missing, of the sweep or of each run")
        if len(self.axes) > 1:
            raise ValueError(f"grid: {' and '.join(self.axes)} have names; one axis may")
        known = self.grid[self.axes[0]] if self.axes else {}
        unknown = [name for name in self.against if name not in known]
        if unknown:
            raise ValueError(f"against: {unknown[0]} is no name of an axis of the grid")
        for run, names in self.left_out.items():
            strange = [name for name in names if name not in known]
            if strange or run not in self.runs:
                raise ValueError(f"left_out: {', '.join([run, *strange[:1]])}: no such run")
        return self

    @property
    def axes(self) -> list[str]:
        """Axes of the grid whose points have names."""
        return [name for name, points in self.grid.items() if isinstance(points, dict)]


_PATHS: pydantic.TypeAdapter[list[PathText]] = pydantic.TypeAdapter(list[PathText])


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
        name: of the run and of what the grid sets.
        group: of the run alone.
        point: what the grid sets.
        configs: config files, one above the other.
        flags: flag -> value, above them.
        task: as the file names it.
        column: of a table by a named axis: the run, and what the grid sets beside that axis.
        left_out: why it is not run; empty if it is.
    """

    name: str
    group: str
    point: dict[str, Value]
    configs: tuple[str, ...]
    flags: dict[str, Value]
    task: str = ""
    column: str = ""
    left_out: str = ""

    @property
    def slug(self) -> str:
        """Name of its folder."""
        slug = slug_of(self.name)
        if len(slug) <= LONGEST_NAME:
            return slug
        return f"{slug[:LONGEST_NAME]}-{hashlib.sha256(slug.encode()).hexdigest()[:8]}"

    @property
    def arguments(self) -> list[str]:
        """Its command line, without the script."""
        files = [text for path in self.configs for text in ("--config", path)]
        return files + [f"--{k}={text_of(v)}" for k, v in self.flags.items()]


def slug_of(name: str) -> str:
    """A name in small letters, digits, points and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "run"


def text_of(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_sweep(path: Path) -> SweepFile:
    """A sweep file.

    Raises:
        UsageError: it cannot be read, or is no sweep file.
    """
    return sweep_of(read_yaml_file(path, "sweep"), f"sweep {shown(path)}")


def sweep_of(content: Any, title: str) -> SweepFile:
    """What a sweep file holds.

    Args:
        content: as YAML has it.
        title: of the file, in messages.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(content, dict):
        raise UsageError(f"{title} must be a mapping with task, runs, grid")
    try:
        return SweepFile.model_validate({str(k): v for k, v in content.items()})
    except pydantic.ValidationError as error:
        # Of a key that is misspelled the right one may be missing: the wrong one is told.
        found = sorted(_as_written(error), key=lambda e: e[0]["type"] != "extra_forbidden")
        (first, where), *others = found
        what = one_line(first["msg"]).removeprefix("Value error, ")
        what = what.replace("Input should be", "must be").replace("Field required", "is missing")
        what = what.replace("a valid dictionary", "a mapping")
        is_field = len(where) < 2 or (where[0] == "search" and len(where) in (2, 4))
        if first["type"] == "extra_forbidden":
            what = f"no such key; valid: {', '.join(_keys_at(where))}"
        elif not is_field and others and others[0][1][:-1] == where[:-1]:  # of several types
            where, what = where[:-1], "must be a number, a text, true or false"
            if where[-1] in ("low", "high", "step"):
                what = "must be a number"
        place = ".".join(str(part) for part in where)
        head = title + f", {shown(place)}" * bool(place)
        raise UsageError(f"{head}: {shown(what, 150)}") from None


def _as_written(error: pydantic.ValidationError) -> list[tuple[Any, tuple[int | str, ...]]]:
    """Faults and their places; of an axis of the grid those of what it is, a list or a mapping."""
    found: list[tuple[Any, tuple[int | str, ...]]] = []
    for fault in error.errors():
        place = fault["loc"]
        if place[:1] == ("grid",) and len(place) > 2:
            kind, place = str(place[2]).partition("[")[0], (*place[:2], *place[3:])
            if fault["type"] == f"{kind}_type" and len(place) == 2:
                continue  # it is no such one
        found.append((fault, place))
    neither = {"type": "grid", "msg": "must be a list of values, or a mapping of names to flags"}
    return found or [(neither, place)]


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    """The keys that are valid beside one that is not."""
    model = Range if place[:2] == ("search", "space") else Search if len(place) > 1 else SweepFile
    return [field.alias or name for name, field in model.model_fields.items()]


def members_of(file: SweepFile, extra: Mapping[str, Value]) -> list[Member]:
    """All runs of a sweep, in order.

    Args:
        file: the sweep.
        extra: flags above all others.

    Raises:
        UsageError: a flag that the sweep itself gives, or that the grid varies; an empty grid, too
            many runs, two runs with one folder.
    """
    lists = flags_of({n: p for n, p in file.grid.items() if isinstance(p, list)}, "the grid")
    named = {n: p for n, p in file.grid.items() if isinstance(p, dict)}
    axes = {name: _points(name, points) for name, points in {**lists, **named}.items()}
    varied = {*lists, *(flag for points in axes.values() for _, own in points for flag in own)}
    size = math.prod(len(points) for points in axes.values()) * max(1, len(file.runs))
    if size > MOST_RUNS:
        raise UsageError(f"the sweep has {size:,} runs; at most {MOST_RUNS:,} go into one")
    if not size:
        raise UsageError("the sweep has no runs: a list of its grid is empty")
    fixed = flags_of({k: v for k, v in extra.items() if ":" not in k}, "--set")
    scoped = _scoped(extra, file)
    common, options = files_of(file.config, "the sweep"), flags_of(file.options, "options")
    found = []
    for group, own in (file.runs or {"": None}).items():
        here = f"run '{shown(group)}'"
        if not group.isprintable():
            raise UsageError(f"{here}: its name must be printable text of one line")
        flags: dict[str, Any] = dict(own or {})
        files, task = files_of(flags.pop("config", []), here), flags.pop("task", file.task)
        if not isinstance(task, str) or not task:
            raise UsageError(f"{here}: task must be the name of a task or the path of a script")
        flags = flags_of(flags, here)
        wrong = [k for k, v in flags.items() if isinstance(v, list)]
        if wrong:
            raise UsageError(f"{here}: {wrong[0]} is a list; lists of values go into grid")
        above = {**fixed, **scoped.get(group, {})}
        twice = [k for k in (*flags, *above) if k in varied]
        if twice:
            raise UsageError(f"{twice[0]} is set for {here} or by --set, and varied by the grid")
        for chosen in itertools.product(*axes.values()):
            point = {axis: label for axis, (label, _) in zip(axes, chosen)}
            words = {a: str(v) if a in file.axes else f"{a} {text_of(v)}" for a, v in point.items()}
            of_point = {k: v for _, own in chosen for k, v in own.items()}
            name, column = (
                ", ".join([group] * bool(group) + [words[a] for a in point if a not in left])
                for left in ((), file.axes)
            )
            all_flags = {**options, **flags, **of_point, **above}
            why = "".join(file.left_out.get(group, {}).get(str(point[a]), "") for a in file.axes)
            found.append(
                Member(name or "run", group, point, (*common, *files), all_flags, task, column, why)
            )
    taken: dict[str, str] = {}
    for member in found:
        slug = member.slug
        if slug in OWN_FILES or ".interrupted-" in slug:
            raise UsageError(f"run '{shown(member.name)}': the sweep itself uses the name {slug}")
        if slug in taken:
            raise UsageError(f"two runs of the sweep would share the folder {slug}")
        taken[slug] = member.name
    return found


def _points(axis: str, points: Any) -> list[tuple[Value, dict[str, Value]]]:
    """Of an axis of the grid: (value or name, flags).

    Raises:
        UsageError: a name that is no line of text, or a flag that is none.
    """
    if isinstance(points, list):
        return [(value, {axis: value}) for value in points]
    for name in points:
        if not name.strip() or not name.isprintable():
            raise UsageError(f"grid, {shown(axis)}: a name must be printable text of one line")
    return [(n, flags_of(own, f"{shown(axis)} '{shown(n)}'")) for n, own in points.items()]


def flags_of(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Flags in one spelling.

    Raises:
        UsageError: no flag's name, one that the sweep itself gives, or one that is there twice.
    """
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = key.strip("-").replace("-", "_")
        if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
            raise UsageError(f"{where}: '{shown(key)}' is no name of a flag")
        if name in RESERVED:
            raise UsageError(f"{where}: {key} is given by the sweep itself")
        if name in found:
            raise UsageError(f"{where}: {name} is given twice")
        found[name] = value
    return found


def files_of(given: Any, where: str) -> tuple[str, ...]:
    """Config files: a path or a list of paths.

    Raises:
        UsageError: something else.
    """
    files = [given] if isinstance(given, str) else given
    try:
        return tuple(_PATHS.validate_python(files))
    except pydantic.ValidationError:
        raise UsageError(f"{where}: config must be a path or a list of paths") from None


def _scoped(extra: Mapping[str, Value], file: SweepFile) -> dict[str, dict[str, Any]]:
    """Run -> flags, of those that ``--set`` gives one run alone.

    Raises:
        UsageError: no such run.
    """
    runs, found = {slug_of(group): group for group in file.runs}, dict[str, dict[str, Any]]()
    for key, value in extra.items():
        run, colon, flag = key.partition(":")
        if colon and slug_of(run) not in runs:
            raise UsageError(
                f"--set {shown(key)}: no run '{shown(run)}'{nearest(slug_of(run), runs)}; "
                f"valid: {', '.join(runs)}"
            )
        if colon:
            found.setdefault(runs[slug_of(run)], {})[flag] = value
    return {group: flags_of(flags, f"--set {slug_of(group)}") for group, flags in found.items()}


def read_settings(text: str) -> dict[str, Value]:
    """``"epochs=1 cue:samples=30"`` as flags, those of one run with its name.

    Raises:
        UsageError: a part that is not NAME=VALUE.
    """
    found: dict[str, Value] = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        if not equals or not name.strip("-"):
            raise UsageError(
                f"--set {shown(part)}: must be NAME=VALUE, several with spaces between"
            )
        found[name.strip("-").replace("-", "_")] = value
    return found
