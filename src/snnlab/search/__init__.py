"""``snnlab sweep`` of a file with ``search``: options drawn by Optuna, trial by trial."""
