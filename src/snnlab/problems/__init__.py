"""The tasks of the suite: for each, a config of sections and what it builds."""
