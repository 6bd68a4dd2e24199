"""What may be concluded from noisy trials: paired bounds, collapse, power and the verdict."""
