"""Runs as arrays of volumes and vertices: drifts taken out, scaled, and compared in time; no dataset is known here.

Detrending and scaling are those of step4_fMRI_preparation_FLSR.py of Mind-Animator's authors
(github.com/ReedOnePeck/MindAnimator).
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.polynomial.legendre import legvander
from scipy import stats

from minddiffuser.store import DataError

# A run of which more than this share of the vertices has no data was not fetched or written to its end.
EMPTY_SHARE = 0.1
_CONSTANT = 1e-6  # deviation about the polynomial, relative to the mean, up to which a vertex is constant
_AT_ONCE = 4096  # vertices in float64
_CERTAIN = 1e-4  # p from which on a lag is one


def detrend(X: np.ndarray, order: int) -> np.ndarray:
    """Take from each column the polynomial in time that fits it best.

    Parameters
    ----------
    X : array of shape (n_volumes, n_vertices)
    order : int
        Of the polynomial; 0 takes the mean.

    Returns
    -------
    array of shape (n_volumes, n_vertices), float64

    Raises
    ------
    DataError
        There are no more volumes than the polynomial has coefficients.
    """
    if len(X) <= order + 1:
        raise DataError(
            f"{len(X)} volumes are left nothing by a polynomial of order {order}",
            "lower experiment.mind_animator.voxels.detrend_order",
        )
    basis = np.linalg.qr(legvander(np.linspace(-1, 1, len(X)), order))[0]
    centred = X - X.mean(axis=0, dtype=np.float64)  # first, for precision: the mean is a hundred times the rest
    return centred - basis @ (basis.T @ centred)


def standardise_run(X: np.ndarray, order: int, invalid: Literal["error", "zero"], path: Path) -> np.ndarray:
    """Detrend each vertex over a run, and scale it to deviation 1 (of the population).

    Parameters
    ----------
    X : array of shape (n_volumes, n_vertices)
    order : int
        See `detrend`.
    invalid : "error" or "zero"
        What to do with vertices that are constant, or nothing but the polynomial, or not a number in some volume:
        stop, or let them be 0 in the whole run, their mean.
    path : Path
        Where they are from.

    Returns
    -------
    array of shape (n_volumes, n_vertices), float32
        No other vertex is 0 in the whole run.

    Raises
    ------
    DataError
        There are such vertices, and `invalid` is "error"; or they are more than `EMPTY_SHARE` of all.
    """
    scaled, empty = np.zeros(X.shape, np.float32), np.zeros(X.shape[1], bool)
    for start in range(0, X.shape[1], _AT_ONCE):
        columns = slice(start, start + _AT_ONCE)
        part = X[:, columns].astype(np.float64)
        is_whole = np.isfinite(part).all(axis=0)
        part[:, ~is_whole] = 0
        left = detrend(part, order)
        deviation = np.sqrt((left**2).mean(axis=0))
        empty[columns] = ~is_whole | (deviation <= _CONSTANT * np.abs(part).mean(axis=0))
        scaled[:, columns] = np.where(empty[columns], 0, left / np.where(empty[columns], 1, deviation))
    if not empty.any():
        return scaled
    text = f"{path} has no data in {empty.sum()} of {len(empty)} vertices, which are constant or not a number"
    if empty.mean() > EMPTY_SHARE:
        raise DataError(f"{text}: it was not fetched or written to its end", "fetch it again", path)
    if invalid == "error":
        remedy = "fetch it again, or set experiment.mind_animator.voxels.invalid=zero to use their mean"
        raise DataError(text, remedy, path)
    return scaled


def lag_of(run: np.ndarray, others: np.ndarray, most: int = 8) -> int:
    """Tell by how many volumes a run was recorded later in the film than other runs of it.

    With a lag of 5 volume i of the run is like volume i + 5 of the others. The lag is the one at which volumes are most
    alike (mean product over volumes and vertices), unless that is so by chance: volume by volume they must be more
    alike than at lag 0, in a t-test with p below 1e-4.

    Parameters
    ----------
    run, others : arrays of shape (n_volumes, n_vertices)
        Standardised; of the others the mean.
    most : int
        Largest lag that is looked for, either way; at most a quarter of the volumes.

    Returns
    -------
    int
        Negative where the run was recorded earlier.
    """
    alike = run @ others.T  # (n_volumes of the run, n_volumes of the others)
    most = min(most, len(run) // 4)
    lag = max(range(-most, most + 1), key=lambda k: (np.diagonal(alike, k).mean(), -abs(k)))
    if lag == 0:
        return 0
    at_zero = np.diagonal(alike)[:-lag] if lag > 0 else np.diagonal(alike)[-lag:]
    test: Any = stats.ttest_rel(np.diagonal(alike, lag), at_zero, alternative="greater")
    return lag if test.pvalue < _CERTAIN else 0
