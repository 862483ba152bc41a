"""Whether the runs of a published claim reproduce it."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snnlab.errors import UsageError
from snnlab.experiment.claims import Check, Claim
from snnlab.experiment.comparison import Outcome, is_number
from snnlab.experiment.statistics import Spread, limited, spread_of
from snnlab.experiment.sweep_file import Member, members_of
from snnlab.runs import write_json
from snnlab.training.metrics import write_atomically

#: More values than this are not listed in a table.
MOST_LISTED = 10
#: Columns of a table.
HEAD = ("claim", "published", "here", "verdict")


@dataclasses.dataclass(frozen=True)
class Judged:
    """What the runs say to a check.

    Attributes:
        check: the check.
        values: of the seeds, in the order of the runs; of a best, the means of the runs.
        holds: whether it does.
        names: of the runs whose means the values are, otherwise empty.
        diverged: how many seeds did, which have the value of the check for that.
    """

    check: Check
    values: list[float]
    holds: bool
    names: tuple[str, ...] = ()
    diverged: int = 0

    @property
    def refuted(self) -> bool:
        """Whether it fails whatever runs that are left will give."""
        return self.check.statistic == "every" and bool(self.values) and not self.holds

    @property
    def spread(self) -> Spread | None:
        """Mean and Student's 95 % interval of the values."""
        finite = all(map(math.isfinite, self.values))
        return spread_of(self.values) if finite and self.check.statistic != "best" else None

    @property
    def words(self) -> str:
        """``test accuracy: 94.0%, 96.5%; mean 95.3%, 95 % interval 79.4% to 100.0%, n = 2``."""
        show = _shown(self.check)
        if not self.values:
            return f"{self.check.words}: no value"
        listed = len(self.values) <= MOST_LISTED
        names = [f"{name} " for name in self.names] or [""] * len(self.values)
        each = [f"{name}{show(v)}" for name, v in zip(names, self.values)]
        said = [", ".join(each)] if listed else []
        spread = self.spread
        if spread is not None and spread.low is not None and spread.high is not None:
            share = self.check.measure.endswith("accuracy") and not self.check.over
            low, high = limited(spread, True) if share else (spread.low, spread.high)
            interval = f"95 % interval {show(low)} to {show(high)}"
            said.append(f"mean {show(spread.mean)}, {interval}")
        n = f", n = {len(self.values)}" * (not self.names)
        if self.diverged and self.check.diverged is not None:
            n += f", of which {self.diverged} diverged, counted as {show(self.check.diverged)}"
        return f"{self.check.words}: {'; '.join(said)}{n}"

    @property
    def wanted(self) -> str:
        """``mean at least 97.1%``."""
        show = _shown(self.check)
        parts = [
            f"at least {show(low)}" if math.isinf(high)
            else f"at most {show(high)}" if math.isinf(low)
            else f"{show(low)} to {show(high)}"
            for low, high in self.check.within
        ]  # fmt: skip
        return f"{self.check.statistic} {' or '.join(parts)}"

    def as_json(self) -> dict[str, Any]:
        """For ``verdict.json``."""
        spread = self.spread._asdict() if self.spread else {"n": len(self.values)}
        return {
            **self.check.model_dump(), "wanted": self.wanted, "values": self.values,
            "names": self.names, "seeds_diverged": self.diverged,
            **{f"interval_{k}" if k in ("low", "high") else k: v for k, v in spread.items()},
            "holds": self.holds,
        }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Verdict:
    """On a claim.

    Attributes:
        claim: the claim.
        done: how many of its runs have results.
        of: how many there are.
        failed: runs that ended with an error.
        judged: its checks, over the runs that are done.
    """

    claim: Claim
    done: int
    of: int
    failed: int
    judged: list[Judged]

    @property
    def word(self) -> str:
        """``reproduced``, ``not reproduced``, ``not run``, or ``unfinished``: some runs are, and
        what is left may decide."""
        if self.done < self.of and not any(one.refuted for one in self.judged):
            return "unfinished" if self.done else "not run"
        return "reproduced" if all(one.holds for one in self.judged) else "not reproduced"

    @property
    def here(self) -> str:
        """What the runs gave, or what they would cost."""
        cost = f"{self.claim.cost}: `snnlab reproduce {self.claim.name}`"
        if self.claim.declared.needs:
            cost += f"; needs {self.claim.declared.needs}"
        if not self.done:
            return cost
        text = "; ".join(dict.fromkeys(one.words for one in self.judged))
        if self.failed:
            text += f"; {self.failed} failed"
        if self.done < self.of:
            text = f"{self.done} of {self.of} runs: {text}; all: {cost}"
        shows = self.claim.declared.shows
        return f"{text}. {shows}".strip() if shows else text

    @property
    def row(self) -> list[str]:
        """Cells of :data:`HEAD`."""
        c = self.claim
        return [f"`{c.name}`: {c.title}", f"{c.declared.published} ({c.declared.source})",
                self.here, self.word]  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """For ``verdict.json``."""
        return {
            "claim": self.claim.name, "title": self.claim.title,
            **self.claim.declared.model_dump(include={"published", "source", "shows", "needs"}),
            "verdict": self.word, "runs": self.of, "runs_done": self.done,
            "runs_failed": self.failed, "minutes_expected": self.claim.minutes,
            "checks": [one.as_json() for one in self.judged],
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For the terminal."""
        c = self.claim.declared
        found = [f"{self.claim.title}", f"published  {c.published}", f"source     {c.source}"]
        if self.done:
            for one in self.judged:
                found += [f"here       {one.words}", f"wanted     {one.wanted}: "
                          f"{'yes' if one.holds else 'no'}"]  # fmt: skip
        runs = f"{self.done} of {self.of} runs" + f", {self.failed} failed" * bool(self.failed)
        found += [f"shows      {c.shows}"] if c.shows else []
        found += [f"cost       {self.claim.cost}"] if self.done < self.of else []
        found += [f"needs      {c.needs}"] if c.needs and self.done < self.of else []
        return [*found, f"verdict    {self.word} ({runs})"]


def judge(claim: Claim, folder: Path) -> Verdict:
    """The verdict on a claim.

    Args:
        claim: the claim.
        folder: of its runs.
    """
    members = members_of(claim.file, {})
    found = {m.name: Outcome.of(folder / m.slug) for m in members}
    done = [m for m in members if found[m.name].results]
    failed = sum(bool(found[m.name].state) for m in done)
    judged = [_judged(check, done, found) for check in claim.declared.checks]
    return Verdict(claim, len(done), len(members), failed, judged)


def write(verdict: Verdict, folder: Path) -> list[Path]:
    """Write ``verdict.json`` and ``verdict.md``; their paths.

    Raises:
        UsageError: there they cannot be written.
    """
    files = [folder / "verdict.json", folder / "verdict.md"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(files[0], verdict.as_json())
        write_atomically(files[1], table([verdict]))
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
    return files


def table(verdicts: Sequence[Verdict]) -> str:
    """Markdown: a line for each claim."""
    rows = [HEAD, ("---",) * len(HEAD), *(verdict.row for verdict in verdicts)]
    return "".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in r)} |\n" for r in rows)


def _judged(check: Check, done: Sequence[Member], found: Mapping[str, Outcome]) -> Judged:
    groups: dict[str, dict[str, list[float]]] = {}  # run -> point of the grid -> values
    diverged = 0
    for member in done:
        own, bad = _values(found[member.name], check)
        if check.of in ("", member.group):
            diverged += bad
        groups.setdefault(member.group, {})[str(member.point)] = own
    chosen = {check.of: groups.get(check.of, {})} if check.of else groups
    each = {name: list(itertools.chain(*own.values())) for name, own in chosen.items()}
    values = list(itertools.chain(*each.values()))
    if check.over:
        by = groups.get(check.over, {})
        both = [(own, by[point]) for point, own in chosen[check.of].items() if point in by]
        values = [ratio for pair in both for ratio in _divided(*pair)]
    names: tuple[str, ...] = ()
    if check.statistic == "best":
        names = tuple(name for name, own in each.items() if own)
        values = [statistics.fmean(each[name]) for name in names]
    tried = {"mean": lambda: [statistics.fmean(values)], "best": lambda: [max(values)]}
    of = tried.get(check.statistic, lambda: values)() if values else []
    inside = [any(low <= v <= high for low, high in check.within) for v in of]
    holds = any(inside) if check.statistic == "some" else bool(inside) and all(inside)
    return Judged(check, values, holds, names, diverged)


def _values(outcome: Outcome, check: Check) -> tuple[list[float], int]:
    """Of each seed, and how many of them diverged, if that has a value."""
    values = outcome.numbers().get(check.measure)
    if values is None:
        own = outcome.results.get(check.measure)
        every = own if isinstance(own, list) else [own]
        numbers = [float(v) for v in every if is_number(v)]
        values = [statistics.fmean(numbers)] if numbers else []
    if check.diverged is None:
        return values, 0
    bad = sum("error" in results for results in outcome.seeds)
    return [*values, *[check.diverged] * bad], bad


def _divided(values: Sequence[float], by: Sequence[float]) -> list[float]:
    """Seed by seed; where some of them failed, the mean by the mean."""
    if len(values) != len(by):
        values = [statistics.fmean(values)] if values else []
        by = [statistics.fmean(by)] if by else []
    return [v / b if b else math.inf for v, b in zip(values, by)]


def _shown(check: Check) -> Any:
    """How its values are written."""
    if check.measure.endswith("accuracy") and not check.over:
        return lambda v: f"{100 * v:.1f}%"
    if check.over:
        return lambda v: f"{100 * v:.3g}%"
    unit = " Hz" if check.measure.endswith("rate") else ""
    return lambda v: f"{v:.4g}{unit}"
