"""Plain ridge regression on all voxels, as several rivals have it, and its predictions of held-out images."""

import numpy as np
from sklearn.model_selection import KFold

from feature_decoding.units import ridge

_OUTPUTS_AT_ONCE = 4096


def fit_predict(X: np.ndarray, Y: np.ndarray, X_test: np.ndarray, alpha: float) -> np.ndarray:
    """Ridge regression with an intercept, on all voxels: predictions of test images.

    Parameters
    ----------
    X : array of shape (n_images, n_voxels)
    Y : array of shape (n_images, n_outputs)
    X_test : array of shape (n_test, n_voxels)
    alpha : float

    Returns
    -------
    array of shape (n_test, n_outputs), float32
    """
    predict = ridge(X, X_test, alpha)
    predicted = np.empty((len(X_test), Y.shape[1]), np.float32)
    for start in range(0, Y.shape[1], _OUTPUTS_AT_ONCE):
        block = Y[:, start : start + _OUTPUTS_AT_ONCE].astype(np.float64)
        predicted[:, start : start + _OUTPUTS_AT_ONCE] = predict(block) + block.mean(axis=0)
    return predicted


def held_out_predictions(X: np.ndarray, Y: np.ndarray, alpha: float, seed: int) -> np.ndarray:
    """Predictions of training images by regressions that did not see them: (n_images, n_outputs).

    They have the spread of predictions of new images, if these are of as many trials; those of images that were fitted
    to have more.
    """
    return fold_predictions(X, Y, X[:0], alpha, seed)[0]


def fold_predictions(
    X: np.ndarray, Y: np.ndarray, X_new: np.ndarray, alpha: float, seed: int, n_folds: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Predict with regressions that each leave out a fold of the training images.

    Returns
    -------
    held_out : array of shape (n_images, n_outputs), float32
        Each training image by the regression that did not see it.
    new : array of shape (n_folds, n_new, n_outputs), float32
        The new images by all of them.
    """
    held_out, new = np.empty(Y.shape, np.float32), []
    for train, test in KFold(min(n_folds, len(X)), shuffle=True, random_state=seed).split(X):
        predicted = fit_predict(X[train], Y[train], np.concatenate([X[test], X_new]), alpha)
        held_out[test] = predicted[: len(test)]
        new.append(predicted[len(test) :])
    return held_out, np.stack(new)
