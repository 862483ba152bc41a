"""Training: the one loop, objectives, optimisers, checkpoints, metrics."""
