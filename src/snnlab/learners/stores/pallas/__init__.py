"""Kernels of our own for GPU and TPU (``--kernels pallas``), each beside its form in plain JAX."""
