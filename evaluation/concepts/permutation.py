"""Whether decoded labels are nearer to what was seen than the same labels, dealt out to the images at random."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from evaluation.catalogue import ALL_SUBJECTS
from evaluation.concepts.catalogue import FORMS
from evaluation.significance import holm
from minddiffuser.seeds import numpy_generator


def permutation_test(crossed: np.ndarray, true: np.ndarray, n_permutations: int, seed: int) -> dict[str, float]:
    """Test whether the mean score is higher than that of the same labels, dealt out to the images at random.

    p = (1 + number of permutations with a mean at least as high) / (1 + n_permutations), one-sided. It is exact
    whatever the labels are, constant ones included, and says nothing of what a constant label would reach.

    Parameters
    ----------
    crossed : array of shape (n_images, n_images)
        Of `crossed.crossed_scores`; images whose row is not a number do not count.
    true : array of shape (n_images,), str
        Their categories: the mean is over categories of means over images.
    n_permutations, seed : int

    Returns
    -------
    dict
        observed; permuted_mean and permuted_high, mean and 97.5 % quantile over permutations; p; n, categories that
        count.

    References
    ----------
    Good (2005), Permutation, Parametric, and Bootstrap Tests of Hypotheses, chapter 3.
    """
    n = len(crossed)
    rows = np.flatnonzero(np.isfinite(crossed).all(axis=1))
    identity = np.broadcast_to(np.arange(n), (n_permutations, n))
    dealt = numpy_generator(seed, "permutations of labels", n).permuted(identity, axis=1)
    _, category, n_images = np.unique(true[rows], return_inverse=True, return_counts=True)
    weights = 1 / (len(n_images) * n_images[category])
    means = crossed[rows, dealt[:, rows]] @ weights
    observed = float(crossed[rows, rows] @ weights)
    return {
        "observed": observed,
        "permuted_mean": float(means.mean()),
        "permuted_high": float(np.quantile(means, 0.975)),
        "p": (1 + (means >= observed - 1e-9).sum()) / (1 + n_permutations),
        "n": len(n_images),
    }


def permutation_table(
    crossed: Mapping[tuple[str, str], Mapping[str, np.ndarray]], true: np.ndarray, n_permutations: int, seed: int
) -> pd.DataFrame:
    """Test the labels of every system, for each subject and over several.

    Parameters
    ----------
    crossed : mapping of (subject, system) to mapping of metric to array of shape (n_images, n_images)
        Of `crossed.crossed_scores`, of the same images; what is not of `FORMS` is left out.
    true : array of shape (n_images,), str
        Categories of the images.
    n_permutations, seed : int

    Returns
    -------
    DataFrame
        Columns subject, system, metric, observed, permuted_mean, permuted_high, p, p_holm, n. For "all" the subjects'
        mean score is tested, their labels dealt out in the same way. p_holm is corrected for all of a subject.
    """
    tested = {key: tables for key, tables in crossed.items() if key[1] in FORMS}
    subjects = {subject for subject, _ in tested}
    for name in FORMS if len(subjects) > 1 else ():
        of_subjects = [tables for (_, system), tables in tested.items() if system == name]
        if len(of_subjects) == len(subjects):
            tested[ALL_SUBJECTS, name] = {
                metric: np.mean([tables[metric] for tables in of_subjects], axis=0) for metric in of_subjects[0]
            }
    rows = [
        {"subject": subject, "system": name, "metric": metric, **permutation_test(table, true, n_permutations, seed)}
        for (subject, name), tables in tested.items()
        for metric, table in tables.items()
        if np.isfinite(table).all(axis=1).any()
    ]
    columns = ["subject", "system", "metric", "observed", "permuted_mean", "permuted_high", "p", "n"]
    table = pd.DataFrame(rows, columns=columns)
    corrected = table.groupby("subject", sort=False)["p"].transform(lambda p: holm(p.to_numpy()))
    table.insert(columns.index("n"), "p_holm", corrected)
    return table
