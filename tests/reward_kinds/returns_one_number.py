"""Scores the batch as a whole."""


def reward(completions, **columns):
    return 1.0


SAYS = "reward returned a float; allowed: a list with one number, or None, for each of the"
