r"""Ridge regression in which every output has its own voxels (FastL2LiR's semantics, specification section 4).

For output d let J be the `n_voxels` voxels with the largest |r|, the Pearson correlation between voxel and
output, and the constant 1. Then

    w_d = argmin_w || [X_J, 1] w - y_d ||^2 + alpha ||w||^2

The bias is penalised too, and alpha is not scaled by the number of rows. With standardised X and y the bias
is 0 and this is ordinary ridge regression on the selected voxels.

Each output has a system of equations of its own, whose matrix is a part of one Gram matrix, G = [X, 1]^T [X, 1]:

    (G[J, J] + alpha I) w_d = ([X, 1]^T y_d)[J]

G is made once (`Gram`), and outputs are solved side by side, one thread each. A system is factorised in float32, and
the solution refined with residuals in float64 until it has float64's precision; where that does not converge
it is factorised in float64.

    from feature_decoding.ridge import Scaler, fit, predict

    scale_x, scale_y = Scaler.of(X), Scaler.of(Y)
    decoder = fit(scale_x.apply(X), scale_y.apply(Y), alpha=0.15, n_voxels=450)
    decoded = scale_y.undo(predict(scale_x.apply(X_test), decoder))

Reference: fastl2lir (KamitaniLab/PyFastL2LiR), https://github.com/KamitaniLab/PyFastL2LiR.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

_TOLERANCE = 1e-12  # of the last correction, relative to the solution
_MAX_REFINEMENTS = 12
_GPU_BATCH_BYTES = 2**31


class Decoder(NamedTuple):
    """Weights of `n_units` outputs on `k` voxels each.

    Attributes
    ----------
    voxels : array of shape (n_units, k), int32
        Columns of X, in ascending order.
    weights : array of shape (n_units, k), float64
    bias : array of shape (n_units,), float64
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


class Gram:
    """The voxels of the training images, and what all outputs share of the work.

    Parameters
    ----------
    X : array of shape (n_images, n_voxels)
        Voxels, standardised.
    device : str or torch.device
        Where the work is done. Outputs are solved in batches on a GPU, in threads on a CPU.

    Raises
    ------
    ValueError
        X has values that are not finite.
    """

    def __init__(self, X: np.ndarray, device: str | torch.device = "cpu") -> None:
        if not np.isfinite(X).all():
            raise ValueError("X has values that are not finite")
        self.X = torch.as_tensor(X, dtype=torch.float64).to(device)  # (n_images, n_voxels)
        self.mean = self.X.mean(dim=0)
        self.norm = (self.X - self.mean).norm(dim=0)
        self.norm[self.norm.square() < 1e-8 * len(X)] = torch.inf  # FastL2LiR: a variance below 1e-8 is none
        self._matrix: torch.Tensor | None = None

    @property
    def matrix(self) -> torch.Tensor:
        """[X, 1]^T [X, 1], of shape (n_voxels + 1, n_voxels + 1): 1.1 GB for 11,694 voxels."""
        if self._matrix is None:
            n_images, n_voxels = self.X.shape
            self._matrix = self.X.new_empty(n_voxels + 1, n_voxels + 1)
            torch.matmul(self.X.T, self.X, out=self._matrix[:-1, :-1])
            self._matrix[-1, :-1] = self._matrix[:-1, -1] = n_images * self.mean
            self._matrix[-1, -1] = n_images
        return self._matrix

    def correlation(self, Y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Correlate voxels with outputs: r of shape (n_units, n_voxels), and [X, 1]^T Y, transposed.

        A constant voxel or output has r = 0.
        """
        mean = Y.mean(dim=0)
        centred = Y - mean
        products = centred.T @ self.X  # of the centred voxels too, since centred outputs add up to 0
        norm = centred.norm(dim=0)
        norm[norm == 0] = torch.inf
        r = products / self.norm / norm[:, None]
        sums = len(Y) * mean[:, None]
        return r, torch.cat([products.addcmul_(sums, self.mean), sums], dim=1)


def fit(X: np.ndarray | Gram, Y: np.ndarray, alpha: float, n_voxels: int) -> Decoder:
    """Fit a decoder of each column of Y.

    Parameters
    ----------
    X : array of shape (n_images, n_voxels_in_all), or the Gram of one
        Voxels, standardised. Make a Gram for several calls with the same voxels.
    Y : array of shape (n_images, n_units)
        Targets, standardised. Peak memory beside the Gram matrix: Y and its correlations in float64, and for each
        thread one system of 12 n_voxels^2 bytes. Give many targets in blocks.
    alpha : float
        Penalty, of the bias too.
    n_voxels : int
        Voxels of each output; as many as there are, or more, is no selection.

    Raises
    ------
    ValueError
        X and Y have different numbers of rows, or values that are not finite.
    """
    gram = X if isinstance(X, Gram) else Gram(X)
    if len(gram.X) != len(Y):
        raise ValueError(f"X has {len(gram.X)} rows (images) and Y has {len(Y)}")
    if not np.isfinite(Y).all():
        raise ValueError("Y has values that are not finite")
    outputs = torch.as_tensor(Y, dtype=torch.float64).to(gram.X.device)
    n_all = gram.X.shape[1]
    if n_voxels >= n_all:
        W = _solve_all(gram, outputs, alpha)  # (n_units, n_all + 1)
        voxels = np.broadcast_to(np.arange(n_all, dtype=np.int32), (len(W), n_all))
        return Decoder(voxels, W[:, :-1], W[:, -1])
    r, products = gram.correlation(outputs)
    voxels = select_voxels(r, n_voxels)  # (n_units, n_voxels)
    J = torch.cat([voxels, voxels.new_full((len(voxels), 1), n_all)], dim=1)
    W = _solve_selected(gram.matrix, products.gather(1, J), J, alpha).cpu().numpy()
    return Decoder(voxels.cpu().numpy().astype(np.int32), W[:, :-1], W[:, -1])


def select_voxels(r: torch.Tensor, n_voxels: int) -> torch.Tensor:
    """Voxels with the largest |r|, for each output: ascending indices, of equals the first ones.

    Parameters
    ----------
    r : tensor of shape (n_units, n_voxels_in_all)

    Returns
    -------
    tensor of shape (n_units, n_voxels), int64
    """
    size = r.abs()
    least = size.kthvalue(size.shape[1] - n_voxels + 1, dim=1, keepdim=True).values
    above, equal = size > least, size == least
    selected = above | (equal & (equal.cumsum(dim=1) <= n_voxels - above.sum(dim=1, keepdim=True)))
    return selected.nonzero()[:, 1].reshape(len(r), n_voxels)


def _solve_all(gram: Gram, Y: torch.Tensor, alpha: float) -> np.ndarray:
    """Ridge regression on all voxels and the constant; in its dual form where there are fewer images than voxels."""
    n_images, n_voxels = gram.X.shape
    if n_images <= n_voxels:
        K = gram.X @ gram.X.T + 1
        K.diagonal().add_(alpha)
        V = torch.cholesky_solve(Y, torch.linalg.cholesky(K))
        return torch.cat([V.T @ gram.X, V.sum(dim=0)[:, None]], dim=1).cpu().numpy()
    G = gram.matrix.clone()
    G.diagonal().add_(alpha)
    products = torch.cat([gram.X.T @ Y, Y.sum(dim=0)[None]])
    return torch.cholesky_solve(products, torch.linalg.cholesky(G)).T.cpu().numpy()


def _solve_selected(G: torch.Tensor, products: torch.Tensor, J: torch.Tensor, alpha: float) -> torch.Tensor:
    """Solve (G[J, J] + alpha I) w = products for each row of J."""
    if G.is_cuda:
        size = max(_GPU_BATCH_BYTES // (12 * J.shape[1] ** 2), 1)
        return torch.cat(
            [_solve_batch(G, *rows, alpha) for rows in zip(products.split(size), J.split(size), strict=True)]
        )

    def solve_one(d: int) -> None:
        W[d : d + 1] = _solve_batch(G, products[d : d + 1], J[d : d + 1], alpha)

    W = torch.empty_like(products)
    _in_threads(solve_one, range(len(J)))
    return W


def _in_threads(work: Callable[[int], None], items: Iterable[int]) -> None:
    """Call `work` for each item, on as many threads as torch may use, each of which computes by itself."""
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, items))
    finally:
        torch.set_num_threads(n_threads)


def _solve_batch(G: torch.Tensor, b: torch.Tensor, J: torch.Tensor, alpha: float) -> torch.Tensor:
    """Solve systems of one size side by side: b and J are (n_systems, k + 1)."""
    A = G[J[:, :, None], J[:, None, :]]  # (n_systems, k + 1, k + 1)
    A.diagonal(dim1=1, dim2=2).add_(alpha)
    factor, failed = torch.linalg.cholesky_ex(A.float())
    w = torch.cholesky_solve(b.float()[:, :, None], factor).double()
    if not failed.any():
        for _ in range(_MAX_REFINEMENTS):
            residual = b[:, :, None] - A @ w
            change = torch.cholesky_solve(residual.float(), factor).double()
            w += change
            if (change.norm(dim=1) <= _TOLERANCE * w.norm(dim=1)).all():
                return w[:, :, 0]
    return torch.cholesky_solve(b[:, :, None], torch.linalg.cholesky(A))[:, :, 0]


def predict(X: np.ndarray, decoder: Decoder) -> np.ndarray:
    """Decode standardised voxels (n_images, n_voxels_in_all) to standardised targets (n_images, n_units)."""
    Y = np.empty((len(X), len(decoder.bias)))
    for start in range(0, len(decoder.bias), 512):
        voxels, weights, bias = (part[start : start + 512] for part in decoder)
        W = np.zeros((len(bias), X.shape[1]))
        np.put_along_axis(W, voxels.astype(np.intp), weights, axis=1)
        Y[:, start : start + 512] = X @ W.T + bias
    return Y
