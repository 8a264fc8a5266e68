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


def spread_of_averages(held_out: np.ndarray, by_folds: np.ndarray, by_all: np.ndarray, image: np.ndarray) -> np.ndarray:
    """How much less predictions of averages over an image's trials spread than those of single trials, as a factor.

    Held-out predictions of single trials of different images have the variance V = signal + noise; predictions of the
    trials of one image, by the same regressions, that of the noise, W. An average over R trials, by the regression on
    all images, keeps the signal, and of its own noise W' only W' / R:

        factor^2 = (max(V - W, 0) + W' / R) / V

    All are means over features. W and W' of an image are of its own trials alone, so that no image depends on another.

    Parameters
    ----------
    held_out : array of shape (n, n_features)
    by_folds : array of shape (n_folds, n_trials, n_features)
    by_all : array of shape (n_trials, n_features)
        Predictions of single trials of test images, as `fold_predictions` gives them, and by the regression on all.
    image : array of shape (n_trials,), int
        From 0 to n_images - 1, each with a trial or more.

    Returns
    -------
    array of shape (n_images,)
        1 for an image with a single trial.
    """
    total = held_out.var(axis=0, dtype=np.float64).mean()
    factors = np.ones(image.max() + 1)
    for i in range(len(factors)):
        rows = np.flatnonzero(image == i)
        if len(rows) > 1:
            noise = by_folds[:, rows].var(axis=1, ddof=1, dtype=np.float64).mean()
            own_noise = by_all[rows].var(axis=0, ddof=1, dtype=np.float64).mean()
            factors[i] = np.sqrt((max(total - noise, 0) + own_noise / len(rows)) / total)
    return factors


def restore_variance(
    decoded: np.ndarray, predictions: np.ndarray, targets: np.ndarray, factor: np.ndarray | float = 1.0
) -> np.ndarray:
    """Bring decoded features to the mean and deviation of the training targets, one by one.

    (decoded - mean of predictions) / deviation of predictions * deviation of targets + mean of targets

    Parameters
    ----------
    decoded : array of shape (n_test, n_features)
    predictions : array of shape (n, n_features)
        Whose statistics `decoded` is taken to have: held-out predictions of training images; or, as released, `decoded`
        itself, which makes each decoded image depend on the others that are tested with it.
    targets : array of shape (n_train, n_features)
    factor : array of shape (n_test, 1) or float
        Of the deviation of predictions, where `decoded` are of averages over trials but `predictions` of single ones.
    """
    deviation = predictions.std(axis=0) * factor
    standard = (decoded - predictions.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return standard * targets.std(axis=0) + targets.mean(axis=0)
