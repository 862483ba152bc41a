"""What a look at recordings found: of each split or file how many, of what, and what is wrong."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from snnlab.data.speech.audio import read_audio
from snnlab.errors import UsageError, one_line

#: Problems of one kind that are told one by one.
MOST_TOLD = 5


@dataclasses.dataclass
class Part:
    """The recordings of a split or file.

    Attributes:
        name: of it.
        unit: of an entry of ``events``.
        window_ms: what is read of a recording.
        events, ends_ms, labels: of each recording: how many events (samples of sound), when the
            last one is, its class.
        late: recordings that go on behind the window; ``n_late`` events of them.
        speakers: how many, where names say it.
        told: lines more of what was found.
        problems: what keeps recordings from being used.
    """

    name: str
    unit: str
    window_ms: float
    events: list[int] = dataclasses.field(default_factory=list)
    ends_ms: list[float] = dataclasses.field(default_factory=list)
    labels: list[str] = dataclasses.field(default_factory=list)
    late: int = 0
    n_late: int = 0
    silent: int = 0
    speakers: int = 0
    told: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    def add(self, times_us: np.ndarray, lengths: np.ndarray, labels: Iterable[str]) -> None:
        """Take recordings in: ``(n_events,)`` times, ``(n,)`` events and labels of each."""
        self.labels += labels
        ends = np.cumsum(lengths)
        for start, end in zip(ends - lengths, ends):
            mine = times_us[start:end]
            last = float(mine.max()) / 1000 if len(mine) else 0.0
            self.events.append(len(mine))
            self.ends_ms.append(last)
            behind = int((mine >= 1000 * self.window_ms).sum())
            self.late, self.n_late = self.late + bool(behind), self.n_late + behind

    def lines(self) -> list[str]:
        """What it holds."""
        n, counts = len(self.events), Counter(self.labels)
        order = sorted(counts, key=lambda label: (len(label), label))
        classes = ", ".join(f"{label} {counts[label]}" for label in order[:20])
        more = ", ..." if len(order) > 20 else ""
        lines = [f"{self.name}: {_count(n, 'recording')}"]
        if not n:
            return lines
        speakers = f", {_count(self.speakers, 'speaker')}" if self.speakers else ""
        lines.append(f"  {_count(len(order), 'class', 'es')}{speakers}: {classes}{more}")
        lines.append(f"  {self.unit} of a recording: {_range(self.events, 0)}, in all "
                     f"{sum(self.events):,}")  # fmt: skip
        if not self.ends_ms:  # images
            return lines
        lines.append(f"  durations: {_range(self.ends_ms, 0)} ms")
        lost = [f"{self.events.count(0)} empty"]
        if self.silent:
            lost.append(f"{self.silent} silent")
        if self.n_late:
            lost.append(f"{self.n_late:,} {self.unit} of {self.late} recordings behind the "
                        f"{self.window_ms:g} ms that are read")  # fmt: skip
        elif self.late:
            lost.append(f"{self.late} longer than the {self.window_ms:g} ms that are read as "
                        "spikes")  # fmt: skip
        return [*lines, f"  {', '.join(lost)}", *(f"  {line}" for line in self.told)]


@dataclasses.dataclass
class Found:
    """Recordings of one kind.

    Attributes:
        kind: in words.
        use: how to train on them.
        parts: of them.
    """

    kind: str
    use: str
    parts: list[Part]

    @property
    def problems(self) -> list[str]:
        """All that is wrong, no recordings included."""
        own = [line for part in self.parts for line in part.problems]
        return own or ["there are no recordings"] * (not any(p.events for p in self.parts))


def _count(n: int, word: str, end: str = "s") -> str:
    return f"{n:,} {word}{end * (n != 1)}"


def _range(values: list[int] | list[float], digits: int) -> str:
    low, middle, high = min(values), float(np.median(values)), max(values)
    return f"{low:,.{digits}f} to {high:,.{digits}f} (median {middle:,.{digits}f})"


def hear(part: Part, path: Path, label: str) -> None:
    """Read a sound file into a part."""
    try:
        samples, hz = read_audio(path)
    except UsageError as error:
        if len(part.problems) < MOST_TOLD:
            part.problems.append(one_line(str(error)))
        return
    part.labels.append(label)
    part.events.append(len(samples))
    part.ends_ms.append(1000 * len(samples) / hz)
    part.silent += not samples.any()
    part.late += 1000 * len(samples) / hz > part.window_ms
