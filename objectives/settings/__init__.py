"""The study file's sections that say what one trial is."""
