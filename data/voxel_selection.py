"""Which vertices of the cortex are decoded from, and the scale of their rows.

Vertices are taken whose response to a training film repeats: as Mind-Animator's authors do in
step4_fMRI_preparation_FLSR.py, after Wen et al. 2018, doi 10.1093/cercor/bhx268.
"""

from typing import Any, Literal

import numpy as np
from scipy import stats

from minddiffuser.store import DataError

_AT_ONCE = 1024  # columns in float64


def fisher_z(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlate two recordings of the same film at each vertex: z = artanh r.

    Parameters
    ----------
    first, second : arrays of shape (n_volumes, n_vertices)

    Returns
    -------
    array of shape (n_vertices,), float64
        0 where one of them is constant; infinite where both are the same.
    """
    r = np.zeros(first.shape[1])
    for start in range(0, len(r), _AT_ONCE):
        columns = slice(start, start + _AT_ONCE)
        a, b = (X[:, columns].astype(np.float64) for X in (first, second))
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        length = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
        r[columns] = (a * b).sum(axis=0) / np.where(length > 0, length, 1)
    with np.errstate(divide="ignore"):
        return np.arctanh(np.where(np.abs(r) > 1 - 1e-12, np.sign(r), r))  # rounding hides that they are the same


def select_vertices(
    z: np.ndarray, n: int, ranking: Literal["p", "clipped_p"] = "p", tail: Literal["positive", "two_sided"] = "positive"
) -> np.ndarray:
    """Select the vertices that repeat best, by a t-test over films of whether the mean of z is 0.

    Parameters
    ----------
    z : array of shape (n_films, n_vertices)
        Of `fisher_z`.
    n : int
        Vertices that are selected.
    ranking : "p" or "clipped_p"
        By p; or, as released, by Bonferroni's min(n_vertices p, 1). Vertices with a p above 1 / n_vertices are tied
        there, and those that come first are taken: the left hemisphere's, by number.
    tail : "positive" or "two_sided"
        Of the test; two_sided, as released, takes vertices that repeat with the opposite sign too.

    Returns
    -------
    array of shape (n,), int
        In increasing order.

    Raises
    ------
    DataError
        There is one film, or p is defined for fewer than n vertices: it is not where z is infinite in a film, or the
        same in all.
    """
    n_films, n_vertices = z.shape
    if n_films < 2:
        raise DataError(f"{n_films} training film does not tell which vertices repeat: at least 2 are needed")
    with np.errstate(divide="ignore", invalid="ignore"):
        t = z.mean(axis=0) / (z.std(axis=0, ddof=1) / np.sqrt(n_films))
    is_defined = np.isfinite(t)
    if n > is_defined.sum():
        raise DataError(
            f"{n} vertices are to be selected, but {is_defined.sum()} of {n_vertices} have a p",
            "lower experiment.mind_animator.voxels.n",
        )
    t = np.where(is_defined, t if tail == "positive" else np.abs(t), -np.inf)
    if ranking == "p":
        place = -t  # in the order of p, and without p's underflow
    else:
        p: Any = stats.t.sf(t, n_films - 1) * (1 if tail == "positive" else 2)
        place = np.where(is_defined, np.minimum(p * n_vertices, 1), np.inf)
    return np.sort(np.argsort(place, kind="stable")[:n])


def scaled_like(X: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Shift and scale columns as those of a reference must be, to have mean 0 and deviation 1 (of the population).

    Parameters
    ----------
    X : array of shape (..., n_columns)
    reference : array of shape (n_rows, n_columns)

    Returns
    -------
    array of the shape of X, float32
        Columns that are constant in the reference are only shifted.
    """
    scaled = np.empty(X.shape, np.float32)
    for start in range(0, X.shape[-1], _AT_ONCE):
        columns = slice(start, start + _AT_ONCE)
        rows = reference[:, columns].astype(np.float64)
        deviation = np.where(np.ptp(rows, axis=0) == 0, 1, rows.std(axis=0))
        scaled[..., columns] = (X[..., columns] - rows.mean(axis=0)) / deviation
    return scaled
