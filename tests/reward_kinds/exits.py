"""Ends the process."""

import sys


def reward(completions, **columns):
    sys.exit(3)


SAYS = "reward raised SystemExit: 3"
