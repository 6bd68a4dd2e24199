"""Applies to nothing."""


def reward(completions, **columns):
    return [None for _ in completions]


SAYS = "every function returned None for all"
