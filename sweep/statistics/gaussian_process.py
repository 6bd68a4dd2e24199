"""The Gaussian process that smooths a search's scores, with what bounds its fit."""

from __future__ import annotations

import math
import warnings

import numpy as np

from sweep.statistics.paired import FloatArray

_MOST_POINTS_TO_FIT = 300
"""Length scales cost cubic time per step of their fit, and hardly change beyond a few hundred points."""

_LENGTH_SCALE_BOUNDS = (1.0, 20.0)
"""In doublings: neighbours on a ladder always share something; 20 doublings is as good as no effect."""

_NOISE_BOUNDS = (0.02, 1.0)
"""Share of the variance that is noise; never nearly none, or a few points would be interpolated."""


def fit_and_predict(axes: FloatArray, scores: FloatArray) -> tuple[FloatArray, float]:
    """Posterior mean at the points themselves, and the noise sd; axes has a row for each point, scores no units."""
    # Imported here: it takes seconds, and only freezing needs it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    signal = ConstantKernel(1.0, (0.1, 10.0)) * RBF(
        [3.0] + [2.0] * (axes.shape[1] - 1), [_LENGTH_SCALE_BOUNDS] * axes.shape[1]
    )
    kernel = signal + WhiteKernel(0.2, _NOISE_BOUNDS)
    # The same points whenever the search is the same: what is frozen must not depend on a draw.
    few = np.random.default_rng(0).permutation(len(scores))[:_MOST_POINTS_TO_FIT]
    with warnings.catch_warnings():
        # A length scale at its bound is an answer (the axis does not matter), not a failed fit.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = GaussianProcessRegressor(kernel, normalize_y=True).fit(axes[few], scores[few])
    # Length scales come from the few; estimates are over all of the points.
    model = GaussianProcessRegressor(fitted.kernel_, normalize_y=True, optimizer=None).fit(axes, scores)
    # The white noise is in units of the variance of the scores, which the regressor normalised away.
    noise_sd = math.sqrt(model.kernel_.k2.noise_level) * float(np.std(scores))
    return np.asarray(model.predict(axes), dtype=np.float64), noise_sd
