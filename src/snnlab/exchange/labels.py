"""What a node of a NIR graph keeps of the network that it stands for."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from snnlab.errors import shown

Kind = Literal["exact", "approximate", "unsupported"]
#: From the best to the worst.
KINDS: tuple[Kind, ...] = ("exact", "approximate", "unsupported")


class Label(NamedTuple):
    """A node, and how well it says what the network does.

    Attributes:
        node: its name in the graph.
        type: of NIR, such as ``LIF``.
        kind: ``exact``: the reader's step computes the same numbers up to rounding;
            ``approximate``: a part of the step differs; ``unsupported``: NIR, or the reader, has
            nothing for a part of it, which is left out.
        reason: why.
    """

    node: str
    type: str
    kind: Kind
    reason: str


def worst(kinds: Iterable[Kind]) -> Kind:
    """The worst of them, ``exact`` of none."""
    return max(kinds, key=KINDS.index, default="exact")


def table(labels: Sequence[Label], width: int = 0) -> str:
    """The labels in lines.

    Args:
        labels: of a graph.
        width: columns of the terminal; 0: as wide as it is.
    """
    width = width or shutil.get_terminal_size().columns
    labels = [label._replace(node=shown(label.node, 60)) for label in labels]
    columns = [max(len(getattr(a, name)) for a in labels) for name in ("node", "type", "kind")]
    lines = []
    for a in labels:
        head = f"{a.node:{columns[0]}}  {a.type:{columns[1]}}  {a.kind:{columns[2]}}  "
        room = width - len(head)
        if room >= 40:
            first, *rest = textwrap.wrap(a.reason, room) or [""]
            lines += [head + first, *(" " * len(head) + line for line in rest)]
        else:  # the reason has lines of its own
            lines += [head, *textwrap.wrap(a.reason, width - 4, initial_indent="    ",
                                           subsequent_indent="    ")]  # fmt: skip
    return "\n".join(line.rstrip() for line in lines)
