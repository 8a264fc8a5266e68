r"""A control of this project: the next frame's latents as a bilinear function of this frame's and of a velocity.

    z_{t+1} = z_t + A(v) z_t,   A(v) = v_x A_1 + v_y A_2 + v_x^2 A_3 + v_y^2 A_4 + v_x v_y A_5

A change of a picture is what is in it times how it moves. A generator to which the brain's signal is only added cannot
have this product; this one has little else, and is fitted in closed form:

    min_A  sum over clips and frames || z_{t+1} - z_t - A(v) z_t ||^2 + alpha sum_k || A_k ||^2

Given the first frame and the velocity as decoded from the brain, it tells a brain without motion, for which films of
both fail, from a generator without motion. At v = 0 nothing moves.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg

_N_TERMS = 5


class Mover(NamedTuple):
    """A fitted mover.

    Attributes
    ----------
    weights : array of shape (5, d, d)
        The transposed A_k.
    """

    weights: np.ndarray

    def roll_out(self, first: np.ndarray, velocity: np.ndarray, n_frames: int = 8) -> np.ndarray:
        """Make films from their first frames.

        Parameters
        ----------
        first : array of shape (n_clips, d)
            Latents of the first frame.
        velocity : array of shape (n_clips, 2)
            In the units of the fit.
        n_frames : int
            With the first.

        Returns
        -------
        array of shape (n_clips, n_frames, d)
        """
        frames, terms = [first], _terms(velocity)
        for _ in range(n_frames - 1):
            moved = (terms[:, k, None] * (frames[-1] @ W) for k, W in enumerate(self.weights))
            frames.append(frames[-1] + sum(moved))
        return np.stack(frames, axis=1)


def fit_mover(Z: np.ndarray, velocity: np.ndarray, alpha: float) -> Mover:
    """Fit a mover by ridge regression.

    Peak memory: a matrix of 5 d, or of as many rows as there are pairs of frames, whichever is less, squared, in
    float64, beside a copy of Z: 13 MB for latents of 256 numbers; 6 GB for 4,000 clips of 16,384.

    Parameters
    ----------
    Z : array of shape (n_clips, n_frames, d)
        Latents.
    velocity : array of shape (n_clips, 2)
        Of each clip, such as its mean optical flow in pixels a frame.
    alpha : float
        Penalty, above 0.

    Raises
    ------
    ValueError
        alpha is not above 0; Z and velocity are not of the same clips; a clip has fewer than two frames.
    """
    if alpha <= 0:
        raise ValueError(f"alpha is {alpha}, and must be above 0")
    if len(Z) != len(velocity) or Z.shape[1] < 2:
        raise ValueError(f"Z {Z.shape} and velocity {velocity.shape}: expected n_clips each, and at least two frames")
    n_frames, d = Z.shape[1:]
    X = Z[:, :-1].reshape(-1, d).astype(np.float64)  # (n_pairs, d)
    Y = np.diff(Z, axis=1).reshape(-1, d).astype(np.float64)
    terms = np.repeat(_terms(velocity), n_frames - 1, axis=0)  # (n_pairs, 5)
    if len(X) >= _N_TERMS * d:
        G, products = np.empty((_N_TERMS, d, _N_TERMS, d)), np.empty((_N_TERMS, d, d))
        for k in range(_N_TERMS):
            products[k] = (terms[:, k, None] * X).T @ Y
            for m in range(k + 1):
                G[k, :, m] = G[m, :, k] = ((terms[:, k] * terms[:, m])[:, None] * X).T @ X
        weights = _solve(G.reshape(_N_TERMS * d, -1), products.reshape(-1, d), alpha).reshape(_N_TERMS, d, d)
    else:
        dual = _solve((terms @ terms.T) * (X @ X.T), Y, alpha)  # (n_pairs, d)
        weights = np.stack([(terms[:, k, None] * X).T @ dual for k in range(_N_TERMS)])
    return Mover(weights)


def _terms(velocity: np.ndarray) -> np.ndarray:
    """Give v_x, v_y, v_x^2, v_y^2, v_x v_y of (n, 2) as (n, 5)."""
    x, y = np.asarray(velocity, np.float64).T
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def _solve(G: np.ndarray, products: np.ndarray, alpha: float) -> np.ndarray:
    G.ravel()[:: len(G) + 1] += alpha
    return scipy.linalg.solve(G, products, assume_a="pos", overwrite_a=True)
