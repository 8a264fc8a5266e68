"""Unit selection: exact sizes, stable order, and scores that scikit-learn agrees with."""

from functools import partial

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from feature_decoding.units import best_units, cross_validated_correlation, early_stopping, ridge


def test_scores_equal_scikit_learns_ridge():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 70)) + 0.3
    Y = X[:, :5] @ rng.normal(size=(5, 8)) + 3 * rng.normal(size=(50, 8)) + 2.0
    expected = np.zeros(8)
    for train, test in KFold(4).split(X):
        predicted = Ridge(alpha=20.0).fit(X[train], Y[train]).predict(X[test])
        expected += [abs(np.corrcoef(predicted[:, d], Y[test, d])[0, 1]) / 4 for d in range(8)]
    blocks = list(cross_validated_correlation(X, iter([Y[:, :3], Y[:, 3:]]), 4, partial(ridge, alpha=20.0)))
    assert [len(b) for b in blocks] == [3, 5]
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-10)


@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_early_stopping_takes_the_steps_that_himalaya_takes(tolerance, monkeypatch):
    """himalaya's loop, spelled out: FISTA on least squares, each unit stopped when it no longer changes."""
    rng = np.random.default_rng(5)
    X, X_test = rng.normal(size=(40, 25)) * np.geomspace(1, 30, 25), rng.normal(size=(9, 25))
    Y = X @ rng.normal(size=(25, 6)) * np.r_[1, 1, 1, 0, 0, 0] + rng.normal(size=(40, 6))
    W = np.zeros((25, 6))
    step = 1 / np.linalg.norm(X, 2) ** 2
    for d in range(6):
        w, aux, t = np.zeros(25), np.zeros(25), 1.0
        for _ in range(300):
            old, w = w, aux - step * X.T @ (X @ aux - Y[:, d])
            t_old, t = t, (1 + np.sqrt(1 + 4 * t**2)) / 2
            aux = w + (t_old - 1) / t * (w - old)
            if np.linalg.norm(w - old) <= tolerance * np.linalg.norm(w):
                break
        W[:, d] = w
    monkeypatch.setattr("feature_decoding.units._TOLERANCE", tolerance)
    np.testing.assert_allclose(early_stopping(X, X_test)(Y), X_test @ W, rtol=1e-7, atol=1e-9)


def test_early_stopping_equals_himalaya():
    """The step size is the difference: theirs is an estimate."""
    lasso = pytest.importorskip("himalaya.lasso", reason="himalaya is not installed")
    rng = np.random.default_rng(6)
    X, X_test = rng.normal(size=(80, 30)), rng.normal(size=(20, 30))
    Y = X[:, :5] @ rng.normal(size=(5, 8)) + 2 * rng.normal(size=(80, 8))
    expected = lasso.SparseGroupLassoCV(solver_params={"progress_bar": False}).fit(X, Y).predict(X_test)
    np.testing.assert_allclose(early_stopping(X, X_test)(Y), expected, atol=0.01 * Y.std())


def test_planted_units_are_found():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 30))
    Y = rng.normal(size=(200, 40))
    Y[:, ::4] += 2 * X @ rng.normal(size=(30, 10))
    (scores,) = cross_validated_correlation(X, iter([Y]), 5, partial(ridge, alpha=10.0))
    np.testing.assert_array_equal(best_units(scores, 0.25), np.arange(0, 40, 4))


def test_a_constant_unit_has_score_0():
    rng = np.random.default_rng(2)
    Y = np.c_[np.ones(40), rng.normal(size=40)]
    (scores,) = cross_validated_correlation(rng.normal(size=(40, 5)), iter([Y]), 4, partial(ridge, alpha=1.0))
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
