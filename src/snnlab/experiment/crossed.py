"""A sweep with a named axis as tables of its names and its runs: rules on tasks.

Every cell is one run of several seeds. Scores are the mean over seeds with Student's 95 % interval;
a sign says what a paired t test over seeds finds against each name of ``against``, with Holm's
correction over the names of one column.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from snnlab.experiment.comparison import Outcome
from snnlab.experiment.statistics import holm, limited, paired_p, spread_of
from snnlab.experiment.sweep_file import Member, SweepFile

if TYPE_CHECKING:
    from snnlab.analysis._crossed import Cell

#: Share of wrong findings that is let pass.
LEVEL = 0.05
BETTER, WORSE, SAME = "+", "−", "≈"
WHEN = ("start", "during", "end")


@dataclasses.dataclass(frozen=True)
class Measure:
    """A table of one number of each cell.

    Attributes:
        title: of the table.
        names: of the measures, one behind the other in a cell.
        factor, digits: by which it is shown; ``digits`` significant ones if negative.
    """

    title: str
    names: tuple[str, ...]
    factor: float = 1.0
    digits: int = 2


MEASURES = (
    Measure("Cosine to BPTT's gradient, all parameters but the readout's: before training, mean "
            "during training, at its end", tuple(f"cosine_{when}" for when in WHEN)),
    Measure("Norm over that of BPTT's gradient, the same parameters and times",
            tuple(f"norm_ratio_{when}" for when in WHEN)),
    Measure("Cosine of the readout's gradient", tuple(f"readout_cosine_{when}" for when in WHEN)),
    Measure("Firing rate (Hz), of the best epoch", ("best_rate",), 1.0, -3),
    Measure("Temporary memory of the training program (kB), of one seed", ("training_bytes",),
            1e-3, -3),
    Measure("Time of a training step (µs), of one seed", ("ms_per_step",), 1e3, -3),
    Measure("Synaptic operations of a test sample, ACs and MACs (thousands)", ("operations",),
            1e-3, -3),
    Measure("Energy estimate of a test sample (nJ)", ("energy_nj",), 1.0, -3),
)  # fmt: skip


class Crossed:
    """The cells of a sweep by name of the axis and column.

    Args:
        file: the sweep, with a named axis.
        members: its runs.
        found: name of a run -> what it left.
    """

    def __init__(
        self, file: SweepFile, members: Sequence[Member], found: Mapping[str, Outcome]
    ) -> None:
        axis = file.axes[0]
        self.axis, self.against = axis, list(file.against)
        self.names = [str(name) for name in file.grid[axis]]
        self.columns = list(dict.fromkeys(m.column for m in members))
        self.cells = {(str(m.point[axis]), m.column): found[m.name] for m in members}
        self.numbers = {place: cell.numbers() for place, cell in self.cells.items()}
        self._signs = {column: self._tested(column) for column in self.columns}
        self._reasons: dict[str, int] = {}

    def _tested(self, column: str) -> dict[str, dict[str, str]]:
        """Name -> reference -> sign."""
        scores = {name: self.cells[name, column].tested() for name in self.names}
        signs: dict[str, dict[str, str]] = {name: {} for name in self.names}
        for reference in self.against:
            score = self.cells[reference, column].score
            found = {
                n: paired_p(scores[n], scores[reference]) for n in self.names if n != reference
            }
            for name, p in holm({n: p for n, p in found.items() if p is not None}).items():
                both = [s for s in scores[name] if s in scores[reference]]
                more = math.fsum(
                    score.key(scores[name][s]) - score.key(scores[reference][s]) for s in both
                )
                sign = SAME if p > LEVEL else BETTER if more > 0 else WORSE
                signs[name][reference] = sign
        return signs

    def markdown(self) -> str:
        """All tables, the legend, and why cells are empty."""
        parts = [self._table("Test score", self._score), self._legend()]
        for measure in MEASURES:
            if any(name in n for n in self.numbers.values() for name in measure.names):
                parts.append(self._table(measure.title, self._measured(measure)))
        if self._reasons:
            lines = [f"{number}. {reason}" for reason, number in self._reasons.items()]
            parts.append("**Cells without a number**\n\n" + "\n".join(lines) + "\n")
        return "\n".join(parts)

    def _table(self, title: str, cell: Callable[[str, str], str]) -> str:
        heads = [self._head(column) if cell == self._score else column for column in self.columns]
        lines = [f"**{title}**", "", " | ".join([f"| {self.axis}", *heads]) + " |"]
        lines.append("|---" * (len(self.columns) + 1) + "|")
        for name in self.names:
            row = [cell(name, column) or self._why(name, column) for column in self.columns]
            lines.append(" | ".join([f"| {name}", *row]).replace("\n", " ") + " |")
        return "\n".join(lines) + "\n"

    def _head(self, column: str) -> str:
        scores = [c.score for (_, where), c in self.cells.items() if where == column and c.rows]
        if not scores:
            return column
        return f"{column} ({'%' if scores[0].percent else scores[0].words})"

    def _score(self, name: str, column: str) -> str:
        cell = self.cells[name, column]
        spread = spread_of(list(cell.tested().values()))
        if spread is None:
            return ""
        digits = 1 if cell.score.percent else 3

        def shown(value: float) -> str:
            return f"{cell.score.scale * value:.{digits}f}"

        text = shown(spread.mean)
        low, high = limited(spread, cell.score.percent)
        if low is not None and high is not None:
            text += f" [{shown(low)}, {shown(high)}]"
        signs = self._signs[column].get(name, {})
        text += f" {''.join(signs.get(a, '·') for a in self.against)}" if self.against else ""
        missing = max(len(c.seeds) for (_, w), c in self.cells.items() if w == column) - spread.n
        return text + f" (n = {spread.n})" * (missing > 0)

    def _measured(self, measure: Measure) -> Callable[[str, str], str]:
        def cell(name: str, column: str) -> str:
            numbers = self.numbers[name, column]
            if not any(numbers.get(key) for key in measure.names):
                return ""
            parts = []
            for key in measure.names:
                spread = spread_of(numbers.get(key, []))
                parts.append("–" if spread is None else _number(measure, spread.mean))
            return " / ".join(parts)

        return cell

    def _why(self, name: str, column: str) -> str:
        """``–`` and the number of the reason."""
        cell = self.cells[name, column]
        errors = [str(r["error"]) for r in cell.seeds if "error" in r]
        reason = cell.refused or (f"diverged: {errors[0]}" if errors else cell.state)
        if not reason:
            return "–"
        return f"– ({self._reasons.setdefault(reason, len(self._reasons) + 1)})"

    def _legend(self) -> str:
        if not self.against:
            return "Mean over seeds, Student's 95 % interval.\n"
        return (
            f"Mean over seeds and Student's 95 % interval. The signs compare with "
            f"{' and '.join(self.against)}, in this order: {BETTER} better, {WORSE} worse, by a "
            f"paired t test over seeds (5 %, Holm's correction over the rows of a column); {SAME} "
            "cannot be told apart with these seeds, which does not say that both are equal.\n"
        )

    def drawn(self) -> dict[str, dict[str, Cell]]:
        """Column -> name -> what the figure shows of a cell; those without a score left out."""
        from snnlab.analysis._crossed import Cell

        made: dict[str, dict[str, Cell]] = {}
        for column in self.columns:
            for name in self.names:
                cell, numbers = self.cells[name, column], self.numbers[name, column]
                spread = spread_of(list(cell.tested().values()))
                cosine = spread_of(numbers.get("cosine_during", []))
                if spread is not None:
                    scale = cell.score.scale
                    interval = limited(spread, cell.score.percent)
                    ends = [scale * (spread.mean if v is None else v) for v in interval]
                    made.setdefault(column, {})[name] = Cell(
                        scale * spread.mean, ends[0], ends[1],
                        None if cosine is None else cosine.mean, cell.score.axis,
                    )  # fmt: skip
        return made


def _number(measure: Measure, value: float) -> str:
    value *= measure.factor
    if measure.digits >= 0:
        return f"{value:.{measure.digits}f}"
    if not value:
        return "0"
    digits = max(0, -measure.digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def crossed(
    file: SweepFile, members: Sequence[Member], found: Mapping[str, Outcome]
) -> tuple[str, Any]:
    """Markdown of all tables, and the figure; ``None`` where there is nothing to draw."""
    made = Crossed(file, members, found)
    drawn = made.drawn()
    if not drawn:
        return made.markdown(), None
    from snnlab.analysis.figures import crossed_figure

    return made.markdown(), crossed_figure(drawn, made.names, made.against)
