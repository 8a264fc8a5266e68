"""Takagi & Nishimoto's decoders: ridge regression on all voxels, with a penalty for each output.

    w_d = argmin_w || X w - y_d ||^2 + alpha_d ||w||^2,    alpha_d the best of a few in 5-fold cross-validation

X is standardised by the training trials. In the released code the targets are not centred, and there is no intercept:
as X has mean 0, so has everything that is predicted, and the mean of a target over the training images is lost. Of
the text embedding, whose first token is the same for every caption, that is most.

Reference: https://github.com/yu-takagi/StableDiffusionReconstruction, codes/utils/ridge.py; himalaya's RidgeCV.
"""

import numpy as np
from himalaya.ridge import RidgeCV
from sklearn.preprocessing import StandardScaler

ALPHAS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_OUTPUTS_AT_ONCE = 2000


def fit_predict(X: np.ndarray, Y: np.ndarray, X_test: np.ndarray, center_targets: bool) -> np.ndarray:
    """Fit on training rows, and predict test rows.

    Parameters
    ----------
    X : array of shape (n_trials, n_voxels)
    Y : array of shape (n_trials, n_outputs)
    X_test : array of shape (n_images, n_voxels)
    center_targets : bool
        Subtract the mean of the targets, and add it to what is predicted; false as released.

    Returns
    -------
    array of shape (n_images, n_outputs), float32
    """
    scaler = StandardScaler().fit(X)
    mean = Y.mean(axis=0, dtype=np.float64).astype(np.float32) if center_targets else np.zeros(Y.shape[1], np.float32)
    model = RidgeCV(
        alphas=ALPHAS,
        fit_intercept=False,
        solver_params={"n_targets_batch": _OUTPUTS_AT_ONCE, "n_targets_batch_refit": _OUTPUTS_AT_ONCE},
    )
    model.fit(scaler.transform(X).astype(np.float32), Y.astype(np.float32) - mean)
    return model.predict(scaler.transform(X_test).astype(np.float32)) + mean
