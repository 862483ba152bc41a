"""The command ``snnlab``: a file for each of its commands, read without JAX."""
