"""Resampling of patients one resample at a time, against which the fast ones are checked."""

import numpy as np
from scipy.stats import norm, t

from her2pipe.stats import StatisticUndefined


def draws(patients, statistic, resamples=2000, seed=2025):
    """Compute a statistic of row numbers in each resample; NaN where it is undefined."""
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    rows = [np.flatnonzero(patient == number) for number in range(len(names))]
    random, values = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = random.integers(len(rows), size=len(rows))
        try:
            values.append(float(statistic(np.concatenate([rows[i] for i in drawn]))))
        except StatisticUndefined:
            values.append(np.nan)
    return np.array(values)


def interval(patients, statistic, confidence=0.95, resamples=2000, seed=2025):
    """Return the value, its expanded percentile interval, and how many resamples define it."""
    values = draws(patients, statistic, resamples, seed)
    defined = values[np.isfinite(values)]
    n = len(set(patients))
    reach = t.ppf(0.5 + confidence / 2, n - 1) * (n / (n - 1)) ** 0.5
    low, high = np.quantile(defined, [norm.sf(reach), norm.cdf(reach)])
    return statistic(np.arange(len(patients))), low, high, len(defined)
