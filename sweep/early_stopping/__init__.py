"""When a trial ends before its budget does: collapse, and Optuna's pruners."""
