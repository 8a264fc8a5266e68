"""Takagi & Nishimoto's regression: what it loses as released, and scikit-learn's and himalaya's ridge."""

import numpy as np
import pytest
from himalaya.ridge import RidgeCV
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from baselines.takagi.regression import fit_predict, mean_over_trials
from minddiffuser.config.takagi import Takagi

ALPHAS = Takagi().alphas
CENTERED = pytest.mark.parametrize("centered", [True, False])


@pytest.fixture(scope="module")
def problem() -> dict[str, np.ndarray]:
    """Voxels and targets with large means; the first target is the same for all images. Trials of an image differ."""
    rng = np.random.default_rng(0)
    image_of_trial = rng.permutation(np.r_[np.repeat(np.arange(100), 2), np.arange(40)])  # three trials, or two
    images, X_test = rng.normal(5, 3, (100, 30)), rng.normal(5, 3, (40, 30))
    W = rng.normal(size=(30, 6))
    Y, Y_test = (7 + (x - 5) @ W + 0.5 * rng.normal(size=(len(x), 6)) for x in (images, X_test))
    Y[:, 0] = Y_test[:, 0] = np.float32(3.3)
    X = images[image_of_trial] + 0.1 * rng.normal(size=(len(image_of_trial), 30))
    return {"X": X, "Y": Y.astype(np.float32), "image_of_trial": image_of_trial, "X_test": X_test, "Y_test": Y_test}


def predict(problem, centered, X_test=None, alphas=ALPHAS):
    Y, trials = problem["Y"], problem["image_of_trial"]
    mean = mean_over_trials(Y, trials) if centered else np.zeros(Y.shape[1], np.float32)
    X_test = problem["X_test"] if X_test is None else X_test
    return fit_predict(problem["X"], Y, trials, mean, X_test, alphas)


def test_as_released_the_mean_of_every_target_is_lost(problem):
    predicted = predict(problem, centered=False, X_test=problem["X"])
    assert np.abs(problem["Y"].mean(axis=0)).min() > 3
    np.testing.assert_allclose(predicted.mean(axis=0), 0, atol=1e-3)


def test_corrected_a_constant_target_is_recovered_exactly_and_others_in_their_own_units(problem):
    predicted = predict(problem, centered=True)
    np.testing.assert_array_equal(predicted[:, 0], np.float32(3.3))
    error = np.abs(predicted - problem["Y_test"])[:, 1:].mean()
    assert error < 1  # the noise is 0.5 in targets, and some in voxels
    assert np.abs(predict(problem, centered=False) - problem["Y_test"])[:, 1:].mean() > 5 * error


def test_it_is_himalayas_ridge_with_an_intercept(problem):
    X, trials = problem["X"], problem["image_of_trial"]
    theirs = RidgeCV(alphas=list(ALPHAS), fit_intercept=True)
    scaler = StandardScaler().fit(X)
    theirs.fit(scaler.transform(X), problem["Y"][trials].astype(float))
    expected = theirs.predict(scaler.transform(problem["X_test"]))
    np.testing.assert_allclose(predict(problem, centered=True)[:, 1:], expected[:, 1:], rtol=1e-3)


@CENTERED
def test_it_is_scikit_learns_ridge_at_one_of_the_penalties(problem, centered):
    X, trials = problem["X"], problem["image_of_trial"]
    scaler = StandardScaler().fit(X)
    predicted = predict(problem, centered)
    candidates = [
        Ridge(alpha=alpha, fit_intercept=centered).fit(scaler.transform(X), problem["Y"][trials].astype(float))
        for alpha in ALPHAS
    ]
    for output in range(1, predicted.shape[1]):
        errors = [np.abs(c.predict(scaler.transform(problem["X_test"]))[:, output] - predicted[:, output]).max()
                  for c in candidates]  # fmt: skip
        assert min(errors) < 1e-3


@pytest.mark.filterwarnings("ignore:Solving ridge is slower")
@CENTERED
def test_with_more_voxels_than_trials_the_kernel_gives_the_same(problem, centered):
    """Penalties at which float32 is well conditioned."""
    alphas = [10.0, 100.0, 1000.0]
    rng = np.random.default_rng(1)
    wide = dict(problem, X=np.hstack([problem["X"], rng.normal(size=(len(problem["X"]), 300))]))
    wide["X_test"] = np.hstack([problem["X_test"], rng.normal(size=(40, 300))])
    predicted = predict(wide, centered, alphas=alphas)
    scaler, trials = StandardScaler().fit(wide["X"]), wide["image_of_trial"]
    mean = mean_over_trials(wide["Y"], trials) if centered else 0
    theirs = RidgeCV(alphas=alphas).fit(scaler.transform(wide["X"]), (wide["Y"] - mean)[trials])
    expected = theirs.predict(scaler.transform(wide["X_test"])) + mean
    np.testing.assert_allclose(predicted, expected, atol=1e-3)


def test_both_forms_can_be_fitted_side_by_side(problem):
    Y, trials = problem["Y"], problem["image_of_trial"]
    mean = mean_over_trials(Y, trials)
    both = fit_predict(
        problem["X"], np.hstack([Y, Y]), trials, np.r_[np.zeros(6, np.float32), mean], problem["X_test"], ALPHAS
    )
    np.testing.assert_allclose(both[:, :6], predict(problem, centered=False), atol=1e-4)
    np.testing.assert_allclose(both[:, 6:], predict(problem, centered=True), atol=1e-4)
