"""Where a rule remembers, and who computes it."""
