"""What a table of scores shows, and how surely: means, paired differences and their bootstrap intervals.

Images are what is resampled, within one person: an interval tells how far the mean over other such images could
lie from this one. It tells nothing of other people, and is not corrected for the number of comparisons.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from minddiffuser.seeds import numpy_generator

_DRAWS_AT_ONCE = 1_000_000


def bootstrap_interval(values: np.ndarray, n_bootstrap: int, generator: np.random.Generator) -> tuple[float, float]:
    """Percentile interval of the mean: 2.5 % and 97.5 % quantiles of the means of resampled images.

    With few images (fewer than 15, say) it is known to be somewhat too narrow.

    Parameters
    ----------
    values : array of shape (n_images,)
        One score, or one difference of scores, per image.
    n_bootstrap : int
        Number of resamples.
    generator : numpy.random.Generator

    Returns
    -------
    low, high : float

    Raises
    ------
    ValueError
        There are no values, or some are not finite.

    References
    ----------
    Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    n = len(values)
    if n == 0 or not np.isfinite(values).all():
        raise ValueError(f"{n} values, of which {np.isfinite(values).sum()} are finite")
    means = np.empty(n_bootstrap)
    step = max(1, _DRAWS_AT_ONCE // n)
    for start in range(0, n_bootstrap, step):
        stop = min(start + step, n_bootstrap)
        means[start:stop] = values[generator.integers(n, size=(stop - start, n))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def summarise(scores: pd.DataFrame, n_bootstrap: int, seed: int) -> pd.DataFrame:
    """Mean and interval of each subject, system and metric.

    Parameters
    ----------
    scores : DataFrame
        Columns `subject, system, nsd_id, metric, value`.
    n_bootstrap, seed : int

    Returns
    -------
    DataFrame
        Columns `subject, system, metric, mean, ci_low, ci_high, n`, in the order of the scores.
    """
    rows = []
    for keys, group in scores.groupby(["subject", "system", "metric"], sort=False):
        values = group.sort_values("nsd_id")["value"].to_numpy()
        interval = bootstrap_interval(values, n_bootstrap, numpy_generator(seed, *keys))
        rows.append((*keys, values.mean(), *interval, len(values)))
    return pd.DataFrame(rows, columns=["subject", "system", "metric", "mean", "ci_low", "ci_high", "n"])


def compare(scores: pd.DataFrame, pairs: Sequence[tuple[str, str]], n_bootstrap: int, seed: int) -> pd.DataFrame:
    """Mean difference of two systems on the images that both have, with its interval.

    Parameters
    ----------
    scores : DataFrame
        Columns `subject, system, nsd_id, metric, value`.
    pairs : sequence of (system, baseline)
        Pairs without a common image are left out.
    n_bootstrap, seed : int

    Returns
    -------
    DataFrame
        Columns `subject, system, baseline, metric, difference, ci_low, ci_high, n`; the difference is the
        system's score less the baseline's.
    """
    rows = []
    for subject, of_subject in scores.groupby("subject", sort=False):
        for system, baseline in pairs:
            for metric, group in of_subject.groupby("metric", sort=False):
                wide = group.pivot_table(index="nsd_id", columns="system", values="value")
                if not {system, baseline} <= set(wide.columns):
                    continue
                differences = (wide[system] - wide[baseline]).dropna().to_numpy()
                if not len(differences):
                    continue
                keys = (str(subject), system, baseline, str(metric))
                interval = bootstrap_interval(differences, n_bootstrap, numpy_generator(seed, *keys))
                rows.append((*keys, differences.mean(), *interval, len(differences)))
    columns = ["subject", "system", "baseline", "metric", "difference", "ci_low", "ci_high", "n"]
    return pd.DataFrame(rows, columns=columns)
