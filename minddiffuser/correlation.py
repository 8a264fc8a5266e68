"""Pearson's correlation of rows: of the pixels or features of images; or, transposed, of units over images.

A constant row correlates with nothing: its r is 0, not NaN.
"""

import numpy as np

_COLUMNS_AT_ONCE = 16384
_CONSTANT = 1e-12  # deviation, relative to the mean, up to which a row is constant: its mean has an error of rounding


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Centre rows and scale them to length 1: their products are correlations; a constant row becomes 0.

    Parameters
    ----------
    X : array of shape (n, n_columns)

    Returns
    -------
    array of shape (n, n_columns)
        Float of the precision of X.
    """
    centred, length = _centred(X)
    centred /= length
    return centred


def correlate_pairs(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Correlate each row of A with the same row of B.

    Parameters
    ----------
    A, B : arrays of shape (n, n_columns)

    Returns
    -------
    array of shape (n,)
        In [-1, 1].
    """
    (a, length_a), (b, length_b) = _centred(A), _centred(B)
    return (a * b).sum(axis=1) / (length_a * length_b)[:, 0]


def correlate(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Correlate every row of A with every row of B.

    Computed in float64, some columns at a time, so that long features in float32 need no copy in float64.

    Parameters
    ----------
    A : array of shape (n_a, n_columns)
    B : array of shape (n_b, n_columns)

    Returns
    -------
    array of shape (n_a, n_b), float64
        In [-1, 1].
    """
    means = [X.mean(axis=1, dtype=np.float64, keepdims=True) for X in (A, B)]
    blocks = [slice(start, start + _COLUMNS_AT_ONCE) for start in range(0, A.shape[1], _COLUMNS_AT_ONCE)]
    lengths = []
    for X, mean in zip((A, B), means, strict=True):
        squares = sum(np.square(X[:, here] - mean).sum(axis=1, keepdims=True) for here in blocks)
        lengths.append(_or_infinite(np.sqrt(squares), mean, A.shape[1]))
    found = np.zeros((len(A), len(B)))
    for here in blocks:
        a, b = ((X[:, here] - mean) / length for X, mean, length in zip((A, B), means, lengths, strict=True))
        found += a @ b.T
    return found


def _centred(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows less their mean, and their lengths, (n, 1): of a constant row infinite."""
    mean = X.mean(axis=1, keepdims=True)
    centred = X - mean
    return centred, _or_infinite(np.linalg.norm(centred, axis=1, keepdims=True), mean, X.shape[1])


def _or_infinite(length: np.ndarray, mean: np.ndarray, n_columns: int) -> np.ndarray:
    length[length <= _CONSTANT * np.abs(mean) * np.sqrt(n_columns)] = np.inf
    return length
