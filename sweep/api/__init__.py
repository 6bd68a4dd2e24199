"""A study in Python: what `sweep.Study` is, and how it shows itself in a notebook."""
