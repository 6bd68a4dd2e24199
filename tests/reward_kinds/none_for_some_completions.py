"""Applies to some completions only, so that a group may be left with one reward, or none."""


def reward(completions, **columns):
    return [float(completion.count("b")) if completion[:1] < "e" else None for completion in completions]


def weighs(row, completion):
    return float(completion.count("b")) if completion[:1] < "e" else None
