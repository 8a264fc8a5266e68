"""Takagi & Nishimoto's decoders: ridge regression on all voxels, with a penalty for each output.

    w_d = argmin_w || X w - (y_d - m_d) ||^2 + alpha_d ||w||^2,    alpha_d the best of some in 5-fold cross-validation

Rows are trials, and X is standardised by the training trials. In the released code the targets are not centred (m = 0),
and there is no intercept: as X has mean 0, so has everything that is predicted, and the mean of a target over the
training images is lost. Of the text embedding, whose first token is the same for every caption, that is most.

Reference: https://github.com/yu-takagi/StableDiffusionReconstruction, codes/utils/ridge.py; himalaya's RidgeCV.
"""

from collections.abc import Sequence

import numpy as np
from himalaya.kernel_ridge import KernelRidgeCV
from himalaya.ridge import RidgeCV
from sklearn.preprocessing import StandardScaler


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
