"""Trips over a completion."""


def reward(completions, **columns):
    return [float(completion.split("=")[1]) for completion in completions]


SAYS = "reward raised IndexError: list index out of range"
