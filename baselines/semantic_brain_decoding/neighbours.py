"""Exact nearest neighbours in a bank that need not fit into memory."""

from collections.abc import Callable

import h5py
import numpy as np


def nearest(
    queries: np.ndarray,
    bank: np.ndarray | h5py.Dataset,
    n_neighbours: int,
    excluded: np.ndarray | None = None,
    rows_at_once: int = 8192,
    progress: Callable[[range], object] = lambda chunks: chunks,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the rows of the bank at the smallest Euclidean distance from each query.

    Chunks of the bank are compared by |q|^2 - 2 q f + |f|^2, and what can be among the nearest is compared again by
    |q - f|^2, so that distances are those of the definition and equal rows tie exactly. Of equal distances the earlier
    row comes first.

    Parameters
    ----------
    queries : array of shape (n_queries, n_features)
    bank : array or dataset of shape (n_rows, n_features)
    n_neighbours : int
    excluded : array of shape (n_rows,), bool, optional
        Rows that are no neighbours of any query.
    rows_at_once : int
        Rows in memory, as float64: 8,192 of 2,048 features are 134 MB, and the search takes thrice that.
    progress : callable
        Wraps the range of chunks, such as a progress bar.

    Returns
    -------
    rows : array of shape (n_queries, n_neighbours), int64
        The nearest first.
    distances : array of shape (n_queries, n_neighbours), float64

    Raises
    ------
    ValueError
        The bank has fewer rows than neighbours, or other features.
    """
    n_rows = bank.shape[0] - (0 if excluded is None else int(excluded.sum()))
    if n_rows < n_neighbours or bank.shape[1] != queries.shape[1]:
        raise ValueError(
            f"{n_neighbours} neighbours are wanted, of queries of shape {queries.shape} in a bank of shape "
            f"{bank.shape}, of which {n_rows} rows count"
        )
    Q = queries.astype(np.float64)
    q_squared = (Q**2).sum(axis=1)[:, None]
    rows = [np.zeros(0, np.int64) for _ in Q]
    squares = [np.zeros(0) for _ in Q]
    for start in progress(range(0, bank.shape[0], rows_at_once)):  # type: ignore[attr-defined]
        F = np.asarray(bank[start : start + rows_at_once], np.float64)
        f_squared = (F**2).sum(axis=1)
        approximate = q_squared - 2 * Q @ F.T + f_squared  # (n_queries, n_here)
        slack = 1e-12 * (q_squared + f_squared.max()) * Q.shape[1]  # more than rounding can do
        if excluded is not None:
            approximate[:, excluded[start : start + rows_at_once]] = np.inf
        for i, q in enumerate(Q):
            known = squares[i][-1] if len(squares[i]) == n_neighbours else np.inf
            k = min(n_neighbours, len(F)) - 1
            limit = min(known, np.partition(approximate[i], k)[k] + slack[i, 0])
            here = np.flatnonzero(np.isfinite(approximate[i]) & (approximate[i] <= limit + slack[i, 0]))
            found = np.concatenate([squares[i], ((q - F[here]) ** 2).sum(axis=1)])
            order = np.argsort(found, kind="stable")[:n_neighbours]
            rows[i] = np.concatenate([rows[i], start + here])[order]
            squares[i] = found[order]
    return np.stack(rows), np.sqrt(np.stack(squares))
