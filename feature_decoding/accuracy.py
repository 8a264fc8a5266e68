"""How well targets are decoded, and how well they would be by chance."""

import numpy as np

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
    G = _normalise(decoded, axis) @ _normalise(true, axis).T  # (n_images, n_images)
    images, rng = np.arange(len(G)), np.random.default_rng(0)
    chance = [G[images, rng.permutation(images)].sum() / n_means for _ in range(N_PERMUTATIONS)]
    return G.trace() / n_means, float(np.quantile(chance, 0.95))


def _normalise(values: np.ndarray, axis: int) -> np.ndarray:
    """Centre and scale to length 1 along an axis; what is constant becomes 0."""
    centred = values - values.mean(axis=axis, keepdims=True)
    norm = np.linalg.norm(centred, axis=axis, keepdims=True)
    return centred / np.where(norm > 0, norm, np.inf)
