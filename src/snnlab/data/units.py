"""Units of time in files, as ``--time_unit`` names them."""

#: us of a unit.
UNITS_US = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
#: What ``auto`` takes: whole numbers are us, fractions s.
WHOLE, FRACTIONS = "us", "s"
