"""Catches everything there is to catch, and comes back late all the same."""

import time


def reward(completions, **columns):
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        try:
            time.sleep(2)
        except:  # noqa: E722
            continue
    return [1.0 for _ in completions]


SAYS = "reward took "
