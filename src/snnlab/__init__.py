"""snnlab: recurrent spiking networks on JAX, trained by learners that one flag swaps."""

__version__ = "0.1.0"
