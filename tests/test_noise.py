import math

import numpy as np
import pytest

from sweep.statistics.noise import DOUBLE, SINGLE, rounding, sampling_error


@pytest.mark.parametrize(("kind", "precision"), [(np.float64, DOUBLE), (np.float32, SINGLE)])
@pytest.mark.parametrize("level", [0.1, 1e-6, -7.3, 1e6])
def test_means_of_equal_rewards_differ_by_no_more_than_rounding(kind, precision, level):
    means = [float(np.full(n, level, dtype=kind).mean()) for n in (1, 3, 16, 64)]
    assert max(means) - min(means) <= rounding(*means, precision=precision)
    assert rounding(*means, precision=precision) < 1e-6 * abs(level)


def test_rounding_follows_the_largest_reward_that_is_known():
    assert rounding(-200.0, 1.0, math.nan) == 200 * DOUBLE
    assert rounding() == rounding(0.0, math.nan) == 0.0


def test_the_error_of_a_difference_is_that_of_its_prompts():
    rng = np.random.default_rng(0)
    scores = (rng.random((2, 4000, 64)) < 0.25).mean(axis=-1)
    assert (scores[0] - scores[1]).std() == pytest.approx(sampling_error(math.sqrt(0.25 * 0.75), 64), rel=0.05)
