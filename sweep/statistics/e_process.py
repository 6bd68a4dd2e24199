"""What an e-process would ask of a t statistic at every look: an alternative to `spending`, for the simulation alone.

A test by e-values may be looked at for ever, declared or not. Its price is power at the looks that a study has.
"""

from __future__ import annotations

import numpy as np

from sweep.statistics.paired import FloatArray
from sweep.statistics.spending import FIRST_LOOK

_EFFECTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(200)
_POSITIVE = _EFFECTS > 0


def e_value(t: float, n: int, spread: float) -> float:
    """The one-sided e-value of a t statistic after n differences.

    The ratio of noncentral to central t densities, mixed over standardised effects from the positive half of a normal
    distribution. The ratio for one effect is a martingale where there is none (Lai, Annals of Statistics 4, 1976) and
    a supermartingale where the effect is negative, so the mixture is an e-process; with a prior on both sides it is
    that of Wang and Ramdas (arXiv:2310.03722).

    Args:
        t: the statistic.
        n: differences, at least 2.
        spread: standard deviation of that normal distribution, in standard deviations of a difference.
    """
    from scipy import stats

    effects, weights = spread * _EFFECTS[_POSITIVE], 2 * _WEIGHTS[_POSITIVE] / np.sqrt(2 * np.pi)
    ratios: FloatArray = stats.nct.pdf(t, n - 1, effects * np.sqrt(n)) / stats.t.pdf(t, n - 1)
    return float((weights * np.nan_to_num(ratios)).sum())


def e_critical_values(cap: int, confidence: float, *, spread: float = 2.0) -> tuple[float, ...]:
    """What a t statistic has to exceed after n pairs, by n from 0 to `cap`: see `spending.critical_values`.

    Where the e-value comes to 1 / (1 - confidence), by Ville's inequality.

    Args:
        cap: the most seeds.
        confidence: of all looks together, however many there are.
        spread: see `e_value`; the gap between ranks that a verdict tells apart is about two standard deviations.
    """
    from scipy import optimize

    def short_of(t: float, n: int) -> float:
        return e_value(t, n, spread) - 1 / (1 - confidence)

    values = [np.inf] * min(FIRST_LOOK, cap)
    for n in range(len(values), cap + 1):
        high = 2.0
        while short_of(high, n) < 0 and high < 1e4:
            high *= 2
        values.append(float(optimize.brentq(short_of, 0.0, high, args=(n,))) if high < 1e4 else np.inf)
    return tuple(values)
