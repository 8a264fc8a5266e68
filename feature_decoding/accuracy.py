"""How well targets are decoded, and how well they would be by chance."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from minddiffuser.correlation import unit_rows

N_PERMUTATIONS = 200


def correlation_and_floor(decoded: np.ndarray, true: np.ndarray, axis: int) -> tuple[float, float]:
    """Mean correlation along an axis, and its 95th percentile when images are paired at random.

    With columns (axis 0) or rows (axis 1) standardised, the mean over units or images is a sum over images i of
    G[i, p(i)], G = decoded true^T, for a pairing p: one matrix product serves all permutations.

    Parameters
    ----------
    decoded, true : arrays of shape (n_images, n_units)
    axis : int
        0: correlation across images, mean over units. 1: across units, mean over images.
    """
    n_means = decoded.shape[1 - axis]
    units = [unit_rows(values) if axis else unit_rows(values.T).T for values in (decoded, true)]
    G = units[0] @ units[1].T  # (n_images, n_images)
    images, rng = np.arange(len(G)), np.random.default_rng(0)
    chance = [G[images, rng.permutation(images)].sum() / n_means for _ in range(N_PERMUTATIONS)]
    return G.trace() / n_means, float(np.quantile(chance, 0.95))


def ridge_operator(X: np.ndarray, X_test: np.ndarray, alpha: float) -> np.ndarray:
    """Ridge regression, with an intercept that is not penalised, as the matrix that makes predictions of targets.

    P = (X_test - m) (X_c^T X_c + alpha I)^-1 X_c^T + 1/n, X_c = X - m: any targets Y of the training images predict
    P Y of the test images, so that one factorisation serves all targets.

    Parameters
    ----------
    X : array of shape (n_train, n_voxels)
    X_test : array of shape (n_test, n_voxels)
    alpha : float

    Returns
    -------
    array of shape (n_test, n_train)
    """
    mean = X.mean(axis=0)
    centred = X - mean
    G = centred.T @ centred
    G[np.diag_indices_from(G)] += alpha
    weights = cho_solve(cho_factor(G, lower=True, overwrite_a=True), (X_test - mean).T)  # (n_voxels, n_test)
    return weights.T @ centred.T + 1 / len(X)


def noise_ceiling_by_image(
    first: np.ndarray, second: np.ndarray, n_repetitions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correlation across units that decoding an image would have with the truth, were noise its only fault.

    What two halves of an image's trials decode to agrees as far as it repeats: r between them is the reliability of one
    half. The reliability of all n trials follows by the Spearman-Brown formula, n / (n // 2) times as many trials, and
    its square root is the correlation with what infinitely many trials would decode to: what r would be, with these
    trials and decoders, if that were the truth. With more trials r tends to r / ceiling, and a decoder that lets less
    noise through has a higher ceiling. Because what is below 0 counts as 0, the mean over images of pure noise is
    above 0 (.1 to .3 for few independent units): read it beside the reliability itself, which has no such bias.

    Parameters
    ----------
    first, second : arrays of shape (n_images, n_units)
        Decoded, in standardised units, from halves of the trials.
    n_repetitions : array of shape (n_images,)
        All trials.

    Returns
    -------
    reliability : array of shape (n_images,)
        Correlation of the halves, in [-1, 1]; NaN for images with a single trial.
    ceiling : array of shape (n_images,)
        In [0, 1]; NaN for images with a single trial; 0 where the reliability is not above 0.
    """
    repeated = n_repetitions > 1
    with np.errstate(invalid="ignore", divide="ignore"):
        reliability = np.where(repeated, (unit_rows(first) * unit_rows(second)).sum(axis=1), np.nan)
        r = np.maximum(reliability, 0)
        times = n_repetitions / (n_repetitions // 2)
        return reliability, np.where(repeated, np.sqrt(times * r / (1 + (times - 1) * r)), np.nan)
