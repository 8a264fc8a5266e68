"""Takagi & Nishimoto's decoders: ridge regression on all voxels, with a penalty for each output.

    w_d = argmin_w || X w - (y_d - m_d) ||^2 + alpha_d ||w||^2,    alpha_d the best of some in 5-fold cross-validation

Rows are trials, and X is standardised by the training trials. In the released code the targets are not centred (m = 0),
and there is no intercept: as X has mean 0, so has everything that is predicted, and the mean of a target over the
training images is lost. Of the text embedding, whose first token is the same for every caption, that is most.

The form `restored`, which is this project's, brings each output to the mean and deviation of its targets, by those of
predictions of training images that were held out (feature_decoding/variance.py).

Reference: https://github.com/yu-takagi/StableDiffusionReconstruction, codes/utils/ridge.py; himalaya's RidgeCV.
"""

from collections.abc import Sequence

import numpy as np
from himalaya.kernel_ridge import KernelRidgeCV
from himalaya.ridge import RidgeCV
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from feature_decoding.ridge import Scaler
from feature_decoding.variance import restore_variance


def mean_over_trials(Y: np.ndarray, image_of_trial: np.ndarray) -> np.ndarray:
    """Mean of the targets over trials, (n_outputs,) float32: to be subtracted before fitting, and added to predictions.

    Parameters
    ----------
    Y : array of shape (n_images, n_outputs)
    image_of_trial : array of shape (n_trials,)
        Row of Y.
    """
    share = (np.bincount(image_of_trial, minlength=len(Y)) / len(image_of_trial)).astype(np.float32)
    constant = (Y[0] == Y).all(axis=0)  # such a target is given back to the last bit
    return np.where(constant, Y[0], share @ Y).astype(np.float32)


def fit_predict(
    X: np.ndarray,
    Y: np.ndarray,
    image_of_trial: np.ndarray,
    mean: np.ndarray,
    X_test: np.ndarray,
    alphas: Sequence[float],
) -> np.ndarray:
    """Fit on training trials, and predict test images.

    Each output is fitted by itself, so that any of them can be fitted together; their targets by trials are what takes
    memory.

    Parameters
    ----------
    X : array of shape (n_trials, n_voxels)
    Y : array of shape (n_images, n_outputs)
        Targets of the training images.
    image_of_trial : array of shape (n_trials,)
        Row of Y that each trial showed.
    mean : array of shape (n_outputs,)
        Subtracted from the targets, and added to what is predicted; zeros as released.
    X_test : array of shape (n_test, n_voxels)
        Means over the trials of each test image.
    alphas : sequence of float

    Returns
    -------
    array of shape (n_test, n_outputs), float32
    """
    scaler = StandardScaler().fit(X)
    scaled, scaled_test = (scaler.transform(part).astype(np.float32) for part in (X, X_test))
    # The same numbers either way; himalaya advises the kernel where there are more voxels than trials, for time.
    options = {"n_targets_batch": 2000, "n_targets_batch_refit": 2000, "n_alphas_batch": 1}
    if X.shape[0] < X.shape[1]:
        model = KernelRidgeCV(alphas=list(alphas), solver_params=options)
    else:
        model = RidgeCV(alphas=list(alphas), fit_intercept=False, solver_params=options)
    targets = (Y - mean).astype(np.float32)[image_of_trial]
    return model.fit(scaled, targets).predict(scaled_test) + mean


def held_out_predictions(
    X: np.ndarray,
    Y: np.ndarray,
    image_of_trial: np.ndarray,
    centered: bool,
    alphas: Sequence[float],
    seed: int,
    n_folds: int = 5,
) -> np.ndarray:
    """Predict each training image by a regression on the single trials of the others.

    Folds are of images, and all trials of an image are in one. What is predicted is the mean over an image's trials, as
    at test: where both have as many trials, such predictions have the spread of those of test images.

    Parameters
    ----------
    X : array of shape (n_trials, n_voxels)
    Y : array of shape (n_images, n_outputs)
    image_of_trial : array of shape (n_trials,)
        Row of Y that each trial showed; each image has a trial or more.
    centered : bool
        Whether the targets' mean over the trials that are fitted is subtracted, and added to what is predicted.
    alphas : sequence of float
        Penalties, of which each fold chooses anew.
    seed : int
        Of the folds.
    n_folds : int

    Returns
    -------
    array of shape (n_images, n_outputs), float32
        In the units of Y.
    """
    held_out = np.empty(Y.shape, np.float32)
    for _, images in KFold(min(n_folds, len(Y)), shuffle=True, random_state=seed).split(Y):
        fitted = ~np.isin(image_of_trial, images)
        trials = image_of_trial[fitted]
        mean = mean_over_trials(Y, trials) if centered else np.zeros(Y.shape[1], np.float32)
        averages = np.stack([X[image_of_trial == image].mean(axis=0) for image in images])
        held_out[images] = fit_predict(X[fitted], Y, trials, mean, averages, alphas)
    return held_out


def restore(decoded: np.ndarray, held_out: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Bring decoded outputs to the mean and deviation of their targets; one whose target is constant stays as it is.

    Parameters
    ----------
    decoded : array of shape (n_test, n_outputs)
    held_out : array of shape (n_images, n_outputs)
        Predictions of the training images, of `held_out_predictions`.
    Y : array of shape (n_images, n_outputs)
        Their targets.

    Returns
    -------
    array of shape (n_test, n_outputs), float32
    """
    targets = Scaler.of(Y)
    restored = restore_variance(decoded, Scaler.of(held_out), targets)
    # Scaler gives a constant target deviation 1, which its predictions, if they are noise, would be blown up to.
    return np.where(targets.std == 1, decoded, restored).astype(np.float32)
