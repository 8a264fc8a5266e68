"""What a table of scores shows, and how surely: means, intervals and paired tests.

Images are what is resampled, within one person: an interval tells how far the mean over other such images could
lie from this one. Where there are several people, "all" resamples people and images, independently of each other: the
test images are the same for all. With two or four people that is a coarse guess at others.

Images that are not independent of each other, such as clips of one shot of a film, come in groups. With `groups` it is
these that are resampled and whose signs are flipped, each with all its images.
"""

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from evaluation.catalogue import ALL_SUBJECTS, Catalogue
from minddiffuser.seeds import numpy_generator

_DRAWS_AT_ONCE = 2_000_000


def bootstrap_intervals(
    values: np.ndarray, n_bootstrap: int, seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile intervals of means: 2.5 % and 97.5 % quantiles of the means of resampled images, or groups of them.

    With few images (fewer than 15, say), or groups, they are known to be somewhat too narrow.

    Parameters
    ----------
    values : array of shape (n_images, n_columns)
        Scores, or differences of scores; an image is resampled with all its columns.
    n_bootstrap, seed : int
        The resamples depend on nothing but these and the number of images, or of groups.
    groups : array of shape (n_images,), optional
        The group of each image. A mean is that of all images of the groups that are drawn, so that a large group
        counts as much as its images do.

    Returns
    -------
    low, high : arrays of shape (n_columns,)

    Raises
    ------
    ValueError
        There are no values, or some are not finite; or `groups` is not of as many images.

    References
    ----------
    Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    _check_finite(values)
    low, high = np.quantile(_resampled_means(values, n_bootstrap, seed, groups), [0.025, 0.975], axis=0)
    return low, high


def bootstrap_interval_over_subjects(
    values: np.ndarray, n_bootstrap: int, seed: int, groups: np.ndarray | None = None
) -> tuple[float, float]:
    """Percentile interval of the mean over subjects and images, both resampled (a crossed design).

    Parameters
    ----------
    values : array of shape (n_subjects, n_images)
        Scores of the same images.
    n_bootstrap, seed : int
    groups : array of shape (n_images,), optional
        The group of each image, for groups to be resampled in place of images.

    Returns
    -------
    low, high : float
    """
    _check_finite(values)
    by_subject = _resampled_means(values.T, n_bootstrap, seed, groups)  # (n_bootstrap, n_subjects)
    means = (by_subject * _resampling_weights(len(values), n_bootstrap, seed, "subjects")).sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def sign_flip_test(differences: np.ndarray, n_flips: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Two-sided p-values that paired differences have mean zero, by flipping the signs of images or groups at random.

    p = (1 + number of flips with a mean at least as far from zero) / (1 + n_flips); it holds for any distribution that
    is symmetric about zero when the two systems are equal: of images, or with groups of their sums.

    Parameters
    ----------
    differences : array of shape (n_images, n_columns)
        An image's columns are flipped together.
    n_flips, seed : int
    groups : array of shape (n_images,), optional
        The group of each image: its images are flipped together. Of G groups there are 2^G flips, of which no p is
        below 2 / 2^G.

    Returns
    -------
    array of shape (n_columns,)

    References
    ----------
    Good (2005), Permutation, Parametric, and Bootstrap Tests of Hypotheses, chapter 3.
    """
    if groups is not None:
        differences, _ = _sums(differences, groups)
    n = len(differences)
    observed = np.abs(differences.sum(axis=0))
    generator = numpy_generator(seed, "sign flips", n)
    reached = np.zeros(differences.shape[1])
    step = max(1, _DRAWS_AT_ONCE // n)
    for start in range(0, n_flips, step):
        signs = generator.integers(2, size=(min(step, n_flips - start), n)) * 2.0 - 1
        reached += (np.abs(signs @ differences) >= observed - 1e-9).sum(axis=0)
    return (1 + reached) / (1 + n_flips)


def is_firm(row: pd.Series) -> bool:
    """Tell whether a paired difference is clear of zero, and its p at most .05 once corrected."""
    return bool(row["p_holm"] <= 0.05) and not row["ci_low"] <= 0 <= row["ci_high"]


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values for the number of tests (Holm 1979): the smallest times n, the next times n - 1, and so on."""
    order = np.argsort(p)
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(corrected, 1)[np.argsort(order)]


def summarise(scores: pd.DataFrame, n_bootstrap: int, seed: int, groups: pd.Series | None = None) -> pd.DataFrame:
    """Mean and interval of each subject, system and metric, and over subjects where there are several.

    Parameters
    ----------
    scores : DataFrame
        Columns `subject, system, stimulus_id, metric, value`.
    n_bootstrap, seed : int
    groups : Series, optional
        The group of each image, by `stimulus_id`: groups are resampled in place of images.

    Returns
    -------
    DataFrame
        Columns `subject, system, metric, mean, ci_low, ci_high, n`, in the order of the scores; n counts images. Rows
        of subject "all" are of systems and images that all subjects have.
    """
    rows = []
    for (subject, system), group in scores.groupby(["subject", "system"], sort=False):
        wide = _wide(group)
        for columns in _complete(wide):
            low, high = bootstrap_intervals(columns.to_numpy(), n_bootstrap, seed, _groups_of(columns, groups))
            for name, *numbers in zip(columns, columns.mean(), low, high, strict=True):
                rows.append((subject, system, name, *numbers, len(columns)))
    for (system, name), wide in _crossed(scores).items():
        values = wide.to_numpy().T
        interval = bootstrap_interval_over_subjects(values, n_bootstrap, seed, _groups_of(wide, groups))
        rows.append((ALL_SUBJECTS, system, name, values.mean(), *interval, values.shape[1]))
    return pd.DataFrame(rows, columns=["subject", "system", "metric", "mean", "ci_low", "ci_high", "n"])


def compare(
    scores: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    catalogue: Catalogue,
    n_bootstrap: int,
    n_flips: int,
    seed: int,
    groups: pd.Series | None = None,
) -> pd.DataFrame:
    """Mean difference of two systems on the images that both have, with its interval and p-value.

    Parameters
    ----------
    scores : DataFrame
        Columns `subject, system, stimulus_id, metric, value`.
    pairs : sequence of (system, baseline)
        Pairs without a common image are left out, and metrics whose candidates are the system's own pictures where
        these are of other images.
    catalogue : Catalogue
        Of the metrics.
    n_bootstrap, n_flips, seed : int
    groups : Series, optional
        The group of each image, by `stimulus_id`: groups are resampled and flipped in place of images.

    Returns
    -------
    DataFrame
        Columns `subject, system, baseline, metric, difference, ci_low, ci_high, p, p_holm, n`; the difference is the
        system's score less the baseline's. p is of a sign-flip test over images (for "all", over images of means over
        subjects); p_holm is corrected for all pairs and metrics of one subject in one group of metrics.
    """
    rows = []
    for subject, of_subject in scores.groupby("subject", sort=False):
        tables = {str(system): _wide(group) for system, group in of_subject.groupby("system", sort=False)}
        for system, baseline in pairs:
            if system not in tables or baseline not in tables:
                continue
            difference = (tables[system] - tables[baseline]).dropna(how="all").dropna(axis=1, how="all")
            if not tables[system].index.equals(tables[baseline].index):
                difference = difference[[name for name in difference if not catalogue.metric(name).among_own]]
            for columns in _complete(difference[[name for name in tables[system] if name in difference]]):
                together = _groups_of(columns, groups)
                low, high = bootstrap_intervals(columns.to_numpy(), n_bootstrap, seed, together)
                p = sign_flip_test(columns.to_numpy(), n_flips, seed, together)
                for name, *numbers in zip(columns, columns.mean(), low, high, p, strict=True):
                    rows.append((subject, system, baseline, name, *numbers, len(columns)))
    crossed = _crossed(scores)
    for system, baseline in pairs:
        differences = {
            name: (wide - crossed[baseline, name]).dropna()
            for (of_system, name), wide in crossed.items()
            if of_system == system and (baseline, name) in crossed
            if wide.index.equals(crossed[baseline, name].index) or not catalogue.metric(name).among_own
        }
        # The images' means over subjects, of all metrics, so that signs are flipped together.
        of_images = pd.DataFrame({name: table.mean(axis=1) for name, table in differences.items() if len(table)})
        for columns in _complete(of_images):
            together = _groups_of(columns, groups)
            p_of = dict(zip(columns, sign_flip_test(columns.to_numpy(), n_flips, seed, together), strict=True))
            for name in columns:
                values, together = differences[name].to_numpy().T, _groups_of(differences[name], groups)
                interval = bootstrap_interval_over_subjects(values, n_bootstrap, seed, together)
                rows.append((ALL_SUBJECTS, system, baseline, name, values.mean(), *interval, p_of[name], len(columns)))
    columns = ["subject", "system", "baseline", "metric", "difference", "ci_low", "ci_high", "p", "n"]
    table = pd.DataFrame(rows, columns=columns)
    group = table["metric"].map(lambda name: catalogue.metric(name).group)
    corrected = table.groupby([table["subject"], group], sort=False)["p"].transform(lambda p: holm(p.to_numpy()))
    table.insert(columns.index("n"), "p_holm", corrected)
    return table


def _wide(group: pd.DataFrame) -> pd.DataFrame:
    """One row an image, in the order of ids, one column a metric, in the order of the scores."""
    wide = group.pivot_table(index="stimulus_id", columns="metric", values="value", sort=False).sort_index()
    return wide[list(dict.fromkeys(group["metric"]))]


def _complete(wide: pd.DataFrame) -> list[pd.DataFrame]:
    """Columns that all images have, together; each of the others by itself, with the images that have it."""
    full = wide.columns[wide.notna().all()]
    parts = [wide[full]] if len(full) else []
    return parts + [wide[[name]].dropna() for name in wide.columns if name not in full]


def _crossed(scores: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Scores by system and metric, one row an image, one column a subject, where several subjects have all of them."""
    if scores["subject"].nunique() < 2:
        return {}
    index = ["system", "metric", "stimulus_id"]
    wide = scores.pivot_table(index=index, columns="subject", values="value", sort=False).dropna()
    return {
        (str(system), str(name)): group.droplevel(["system", "metric"])
        for (system, name), group in wide.groupby(level=["system", "metric"], sort=False)
    }


def _groups_of(wide: pd.DataFrame, groups: pd.Series | None) -> np.ndarray | None:
    """Give the groups of the images of a table, in its order."""
    if groups is None:
        return None
    if missing := set(wide.index) - set(groups.index):
        raise ValueError(f"{len(missing)} images have no group, such as {min(missing)}")
    return groups.loc[wide.index].to_numpy()


def _sums(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum the images of each group: (n_groups, n_columns); and count them: (n_groups,)."""
    if len(groups) != len(values):
        raise ValueError(f"{len(groups)} images have a group, of {len(values)}")
    _, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, number, values)
    return sums, counts


def _resampled_means(values: np.ndarray, n_bootstrap: int, seed: int, groups: np.ndarray | None) -> np.ndarray:
    """Means of resampled images, or of the images of resampled groups: (n_bootstrap, n_columns)."""
    if groups is None:
        return _resampling_weights(len(values), n_bootstrap, seed, "images") @ values
    sums, counts = _sums(values, groups)
    weights = _resampling_weights(len(counts), n_bootstrap, seed, "images")
    return weights @ sums / (weights @ counts)[:, None]


@functools.lru_cache(maxsize=4)
def _resampling_weights(n: int, n_bootstrap: int, seed: int, what: str) -> np.ndarray:
    """Share of each of n items in each resample: (n_bootstrap, n)."""
    generator = numpy_generator(seed, "bootstrap", what, n)
    weights = np.empty((n_bootstrap, n))
    step = max(1, _DRAWS_AT_ONCE // n)
    for start in range(0, n_bootstrap, step):
        size = min(step, n_bootstrap - start)
        drawn = generator.integers(n, size=(size, n)) + np.arange(size)[:, None] * n
        weights[start : start + size] = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n) / n
    return weights


def _check_finite(values: np.ndarray) -> None:
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"{values.size} values, of which {np.isfinite(values).sum()} are finite")
