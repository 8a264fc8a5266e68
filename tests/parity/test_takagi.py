"""Takagi & Nishimoto's regression: what it loses as released, and scikit-learn's ridge."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from baselines.takagi.regression import ALPHAS, fit_predict


@pytest.fixture(scope="module")
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Voxels and targets with large means; the first target is the same for all images."""
    rng = np.random.default_rng(0)
    X, X_test = rng.normal(5, 3, (200, 30)), rng.normal(5, 3, (40, 30))
    W = rng.normal(size=(30, 6))
    Y, Y_test = (7 + (x - 5) @ W + 0.5 * rng.normal(size=(len(x), 6)) for x in (X, X_test))
    Y[:, 0] = Y_test[:, 0] = 3.25
    return X, Y.astype(np.float32), X_test, Y_test


def test_as_released_the_mean_of_every_target_is_lost(problem):
    X, Y, _, _ = problem
    predicted = fit_predict(X, Y, X, center_targets=False)
    assert np.abs(Y.mean(axis=0)).min() > 3
    np.testing.assert_allclose(predicted.mean(axis=0), 0, atol=1e-3)


def test_corrected_a_constant_target_is_recovered_exactly_and_others_in_their_own_units(problem):
    X, Y, X_test, Y_test = problem
    predicted = fit_predict(X, Y, X_test, center_targets=True)
    np.testing.assert_array_equal(predicted[:, 0], np.float32(3.25))
    error = np.abs(predicted[:, 1:] - Y_test[:, 1:]).mean()
    assert error < 0.6  # the noise is 0.5
    assert np.abs(fit_predict(X, Y, X_test, center_targets=False)[:, 1:] - Y_test[:, 1:]).mean() > 10 * error


def test_it_is_scikit_learns_ridge_at_one_of_the_penalties(problem):
    X, Y, X_test, _ = problem
    scaler = StandardScaler().fit(X)
    X, X_test_scaled = scaler.transform(X), scaler.transform(X_test)
    predicted = fit_predict(problem[0], Y, X_test, center_targets=True)
    candidates = [Ridge(alpha=alpha).fit(X, Y.astype(float)).predict(X_test_scaled) for alpha in ALPHAS]
    for output in range(Y.shape[1]):
        errors = [np.abs(candidate[:, output] - predicted[:, output]).max() for candidate in candidates]
        assert min(errors) < 1e-3
