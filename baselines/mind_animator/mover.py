r"""A control of this project: the next frame's latents as a bilinear function of this frame's and of a velocity.

    z_{t+1} = z_t + A(v) z_t,   A(v) = v_x A_1 + v_y A_2 + v_x^2 A_3 + v_y^2 A_4 + v_x v_y A_5

A change of a picture is what is in it times how it moves. A generator to which the brain's signal is only added cannot
have this product; this one has little else, and is fitted in closed form:

    min_A  sum over clips and frames || z_{t+1} - z_t - A(v) z_t ||^2 + alpha sum_k || A_k ||^2

Given the first frame and the velocity as decoded from the brain, it tells a brain without motion, for which films of
both fail, from a generator without motion. At v = 0 nothing moves.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch.nn import functional

_N_TERMS = 5
_MOST_PAIRS = 12_000
_CELL = 8  # pixels of a cell of latents


class Mover(NamedTuple):
    """A fitted mover.

    Attributes
    ----------
    change : callable
        From latents (n_clips, d) and the terms of velocities (n_clips, 5) to the change to the next frame (n_clips, d).
    """

    change: Callable[[np.ndarray, np.ndarray], np.ndarray]

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
            frames.append(frames[-1] + self.change(frames[-1], terms))
        return np.stack(frames, axis=1)


def fit_mover(Z: np.ndarray, velocity: np.ndarray, alpha: float) -> Mover:
    """Fit a mover by ridge regression.

    Where there are fewer pairs of frames than numbers in 5 frames, the dual problem is solved, and the A_k are never
    made. Of more pairs than 12,000 so many are taken, evenly. Peak memory: the smaller of the two squared, in float64,
    twice, beside two copies of these pairs: .1 GB for 1,080 clips of 256 numbers; 7 GB for 4,000 clips of 16,384.

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
    n_pairs = len(Z) * (n_frames - 1)
    clip, frame = np.divmod(np.linspace(0, n_pairs - 1, min(n_pairs, _MOST_PAIRS)).astype(int), n_frames - 1)
    X = Z[clip, frame].astype(np.float64)  # (n_pairs, d)
    Y = Z[clip, frame + 1] - X
    terms = _terms(velocity[clip])  # (n_pairs, 5)
    if len(X) < _N_TERMS * d:
        products = terms @ terms.T
        products *= X @ X.T
        dual = _solve(products, Y, alpha)  # (n_pairs, d)
        return Mover(lambda z, own: ((own @ terms.T) * (z @ X.T)) @ dual)
    G, products = np.empty((_N_TERMS, d, _N_TERMS, d)), np.empty((_N_TERMS, d, d))
    for k in range(_N_TERMS):
        products[k] = (terms[:, k, None] * X).T @ Y
        for m in range(k + 1):
            G[k, :, m] = G[m, :, k] = ((terms[:, k] * terms[:, m])[:, None] * X).T @ X
    weights = _solve(G.reshape(_N_TERMS * d, -1), products.reshape(-1, d), alpha).reshape(_N_TERMS, d, d)
    return Mover(lambda z, own: sum((own[:, k, None] * (z @ W) for k, W in enumerate(weights)), np.zeros_like(z)))


def shift(first: np.ndarray, velocity: np.ndarray, n_frames: int = 8) -> np.ndarray:
    """Move the first frame as a whole: the latents of frame t are those of the first, t times the velocity away.

    What comes in at the border is what was there; between cells it is interpolated.

    Parameters
    ----------
    first : array of shape (n_clips, 4, height, width)
    velocity : array of shape (n_clips, 2)
        To the right and down, in pixels a frame; a cell of latents has 8 pixels.
    n_frames : int
        With the first.

    Returns
    -------
    array of shape (n_clips, n_frames, 4, height, width), float32
    """
    z, size = torch.from_numpy(first).float(), torch.tensor(first.shape[:1:-1])  # width, height
    cells = torch.from_numpy(np.asarray(velocity, np.float32)) / _CELL
    grid = functional.affine_grid(torch.eye(2, 3).expand(len(z), 2, 3), list(z.shape), align_corners=False)
    frames = []
    for t in range(n_frames):
        away = (2 * t * cells / size)[:, None, None]  # the grid goes from -1 to 1
        frames.append(functional.grid_sample(z, grid - away, padding_mode="border", align_corners=False))
    return torch.stack(frames, dim=1).numpy()


def _terms(velocity: np.ndarray) -> np.ndarray:
    """Give v_x, v_y, v_x^2, v_y^2, v_x v_y of (n, 2) as (n, 5)."""
    x, y = np.asarray(velocity, np.float64).T
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def _solve(G: np.ndarray, products: np.ndarray, alpha: float) -> np.ndarray:
    G.ravel()[:: len(G) + 1] += alpha
    return scipy.linalg.solve(G, products, assume_a="pos", overwrite_a=True)
