"""Takagi & Nishimoto's regression: what it loses as released, and scikit-learn's and himalaya's ridge."""

import numpy as np
import pytest
from himalaya.ridge import RidgeCV
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from baselines.takagi.regression import fit_predict, held_out_predictions, mean_over_trials, restore
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


@CENTERED
def test_held_out_images_are_predicted_from_the_mean_of_their_trials_by_the_single_trials_of_others(problem, centered):
    X, Y, trials = problem["X"], problem["Y"], problem["image_of_trial"]
    expected = np.empty(Y.shape)
    for _, images in KFold(5, shuffle=True, random_state=3).split(Y):
        fitted = np.array([image not in images for image in trials])
        scaler = StandardScaler().fit(X[fitted])
        ridge = Ridge(alpha=10.0, fit_intercept=centered).fit(scaler.transform(X[fitted]), Y[trials[fitted]])
        for image in images:
            expected[image] = ridge.predict(scaler.transform(X[trials == image])).mean(axis=0)  # linear: the same
    held_out = held_out_predictions(X, Y, trials, centered, [10.0], seed=3)
    np.testing.assert_allclose(held_out, expected, atol=1e-3)


@pytest.fixture(scope="module")
def noisy() -> dict[str, np.ndarray]:
    """As `problem`, but voxels so noisy that a third of the deviation is left; each image has three trials."""
    rng = np.random.default_rng(2)
    image_of_trial = rng.permutation(np.repeat(np.arange(400), 3))
    images, test_images = rng.normal(size=(400, 30)), rng.normal(size=(300, 30))
    W = rng.normal(size=(30, 6)) / 30**0.5
    Y = (3 + 2 * images @ W).astype(np.float32)
    Y[:, 0] = np.float32(3.3)
    X = images[image_of_trial] + 2 * rng.normal(size=(1200, 30))
    X_test = (test_images[:, None] + 2 * rng.normal(size=(300, 3, 30))).mean(axis=1)
    return {"X": X, "Y": Y, "image_of_trial": image_of_trial, "X_test": X_test}


def test_restored_outputs_have_the_deviation_and_the_mean_of_the_targets(noisy):
    X, Y, trials = noisy["X"], noisy["Y"], noisy["image_of_trial"]
    decoded, held_out = predict(noisy, centered=True), held_out_predictions(X, Y, trials, True, ALPHAS, seed=0)
    restored, rest = restore(decoded, held_out, Y), slice(1, None)

    def spread(values):
        return (values.std(axis=0) / Y.std(axis=0))[rest]

    assert (spread(decoded) < 0.4).all()
    np.testing.assert_allclose(spread(restore(held_out, held_out, Y)), 1, rtol=1e-5)
    np.testing.assert_allclose(spread(restored), 1, atol=0.15)  # standard error .05, of 300 and 400 images
    np.testing.assert_allclose(restored.mean(axis=0), Y.mean(axis=0), atol=4 * 2 / 300**0.5)
    # Predictions of single trials would spread more, and so give too little back.
    every_trial = np.arange(len(X))
    by_single = restore(decoded, held_out_predictions(X, Y[trials], every_trial, True, ALPHAS, seed=0), Y)
    assert (spread(by_single) < 0.8).all()


def test_restored_correlations_are_unchanged_and_a_constant_output_is_exact(noisy):
    X, Y, trials = noisy["X"], noisy["Y"].copy(), noisy["image_of_trial"]
    Y[:, 1] = np.float32(1.7)
    Y[::7, 1] += np.float32(2e-7)  # of captions in batches of different size: the same but for the last bit
    problem = noisy | {"Y": Y}
    for centered in (True, False):  # without an intercept what is decoded of a constant is noise, and is left alone
        decoded = predict(problem, centered)
        restored = restore(decoded, held_out_predictions(X, Y, trials, centered, ALPHAS, seed=0), Y)
        assert restored.dtype == decoded.dtype == np.float32
        np.testing.assert_array_equal(restored[:, :2], decoded[:, :2])
        for output in range(2, 6):
            assert np.corrcoef(restored[:, output], decoded[:, output])[0, 1] == pytest.approx(1)


def test_restored_a_test_image_alone_is_decoded_as_in_the_batch(noisy):
    X, Y, trials, X_test = (noisy[key] for key in ("X", "Y", "image_of_trial", "X_test"))
    held_out = held_out_predictions(X, Y, trials, True, ALPHAS, seed=0)
    batch = restore(predict(noisy, centered=True), held_out, Y)
    alone = restore(predict(noisy, centered=True, X_test=X_test[:1]), held_out, Y)
    np.testing.assert_allclose(alone, batch[:1], rtol=1e-4)
