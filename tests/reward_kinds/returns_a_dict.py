"""Returns a value a key."""


def reward(completions, **columns):
    return {float(i): 1.0 for i in range(len(completions))}


SAYS = "reward returned a dict; allowed: a list with one number, or None, for each of the"
