"""Applies to some rows only."""


def reward(prompts, completions, **columns):
    return [None if "a" in prompt else float(len(c)) for prompt, c in zip(prompts, completions, strict=True)]


def weighs(row, completion):
    return None if "a" in row["prompt"] else float(len(completion))
