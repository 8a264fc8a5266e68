"""How often the right one is among the k most similar ones of a gallery."""

from collections.abc import Sequence

import numpy as np


def hit_rates(f: np.ndarray, gallery: np.ndarray, right: np.ndarray, tops: Sequence[int]) -> np.ndarray:
    """Give the share of queries whose right answer is among the k of the largest cosine: (n_k,), see `hits`."""
    return hits(f, gallery, right, tops).mean(axis=0)


def hits(f: np.ndarray, gallery: np.ndarray, right: np.ndarray, tops: Sequence[int]) -> np.ndarray:
    """Tell of each query whether its right answer is among the k of the largest cosine.

    Of g answers above the right one, and e equal to it, with itself, a share min(max((k - g) / e, 0), 1) of the orders
    that are possible have it among the first k: so much the query counts. A query that tells nothing has k / n.

    Parameters
    ----------
    f : array of shape (n_queries, d)
    gallery : array of shape (n, d)
    right : array of shape (n_queries,), int
        Row of the gallery that is right.
    tops : sequence of int
        Each k.

    Returns
    -------
    array of shape (n_queries, n_k)
        In [0, 1].
    """
    S = _unit(f) @ _unit(gallery).T  # (n_queries, n)
    own = np.take_along_axis(S, right[:, None], axis=1)
    is_equal = np.isclose(S, own, rtol=0, atol=1e-6)  # equal texts of different batches differ so much
    above, equal = ((own < S) & ~is_equal).sum(axis=1), is_equal.sum(axis=1)
    return np.stack([np.clip((k - above) / equal, 0, 1) for k in tops], axis=1)


def _unit(X: np.ndarray) -> np.ndarray:
    X = np.asarray(X, np.float64)
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(length > 0, length, 1)
