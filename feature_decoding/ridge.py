r"""Ridge regression in which every output has its own voxels (FastL2LiR's semantics, which the authors use).

For output d let J be the `n_voxels` voxels with the largest |r|, the Pearson correlation between voxel and
output, and the constant 1. Then

    w_d = argmin_w || [X_J, 1] w - y_d ||^2 + alpha ||w||^2

The bias is penalised too, and alpha is not scaled by the number of rows. With standardised X and y the bias
is 0 and this is ordinary ridge regression on the selected voxels.

Each output has a system of equations of its own, whose matrix is a part of one Gram matrix, G = [X, 1]^T [X, 1]:

    (G[J, J] + alpha I) w_d = ([X, 1]^T y_d)[J]

G is made once (`Gram`), and outputs are solved side by side, one thread each, or in batches on a GPU. A system is
factorised in float32, and the solution refined with residuals in float64 until it has float64's precision; where that
does not converge it is factorised in float64. An output's weights are the same bytes for any number of threads and
whatever outputs it is solved with, but for the last digits of r and of [X, 1]^T y_d, which are matrix products.

    from feature_decoding.ridge import Scaler, fit, predict

    scale_x, scale_y = Scaler.of(X), Scaler.of(Y)
    decoder = fit(scale_x.apply(X), scale_y.apply(Y), alpha=0.15, n_voxels=450)
    decoded = scale_y.undo(predict(scale_x.apply(X_test), decoder))

Reference: fastl2lir (KamitaniLab/PyFastL2LiR), https://github.com/KamitaniLab/PyFastL2LiR.
"""

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from numpy.linalg import norm
from threadpoolctl import threadpool_limits

from feature_decoding import lapack

_TOLERANCE = 1e-12  # of the last correction, relative to the solution
_MAX_REFINEMENTS = 12
_GPU_BATCH_BYTES = 2**31
_GATHER_ROWS = 32


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
        mean, std = np.empty(rows.shape[1]), np.empty(rows.shape[1])
        for start in range(0, rows.shape[1], 1024):  # all at once would take a copy in float64
            here = slice(start, start + 1024)
            mean[here] = rows[:, here].mean(axis=0, dtype=np.float64)
            std[here] = rows[:, here].std(axis=0, dtype=np.float64)
        # A constant column of float32 has a deviation of rounding errors, not of exactly 0.
        return cls(mean, np.where(std > 1e-6 * (np.abs(mean) + 1e-6), std, 1.0))

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Standardise."""
        scaled = rows - self.mean
        scaled /= self.std  # in place: of NSD's voxels one copy has 0.8 GB
        return scaled

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
        X and Y have different numbers of rows, or values that are not finite; n_voxels is less than 1; or alpha is
        too small for voxels that are copies of each other.
    """
    gram = X if isinstance(X, Gram) else Gram(X)
    if len(gram.X) != len(Y):
        raise ValueError(f"X has {len(gram.X)} rows (images) and Y has {len(Y)}")
    if not np.isfinite(Y).all():
        raise ValueError("Y has values that are not finite")
    if n_voxels < 1:
        raise ValueError(f"n_voxels is {n_voxels}: each output needs at least one voxel")
    outputs = torch.as_tensor(Y, dtype=torch.float64).to(gram.X.device)
    n_all = gram.X.shape[1]
    try:
        if n_voxels >= n_all:
            W = _solve_all(gram, outputs, alpha)  # (n_units, n_all + 1)
            voxels = np.broadcast_to(np.arange(n_all, dtype=np.int32), (len(W), n_all))
            return Decoder(voxels, W[:, :-1], W[:, -1])
        r, products = gram.correlation(outputs)
        voxels = select_voxels(r, n_voxels)  # (n_units, n_voxels)
        J = torch.cat([voxels, voxels.new_full((len(voxels), 1), n_all)], dim=1)
        W = _solve_selected(gram.matrix, products.gather(1, J), J, alpha).cpu().numpy()
        return Decoder(voxels.cpu().numpy().astype(np.int32), W[:, :-1], W[:, -1])
    except (torch.linalg.LinAlgError, np.linalg.LinAlgError) as error:
        raise ValueError(f"alpha = {alpha} is too small: some voxels are copies of others ({error})") from error


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
    W = torch.empty_like(products)
    tasks = zip(products.numpy(), J.numpy(), W.numpy(), strict=True)
    n_threads = min(torch.get_num_threads(), len(J))
    buffers = SimpleQueue()  # of one system for each thread: fresh memory for each output costs a sixth of the time
    for _ in range(n_threads):
        buffers.put((np.empty((J.shape[1],) * 2), np.empty((J.shape[1],) * 2, np.float32)))

    def solve_one(task: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        b, columns, w = task
        buffer = buffers.get()
        try:
            w[:] = _solve_one(G.numpy(), b, columns, alpha, *buffer)
        finally:
            buffers.put(buffer)

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(solve_one, tasks))
    return W


def _solve_one(G: np.ndarray, b: np.ndarray, J: np.ndarray, alpha: float, A: np.ndarray, L: np.ndarray) -> np.ndarray:
    """Solve one system: b and J of shape (k + 1,), buffers A (float64) and L (float32) of shape (k + 1, k + 1).

    Only lower triangles are read and written.
    """
    for start in range(0, len(J), _GATHER_ROWS):
        rows = slice(start, start + _GATHER_ROWS)
        columns = J[: start + _GATHER_ROWS]
        # In two steps, each of which copies runs or keeps to the cache: a third of the time of G[np.ix_(...)].
        part = np.take(G[J[rows], : columns[-1] + 1], columns, axis=1, mode="clip")
        A[rows, : len(columns)] = part
        L[rows, : len(columns)] = part
    A.ravel()[:: len(J) + 1] += alpha
    L.ravel()[:: len(J) + 1] += alpha
    if lapack.cholesky(L):
        w = lapack.solve(L, b).astype(np.float64)
        last = norm(w)
        for _ in range(_MAX_REFINEMENTS):
            change = lapack.solve(L, lapack.subtract_product(A, w, b))
            w += change
            size = norm(change)
            # Each refinement shrinks the error by the same factor, so size / last of this change is still missing.
            if size * size <= _TOLERANCE * last * norm(w):
                return w
            last = size
    return scipy.linalg.solve(A, b, lower=True, assume_a="pos", check_finite=False)


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
