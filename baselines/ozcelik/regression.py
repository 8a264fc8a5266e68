"""Ozcelik's decoders: one ridge regression for each of the three targets, and the variance that it takes away."""

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_predict


def held_out_predictions(X: np.ndarray, Y: np.ndarray, alpha: float, seed: int, n_folds: int = 5) -> np.ndarray:
    """Predictions of training images by regressions that did not see them: (n_images, n_outputs).

    They have the spread of predictions of new images; those of images that were fitted to have more.
    """
    folds = KFold(min(n_folds, len(X)), shuffle=True, random_state=seed)
    return cross_val_predict(Ridge(alpha), X, Y, cv=folds)


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
