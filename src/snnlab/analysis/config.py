"""Options of measures."""

from typing import Literal

#: Filter of the currents whose balance is measured; see :mod:`snnlab.analysis.balance`.
Metric = Literal["lowpass", "median", "raw"]
