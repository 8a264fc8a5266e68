"""Which vertices are decoded from: planted ones are found, in each of the rankings, and rows are scaled apart."""

import numpy as np
import pytest
from scipy import stats
from sklearn.preprocessing import StandardScaler

from data.voxel_selection import fisher_z, scaled_like, select_vertices
from minddiffuser.store import DataError

N_VOLUMES, N_VERTICES = 120, 1500


def record(n_films, planted, seed=0, strength=1.0, n_vertices=N_VERTICES):
    """Fisher z of films that only some vertices respond to; those of negative strength repeat with the other sign."""
    rng = np.random.default_rng(seed)
    z = []
    for _ in range(n_films):
        response = np.zeros((N_VOLUMES, n_vertices))
        response[:, planted] = rng.normal(size=(N_VOLUMES, len(planted)))
        first, second = rng.normal(size=(2, N_VOLUMES, n_vertices))
        z.append(fisher_z(first + response, second + strength * response))
    return np.stack(z)


def test_z_is_artanh_of_pearsons_r():
    a, b = np.random.default_rng(0).normal(5, 2, (2, 30, 2500)).astype(np.float32)
    b += a
    r = [np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)]
    np.testing.assert_allclose(fisher_z(a, b), 0.5 * np.log((1 + np.array(r)) / (1 - np.array(r))), rtol=1e-6)


def test_z_of_what_is_constant_is_0_and_of_what_is_the_same_infinite():
    a = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    b = np.stack([a[:, 0], -3 * a[:, 1], np.full(30, 7), a[:, 0]], axis=1)
    z = fisher_z(a, b)
    assert z[0] == np.inf
    assert z[1] == -np.inf
    assert z[2] == 0
    assert np.isfinite(z[3])


@pytest.mark.parametrize("tail", ["positive", "two_sided"])
@pytest.mark.parametrize("n_films", [3, 18])
def test_the_planted_are_found_and_no_others(n_films, tail):
    planted = np.random.default_rng(1).choice(N_VERTICES, 200, replace=False)
    found = select_vertices(record(n_films, planted), 200, "p", tail)
    assert found.dtype.kind == "i"
    assert (np.diff(found) > 0).all()
    assert np.isin(found, planted).mean() > (0.98 if n_films == 18 else 0.8)


@pytest.mark.parametrize(("tail", "alternative"), [("positive", "greater"), ("two_sided", "two-sided")])
@pytest.mark.parametrize("ranking", ["p", "clipped_p"])
def test_the_order_is_that_of_scipys_t_test(ranking, tail, alternative):
    z = record(5, np.arange(700, 900))
    p = stats.ttest_1samp(z, 0, alternative=alternative).pvalue
    if ranking == "clipped_p":
        p = np.minimum(p * N_VERTICES, 1)
    for n in (1, 50, 400):
        expected = sorted(np.argsort(p, kind="stable")[:n].tolist())
        assert select_vertices(z, n, ranking, tail).tolist() == expected


@pytest.mark.parametrize("n_films", [3, 18])
def test_the_released_ranking_fills_up_with_the_lowest_numbers(n_films):
    planted = np.arange(1000, 1100)
    z = record(n_films, planted)
    found = select_vertices(z, 300, "clipped_p", "two_sided")
    certain = set(np.flatnonzero(stats.ttest_1samp(z, 0).pvalue * N_VERTICES < 1).tolist())
    others = [v for v in range(N_VERTICES) if v not in certain]
    assert found.tolist() == sorted([*certain, *others[: 300 - len(certain)]])
    # Of three films few vertices have so small a p, so that nearly all are taken for their numbers.
    n_planted = np.isin(found, planted).sum()
    assert n_planted < 20 if n_films == 3 else n_planted == 100
    assert np.isin(select_vertices(z, 300), planted).sum() > 80


def test_only_the_two_sided_test_takes_vertices_that_repeat_with_the_opposite_sign():
    planted = np.arange(100)
    z = record(18, planted, strength=-1.0)
    assert np.isin(select_vertices(z, 100, tail="two_sided"), planted).mean() > 0.95
    assert not np.isin(select_vertices(z, 100, tail="positive"), planted).any()


@pytest.mark.parametrize("ranking", ["p", "clipped_p"])
def test_vertices_without_a_p_are_never_taken(ranking):
    z = record(6, np.arange(20), n_vertices=60)
    z[2, 3], z[:, 4], z[:, 5] = np.inf, 0, np.nan
    found = select_vertices(z, 57, ranking)
    assert found.tolist() == [v for v in range(60) if v not in (3, 4, 5)]
    with pytest.raises(DataError, match=r"58 vertices are to be selected, but 57 of 60 .*voxels\.n"):
        select_vertices(z, 58, ranking)


def test_one_film_does_not_tell():
    with pytest.raises(DataError, match="at least 2"):
        select_vertices(np.ones((1, 9)), 3)


def test_scaling_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    training, test = rng.normal(3, 2, (40, 1100)), rng.normal(1, 5, (7, 1100))
    scaler = StandardScaler().fit(training)
    np.testing.assert_allclose(scaled_like(test, training), scaler.transform(test), atol=1e-5)
    halves = np.stack([test, test + 1], axis=1)
    np.testing.assert_allclose(scaled_like(halves, training)[:, 1], scaler.transform(test + 1), atol=1e-5)


def test_a_constant_column_is_only_shifted():
    X = np.full((5, 2), 3.0, np.float32)
    assert scaled_like(X + 1, X).tolist() == [[1, 1]] * 5
