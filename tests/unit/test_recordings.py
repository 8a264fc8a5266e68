"""Runs as arrays: drifts are taken out exactly, vertices without data are found, and late runs by how late they are."""

from pathlib import Path

import numpy as np
import pytest

from data import recordings
from minddiffuser.store import DataError


@pytest.fixture
def path():
    return Path("seg1_1_Atlas.dtseries.nii")


# ---- detrending and scaling


def polynomials(n_volumes, order, n=50, seed=0):
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, n_volumes)
    return 10_000 + sum(rng.normal(0, 300, n) * time[:, None] ** k for k in range(order + 1))


@pytest.mark.parametrize("n_volumes", [60, 240])
def test_a_polynomial_of_order_4_is_removed_exactly_and_one_of_order_5_is_not(n_volumes):
    assert np.abs(recordings.detrend(polynomials(n_volumes, 4), 4)).max() < 1e-8
    assert np.abs(recordings.detrend(polynomials(n_volumes, 5), 4)).max() > 0.1
    X = np.random.default_rng(1).normal(size=(n_volumes, 50))
    np.testing.assert_allclose(
        recordings.detrend(X + polynomials(n_volumes, 4), 4), recordings.detrend(X, 4), atol=1e-8
    )


def test_detrending_is_what_a_fit_by_numpy_leaves():
    X, time = np.random.default_rng(0).normal(50, 9, (40, 7)).cumsum(axis=0), np.linspace(0, 1, 40)
    for order in (0, 1, 4):
        fits = [np.polyval(np.polyfit(time, x, order), time) for x in X.T]
        np.testing.assert_allclose(recordings.detrend(X, order), X - np.transpose(fits), atol=1e-6)


def test_a_polynomial_that_leaves_nothing_is_refused():
    assert recordings.detrend(np.random.default_rng(0).normal(size=(6, 2)), 4).any()
    with pytest.raises(DataError, match=r"5 volumes .* order 4; lower .*detrend_order"):
        recordings.detrend(np.zeros((5, 2)), 4)


def test_a_run_is_scaled_to_deviation_1_of_the_population(path):
    X = (np.random.default_rng(0).normal(0, 50, (60, 5000)) + polynomials(60, 4, 5000)).astype(np.float32)
    Z = recordings.standardise_run(X, 4, "error", path)
    assert Z.dtype == np.float32
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(Z.std(axis=0), 1, rtol=1e-6)
    left = recordings.detrend(X.astype(float), 4)
    np.testing.assert_allclose(Z, left / left.std(axis=0), atol=1e-5)
    np.testing.assert_allclose(Z, recordings.standardise_run(3 * X + 70, 4, "error", path), atol=1e-3)


def damaged(n=100):
    X = np.random.default_rng(0).normal(10_000, 50, (60, n)).astype(np.float32)
    X[:, 3] = 10_000
    X[7, 40] = np.nan
    X[8, 41] = np.inf
    X[:, 60] = polynomials(60, 3, 1)[:, 0]  # a drift and nothing else: rounding must not be blown up
    X[:, 61] = 0
    return X


def test_vertices_without_data_stop_the_run_or_are_0(path):
    with pytest.raises(DataError, match=r"seg1_1_Atlas.* no data in 5 of 100 vertices.*voxels\.invalid=zero"):
        recordings.standardise_run(damaged(), 4, "error", path)
    Z = recordings.standardise_run(damaged(), 4, "zero", path)
    assert np.flatnonzero(~Z.any(axis=0)).tolist() == [3, 40, 41, 60, 61]
    others = np.delete(np.arange(100), [3, 40, 41, 60, 61])
    np.testing.assert_array_equal(Z[:, others], recordings.standardise_run(damaged()[:, others], 4, "error", path))


def test_a_run_without_data_in_many_vertices_is_refused_in_any_case(path):
    with pytest.raises(DataError, match=r"5 of 45 vertices.*not fetched or written to its end"):
        recordings.standardise_run(damaged()[:, [*range(41), 41, 60, 61, 62]], 4, "zero", path)


# ---- lags


def runs_of_a_film(n_runs, n_volumes=60, n_vertices=200, noise=2.0, late=None, seed=0):
    """Runs with responses like those to a film, that last some 6 s; `late` says which begins when."""
    rng = np.random.default_rng(seed)
    response = rng.normal(size=(n_volumes + 42, n_vertices))
    response = (response[:-2] + response[1:-1] + response[2:]) / np.sqrt(3)
    found = []
    for k in range(n_runs):
        start = 20 + (late or {}).get(k, 0)
        found.append(response[start : start + n_volumes] + noise * rng.normal(size=(n_volumes, n_vertices)))
    return [(x - x.mean(axis=0)) / x.std(axis=0) for x in found]


@pytest.mark.parametrize("lag", [-8, -3, -1, 0, 1, 5, 8])
@pytest.mark.parametrize("n_runs", [2, 10])
def test_a_late_run_is_found_by_how_late_it_is(lag, n_runs):
    *others, late = runs_of_a_film(n_runs, late={n_runs - 1: lag})
    assert recordings.lag_of(late, np.mean(others, axis=0)) == lag
    assert recordings.lag_of(np.mean(others, axis=0), late) == -lag
    if n_runs > 2:
        assert recordings.lag_of(others[0], np.mean([*others[1:], late], axis=0)) == 0


def test_noise_has_no_lag():
    for seed in range(40):
        for n_volumes, n_vertices in ((60, 200), (12, 3), (6, 50)):
            a, b = runs_of_a_film(2, n_volumes, n_vertices, noise=100.0, seed=seed)
            assert recordings.lag_of(a, b) == 0
