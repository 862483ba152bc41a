"""Neurons as descriptions, one file each; see :mod:`snnlab.models.neuron`."""
