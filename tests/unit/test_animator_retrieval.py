"""How often the right clip is among the first of a gallery: known cases, chance, and ties."""

import numpy as np
import pytest

from baselines.mind_animator.retrieval import hit_rates


def test_what_is_decoded_perfectly_is_found_first_and_its_opposite_last():
    gallery = np.random.default_rng(0).standard_normal((20, 6))
    right = np.arange(5)
    np.testing.assert_array_equal(hit_rates(3 * gallery[:5], gallery, right, [1, 10]), [1, 1])
    np.testing.assert_array_equal(hit_rates(-gallery[:5], gallery, right, [1, 19, 20]), [0, 0, 1])


def test_each_query_counts_by_the_place_of_its_right_answer():
    angles = np.deg2rad([0, 10, 20, 30])
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    f = np.array([[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(hit_rates(f, gallery, np.array([0, 2]), [1, 2, 3]), [0.5, 0.5, 1])


@pytest.mark.parametrize("f", [np.zeros((4, 3)), np.ones((4, 3))])
def test_equal_answers_and_queries_that_tell_nothing_are_at_chance(f):
    gallery = np.ones((8, 3))
    np.testing.assert_allclose(hit_rates(f, gallery, np.arange(4), [1, 2, 8]), [1 / 8, 2 / 8, 1])


def test_noise_is_at_chance():
    rng = np.random.default_rng(1)
    found = hit_rates(rng.standard_normal((2000, 8)), rng.standard_normal((50, 8)), rng.integers(0, 50, 2000), [1, 10])
    np.testing.assert_allclose(found, [1 / 50, 10 / 50], atol=0.03)
