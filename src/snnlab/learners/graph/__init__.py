"""The step of a network, cut at its relations: what a rule may know of it."""
