"""Which units of a CLIP layer are worth decoding, as the authors' released code chooses them.

The score of a unit is the absolute correlation between its values and their prediction from all voxels, averaged
over the folds of a cross-validation on the training images. The original predicts with himalaya's
SparseGroupLassoCV at its defaults: penalties of 0, and 300 accelerated gradient steps. That is least squares stopped
early, and `early_stopping` gives it in closed form; the default is ridge regression.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.linalg import cho_factor, cho_solve, svd
from sklearn.model_selection import KFold

from minddiffuser.correlation import correlate_pairs

_N_STEPS, _TOLERANCE = 300, 1e-4  # himalaya's defaults

Predictor = Callable[[np.ndarray], np.ndarray]
"""Training targets (n_train, n_units) to predictions of the held-out ones (n_test, n_units)."""


def cross_validated_correlation(
    X: np.ndarray, Y_blocks: Iterator[np.ndarray], n_folds: int, make: Callable[[np.ndarray, np.ndarray], Predictor]
) -> Iterator[np.ndarray]:
    """Score units, block by block.

    Parameters
    ----------
    X : array of shape (n_images, n_voxels)
        Voxels of the training images, standardised.
    Y_blocks : iterator of arrays of shape (n_images, n_units_here)
    n_folds : int
        Contiguous folds, not shuffled.
    make : callable
        Training and held-out voxels to a Predictor; called once a fold, so that what all units share is done once.

    Yields
    ------
    array of shape (n_units_here,)
        Mean over folds of |r| on the held-out images; a constant unit has 0.
    """
    folds = [(train, test, make(X[train], X[test])) for train, test in KFold(n_folds).split(X)]
    for Y in Y_blocks:
        scores = [np.abs(correlate_pairs(predict(Y[train]).T, Y[test].T)) for train, test, predict in folds]
        yield np.mean(scores, axis=0)


def ridge(X: np.ndarray, X_test: np.ndarray, alpha: float) -> Predictor:
    """Ridge regression with an intercept that is not penalised, in its dual form.

    The prediction is P Y, P = K_test (K + alpha I)^-1, with K = X X^T of centred voxels: P, of shape (n_test, n_train),
    serves all units, of which there are more than test images, and is all that is kept.
    """
    mean = X.mean(axis=0)
    centred = X - mean
    K, K_test = centred @ centred.T, (X_test - mean) @ centred.T
    del centred
    K[np.diag_indices_from(K)] += alpha
    # K is its own transpose, which LAPACK takes without a copy.
    P = cho_solve(cho_factor(K.T, lower=True, overwrite_a=True), K_test.T, overwrite_b=True).T
    return lambda Y: P @ (Y - Y.mean(axis=0))


def early_stopping(X: np.ndarray, X_test: np.ndarray) -> Predictor:
    r"""Least squares from 0 by FISTA's accelerated gradient steps, no intercept, stopped as himalaya stops.

    With X = U diag(s) V^T, every step acts on each singular vector alone: after k steps the coefficients are
    V diag(f_k(s)) U^T y, where f_k follows

        f_{k+1} = g_k - (s^2 g_k - s) / max(s)^2
        g_{k+1} = f_{k+1} + (t_k - 1) / t_{k+1} (f_{k+1} - f_k),    t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2

    A unit stops at the first k with ||w_k - w_{k-1}|| <= 1e-4 ||w_k||, or at k = 300. So all units are solved by one
    decomposition. (himalaya's step is 1 over an estimate of max(s)^2, by power iterations; the exact value is used.)
    Source: himalaya 0.4, `lasso/_group_lasso.py`; FISTA: Beck & Teboulle 2009, doi 10.1137/080716542.
    """
    U, s, Vt = svd(X, full_matrices=False)
    projected = X_test @ Vt.T  # (n_test, n_singular)
    f, g, t = np.zeros_like(s), np.zeros_like(s), 1.0
    filters = [f]
    for _ in range(_N_STEPS):
        f = g - (s**2 * g - s) / s[0] ** 2
        t_next = (1 + np.sqrt(1 + 4 * t**2)) / 2
        g = f + (t - 1) / t_next * (f - filters[-1])
        t = t_next
        filters.append(f)
    F = np.stack(filters)  # (n_steps + 1, n_singular)

    def predict(Y: np.ndarray) -> np.ndarray:
        loadings = U.T @ Y  # (n_singular, n_units)
        change = np.sqrt(np.diff(F, axis=0) ** 2 @ loadings**2)  # (n_steps, n_units)
        converged = change <= _TOLERANCE * (np.sqrt(F[1:] ** 2 @ loadings**2) + 1e-16)
        stop = np.where(converged.any(axis=0), converged.argmax(axis=0), _N_STEPS - 1) + 1
        return projected @ (F[stop].T * loadings)

    return predict


def best_units(scores: np.ndarray, keep: float) -> np.ndarray:
    """Choose the share `keep` of units with the highest scores: sorted indices; among equals the first win."""
    n_kept = round(keep * len(scores))
    return np.sort(np.argsort(-scores, kind="stable")[:n_kept])
