"""Scores a group instead of its completions."""


def reward(completions, **columns):
    return [1.0]


SAYS = "reward returned 1 values for"
