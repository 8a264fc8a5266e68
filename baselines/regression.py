"""Plain ridge regression on all voxels, as several rivals have it, and the variance that it takes away."""

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


def held_out_predictions(X: np.ndarray, Y: np.ndarray, alpha: float, seed: int, n_folds: int = 5) -> np.ndarray:
    """Predictions of training images by regressions that did not see them: (n_images, n_outputs).

    They have the spread of predictions of new images; those of images that were fitted to have more.
    """
    predicted = np.empty(Y.shape, np.float32)
    for train, test in KFold(min(n_folds, len(X)), shuffle=True, random_state=seed).split(X):
        predicted[test] = fit_predict(X[train], Y[train], X[test], alpha)
    return predicted


def restore_variance(decoded: np.ndarray, predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Bring decoded features to the mean and deviation of the training targets, one by one.

    (decoded - mean of predictions) / deviation of predictions * deviation of targets + mean of targets

    Parameters
    ----------
    decoded : array of shape (n_test, n_features)
    predictions : array of shape (n, n_features)
        Whose statistics `decoded` is taken to have: held-out predictions of training images; or, as released, `decoded`
        itself, which makes each decoded image depend on the others that are tested with it.
    targets : array of shape (n_train, n_features)
    """
    deviation = predictions.std(axis=0)
    standard = (decoded - predictions.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return standard * targets.std(axis=0) + targets.mean(axis=0)
