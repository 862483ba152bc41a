"""Models: options, and from options to a layer or a readout. Read without JAX."""
