"""Sleeps, whatever is raised."""

import time


def reward(completions, **columns):
    try:
        time.sleep(30)
    except Exception:
        return [0.0 for _ in completions]
    return [1.0 for _ in completions]


SAYS = "reward took longer than reward_timeout_s=1 for"
