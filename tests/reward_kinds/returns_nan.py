"""Divides by nothing in a way that no exception tells of."""


def reward(completions, **columns):
    return [float("nan") for _ in completions]


SAYS = "reward returned nan for completion 0; allowed: finite numbers, None"
