r"""Give back to decoded features the variance that ridge regression takes from them.

A ridge prediction of a standardised target has a deviation s far below 1: noise in the voxels, and the penalty, pull it
towards the mean. Generators and losses that know only targets of deviation 1 take such a prediction for a picture near
the mean one. Restoring divides by s, feature by feature:

    restored = (decoded - m) (t / s)^strength + M

with m and s the mean and deviation of predictions, M and t those of the training targets.

Bringing decoded features to the mean and deviation of the training features is the Kamitani lab's (Shen et al. 2019,
doi 10.1371/journal.pcbi.1006633, Methods; Horikawa & Kamitani 2017, doi 10.1038/ncomms15037): there m and s are of the
test predictions themselves, so that each decoded image depends on the others that are tested with it. Here they are of
cross-validated predictions of training images, so that an image alone is decoded as in the batch; this, `strength`, and
restoring z and c of a latent diffusion model are this project's.
"""

import numpy as np

from feature_decoding.ridge import Scaler


def restore_variance(
    decoded: np.ndarray,
    predictions: Scaler,
    targets: Scaler,
    factor: np.ndarray | float = 1.0,
    strength: float = 1.0,
) -> np.ndarray:
    """Bring decoded features to the mean and deviation of the training targets, one by one.

    Parameters
    ----------
    decoded : array of shape (n_test, n_features)
    predictions : Scaler
        Whose statistics `decoded` is taken to have: of held-out predictions of training images; or, as released by
        others, of `decoded` itself, which makes each decoded image depend on the others that are tested with it.
    targets : Scaler
        Of the training targets.
    factor : array of shape (n_test, 1) or float
        Of the deviation of predictions, where `decoded` are of averages over trials but `predictions` of single ones
        (`spread_of_averages`).
    strength : float
        1 restores all of the deviation, 0 none of it, .5 its square root.

    Returns
    -------
    array of shape (n_test, n_features)
    """
    gain = (targets.std / predictions.std / factor) ** strength
    return (decoded - predictions.mean) * gain + targets.mean


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
