"""Takes a column for granted."""


def reward(completions, **columns):
    return [1.0 if c == t else 0.0 for c, t in zip(completions, columns["target"], strict=True)]


SAYS = "reward raised KeyError: 'target'; the columns are: answer"
