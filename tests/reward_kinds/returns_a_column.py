"""Returns a matrix of one column, as many a scikit-learn model does."""

import numpy as np


def reward(completions, **columns):
    return np.ones((len(completions), 1))


SAYS = "1); allowed: a list with one number, or None, for each of the"
