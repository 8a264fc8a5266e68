"""Correlation of rows: NumPy's numbers, and 0 for what is constant."""

import numpy as np
import pytest

from minddiffuser import correlation
from minddiffuser.correlation import correlate, correlate_pairs, unit_rows

RNG = np.random.default_rng(3)
A, B = RNG.normal(size=(4, 60)) + 2, RNG.normal(size=(4, 60)) - 1
EXPECTED = np.corrcoef(A, B)[:4, 4:]


def test_all_three_equal_numpy():
    np.testing.assert_allclose(correlate(A, B), EXPECTED, atol=1e-12)
    np.testing.assert_allclose(correlate_pairs(A, B), np.diag(EXPECTED), atol=1e-12)
    np.testing.assert_allclose(unit_rows(A) @ unit_rows(B).T, EXPECTED, atol=1e-12)


@pytest.mark.parametrize("columns", [1, 7, 60])
def test_columns_at_a_time_do_not_matter(monkeypatch, columns):
    monkeypatch.setattr(correlation, "_COLUMNS_AT_ONCE", columns)
    np.testing.assert_allclose(correlate(A, B[:3]), EXPECTED[:, :3], atol=1e-12)


def test_columns_are_the_rows_of_a_transposed_array():
    np.testing.assert_array_equal(correlate_pairs(A.T, B.T), correlate_pairs(A.T.copy(), B.T.copy()))
    np.testing.assert_array_equal(unit_rows(A.T), unit_rows(A.T.copy()))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e5 / 3])
def test_a_constant_row_correlates_with_nothing(value):
    X = A.copy()
    X[1] = value  # of which the mean is not exact
    assert (correlate(X, B)[1] == 0).all()
    assert correlate_pairs(X, B)[1] == correlate_pairs(B, X)[1] == 0
    np.testing.assert_array_equal(unit_rows(X)[1], 0)
    np.testing.assert_array_equal(np.delete(correlate_pairs(X, B), 1), np.delete(correlate_pairs(A, B), 1))


def test_long_rows_of_float32_are_correlated_in_float64():
    X = (RNG.normal(size=(2, 40_000)) + 1000).astype(np.float32)
    expected = np.corrcoef(X.astype(np.float64))
    np.testing.assert_allclose(correlate(X, X), expected, atol=1e-12)
    assert unit_rows(X).dtype == np.float32
