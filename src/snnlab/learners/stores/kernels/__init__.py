"""Compiled loops of our own for the CPU, on all cores: what XLA's are slow at.

- :mod:`~snnlab.learners.stores.kernels.events`: products of a packed list of events, so that
  input costs what there is of it.
- :mod:`~snnlab.learners.stores.kernels.traces`: one pass over the traces of a map. XLA's loops
  read a trace twice where a gradient and an update are wanted, and run on one core.

Accelerators and small arrays keep to XLA. The loops are numba's, called by the program itself
through brainevent.
"""
