"""Forgets the brackets."""


def reward(completions, **columns):
    return (float(len(completion)) for completion in completions)


SAYS = "reward returned a generator; allowed: a list with one number, or None, for each of the"
