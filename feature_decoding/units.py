"""Which units of a CLIP layer are worth decoding (specification section 3).

The score of a unit is the absolute correlation between its values and their prediction from all voxels, averaged
over the folds of a cross-validation on the training images. The original predicts with himalaya's
SparseGroupLassoCV at its defaults, which is least squares stopped after 300 steps; here it is ridge regression.
"""

from collections.abc import Iterator

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.model_selection import KFold


def cross_validated_correlation(
    X: np.ndarray, Y_blocks: Iterator[np.ndarray], alpha: float, n_folds: int
) -> Iterator[np.ndarray]:
    """Score units, block by block.

    In its dual form the prediction is K_test (K_train + alpha I)^-1 Y_train with K = X X^T, so that the Gram
    matrix of images serves all units and is factorised once a fold.

    Parameters
    ----------
    X : array of shape (n_images, n_voxels)
        Voxels of the training images, standardised.
    Y_blocks : iterator of arrays of shape (n_images, n_units_here)
    alpha : float
        Penalty of the weights; the intercept is not penalised.
    n_folds : int
        Contiguous folds, not shuffled.

    Yields
    ------
    array of shape (n_units_here,)
        Mean over folds of |r| on the held-out images; a constant unit has 0.
    """
    folds = []
    for train, test in KFold(n_folds).split(X):
        centred = X - X[train].mean(axis=0)
        K = centred[train] @ centred[train].T
        K[np.diag_indices_from(K)] += alpha
        folds.append((train, test, cho_factor(K, lower=True), centred[test] @ centred[train].T))
    for Y in Y_blocks:
        scores = []
        for train, test, factor, K_test in folds:
            predicted = K_test @ cho_solve(factor, Y[train] - Y[train].mean(axis=0))
            scores.append(np.abs(paired_correlation(predicted, Y[test])))
        yield np.mean(scores, axis=0)


def paired_correlation(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Pearson correlation of each column of A with the same column of B; 0 where one is constant."""
    A, B = A - A.mean(axis=0), B - B.mean(axis=0)
    norm = np.linalg.norm(A, axis=0) * np.linalg.norm(B, axis=0)
    return (A * B).sum(axis=0) / np.where(norm > 0, norm, np.inf)


def best_units(scores: np.ndarray, keep: float) -> np.ndarray:
    """Choose the share `keep` of units with the highest scores: sorted indices; among equals the first win."""
    n_kept = round(keep * len(scores))
    return np.sort(np.argsort(-scores, kind="stable")[:n_kept])
