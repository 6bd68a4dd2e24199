"""optuna-dashboard over a study: the verdict as its note, our plots, each trial's files, behind a read-only guard."""
