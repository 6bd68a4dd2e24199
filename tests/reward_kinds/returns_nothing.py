"""Forgets to return."""


def reward(completions, **columns):
    [float(len(completion)) for completion in completions]


SAYS = "reward returned None; allowed: a list with one number, or None, for each of the"
