"""Unit selection: exact sizes, stable order, and scores that scikit-learn agrees with."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from feature_decoding.units import best_units, cross_validated_correlation, paired_correlation


def test_scores_equal_scikit_learns_ridge():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 70)) + 0.3
    Y = X[:, :5] @ rng.normal(size=(5, 8)) + 3 * rng.normal(size=(50, 8)) + 2.0
    expected = np.zeros(8)
    for train, test in KFold(4).split(X):
        predicted = Ridge(alpha=20.0).fit(X[train], Y[train]).predict(X[test])
        expected += [abs(np.corrcoef(predicted[:, d], Y[test, d])[0, 1]) / 4 for d in range(8)]
    blocks = list(cross_validated_correlation(X, iter([Y[:, :3], Y[:, 3:]]), alpha=20.0, n_folds=4))
    assert [len(b) for b in blocks] == [3, 5]
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-10)


def test_planted_units_are_found():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 30))
    Y = rng.normal(size=(200, 40))
    Y[:, ::4] += 2 * X @ rng.normal(size=(30, 10))
    (scores,) = cross_validated_correlation(X, iter([Y]), alpha=10.0, n_folds=5)
    np.testing.assert_array_equal(best_units(scores, 0.25), np.arange(0, 40, 4))


def test_a_constant_unit_has_score_0():
    rng = np.random.default_rng(2)
    Y = np.c_[np.ones(40), rng.normal(size=40)]
    (scores,) = cross_validated_correlation(rng.normal(size=(40, 5)), iter([Y]), alpha=1.0, n_folds=4)
    assert scores[0] == 0


@pytest.mark.parametrize(("n", "keep", "expected"), [(38400, 0.25, 9600), (10, 0.25, 2), (7, 1.0, 7)])
def test_masks_have_the_exact_size_and_are_sorted(n, keep, expected):
    units = best_units(np.random.default_rng(3).random(n), keep)
    assert len(units) == expected
    assert (np.diff(units) > 0).all()


def test_among_equals_the_first_win():
    np.testing.assert_array_equal(best_units(np.array([0.5, 0.9, 0.5, 0.5]), 0.5), [0, 1])


def test_the_authors_masks_have_the_form_of_ours(test_data):
    """Their 9,600 of 38,400 sorted units, token-major: the class token is kept almost whole in every layer."""
    for layer in range(2, 13, 2):
        mask = np.load(test_data / "minddiffuser_s1" / f"mask_linear-{layer}.npy")
        assert len(mask) == len(best_units(np.zeros(38400), 0.25)) == 9600
        assert (np.diff(mask) > 0).all()
        assert (mask < 768).sum() >= 715


def test_paired_correlation_equals_numpy():
    rng = np.random.default_rng(4)
    A, B = rng.normal(size=(2, 20, 3))
    expected = [np.corrcoef(A[:, k], B[:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(paired_correlation(A, B), expected, atol=1e-12)
