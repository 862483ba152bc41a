"""Streams that never end: a generated task that drifts, recordings in a loop, live readers."""
