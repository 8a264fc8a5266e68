r"""Ridge regression in which every output has its own voxels (FastL2LiR's semantics, specification section 4).

For output d let J be the `n_voxels` voxels with the largest |r|, the Pearson correlation between voxel and
output, and the constant 1. Then

    w_d = argmin_w || [X_J, 1] w - y_d ||^2 + alpha ||w||^2

The bias is penalised too, and alpha is not scaled by the number of rows. With standardised X and y the bias
is 0 and this is ordinary ridge regression on the selected voxels.

Reference: fastl2lir (KamitaniLab/PyFastL2LiR), https://github.com/KamitaniLab/PyFastL2LiR.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve


class Decoder(NamedTuple):
    """Weights of `n_units` outputs on `k` voxels each.

    Attributes
    ----------
    voxels : array of shape (n_units, k), int32
        Columns of X, the most correlated first.
    weights : array of shape (n_units, k)
    bias : array of shape (n_units,)
    """

    voxels: np.ndarray
    weights: np.ndarray
    bias: np.ndarray


class Scaler(NamedTuple):
    """Mean and deviation of columns."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> "Scaler":
        """Measure the columns of (n_rows, n_columns); a constant column gets deviation 1."""
        mean, std = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
        # A constant column of float32 has a deviation of rounding errors, not of exactly 0.
        return cls(mean, np.where(std > 1e-6 * (np.abs(mean) + 1e-6), std, 1.0))

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Standardise."""
        return (rows - self.mean) / self.std

    def undo(self, rows: np.ndarray) -> np.ndarray:
        """Return to the original units."""
        return rows * self.std + self.mean


def correlation(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Pearson correlation of each column of X with each of Y; 0 where a column is constant.

    Parameters
    ----------
    X : array of shape (n_images, n_voxels)
    Y : array of shape (n_images, n_units)

    Returns
    -------
    array of shape (n_voxels, n_units)
    """
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    x_norm, y_norm = np.linalg.norm(X, axis=0), np.linalg.norm(Y, axis=0)
    x_norm[x_norm**2 < 1e-8 * len(X)] = np.inf  # FastL2LiR: a variance below 1e-8 is none
    y_norm[y_norm == 0] = np.inf
    return (X / x_norm).T @ (Y / y_norm)


def fit(X: np.ndarray, Y: np.ndarray, alpha: float, n_voxels: int) -> Decoder:
    """Fit a decoder of each column of Y.

    Parameters
    ----------
    X : array of shape (n_images, n_voxels_in_all), float64
        Voxels, standardised.
    Y : array of shape (n_images, n_units), float64
        Targets, standardised. Peak memory is that of X, Y, their correlations and one Gram matrix,
        (n_voxels_in_all + 1)^2 float64: give many targets in blocks.
    alpha : float
        Penalty, of the bias too.
    n_voxels : int
        Voxels of each output; as many as there are, or more, is no selection.

    Raises
    ------
    ValueError
        X and Y have different numbers of rows, or values that are not finite.
    """
    if len(X) != len(Y):
        raise ValueError(f"X has {len(X)} rows (images) and Y has {len(Y)}")
    if not (np.isfinite(X).all() and np.isfinite(Y).all()):
        raise ValueError("X or Y has values that are not finite")
    X, Y = X.astype(np.float64, copy=False), Y.astype(np.float64, copy=False)
    n_all, n_units = X.shape[1], Y.shape[1]
    A = np.hstack([X, np.ones((len(X), 1))])
    gram, B = A.T @ A, A.T @ Y
    gram[np.diag_indices_from(gram)] += alpha
    if n_voxels >= n_all:
        W = cho_solve(cho_factor(gram, lower=True), B)
        voxels = np.broadcast_to(np.arange(n_all, dtype=np.int32), (n_units, n_all))
        return Decoder(voxels, W[:-1].T.copy(), W[-1])
    voxels = select_voxels(correlation(X, Y), n_voxels)
    weights, bias = np.empty((n_units, n_voxels)), np.empty(n_units)
    for d in range(n_units):
        J = np.append(voxels[d], n_all)
        w = cho_solve(cho_factor(gram[np.ix_(J, J)], lower=True, overwrite_a=True), B[J, d])
        weights[d], bias[d] = w[:-1], w[-1]
    return Decoder(voxels, weights, bias)


def select_voxels(r: np.ndarray, n_voxels: int) -> np.ndarray:
    """Voxels with the largest |r|, per output: (n_units, n_voxels) of int32 from r of (n_voxels_in_all, n_units)."""
    return np.argsort(-np.abs(r), axis=0, kind="stable")[:n_voxels].T.astype(np.int32)


def predict(X: np.ndarray, decoder: Decoder) -> np.ndarray:
    """Decode standardised voxels (n_images, n_voxels_in_all) to standardised targets (n_images, n_units)."""
    Y = np.empty((len(X), len(decoder.bias)))
    for d, (voxels, weights, bias) in enumerate(zip(*decoder, strict=True)):
        Y[:, d] = X[:, voxels] @ weights + bias
    return Y
