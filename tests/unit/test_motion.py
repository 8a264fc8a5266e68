"""Known truths about motion: films that move by known velocities, backwards, not at all, or as another one does."""

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from evaluation.videos import motion
from evaluation.videos.motion import cosines_with_others, measure, other_clips_test
from evaluation.videos.shuffle import (
    bootstrap_wilcoxon_test,
    errors_of,
    every_order,
    orders,
    sampled_shuffle_test,
    shuffle_test,
)
from feature_extraction.optical_flow import flows

VELOCITIES = [(2.0, 0.5), (-1.0, 1.5), (0.5, -2.0), (-1.5, -1.0)]


def moved_film(velocity: tuple[float, float], seed: int, size: int = 48, n_frames: int = 8) -> np.ndarray:
    """Move a random picture to the right and down, in pixels a frame."""
    picture = gaussian_filter(np.random.default_rng(seed).normal(size=(size + 48, size + 48, 3)), (3, 3, 0))
    picture = (picture - picture.min()) / np.ptp(picture) * 255
    frames = [shift(picture, (t * velocity[1], t * velocity[0], 0), order=1) for t in range(n_frames)]
    return np.stack(frames)[:, 24:-24, 24:-24].clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    """Four films of other velocities, (4, 8, 48, 48, 3)."""
    return np.stack([moved_film(v, seed) for seed, v in enumerate(VELOCITIES)])


@pytest.fixture(scope="module")
def noisy(films) -> np.ndarray:
    """Give the films in other pictures, of which half move too slowly."""
    slower = np.multiply(VELOCITIES, [[1], [1], [0.4], [0.4]]).tolist()
    return np.stack([moved_film((right, down), 10 + i) for i, (right, down) in enumerate(slower)])


@pytest.fixture(scope="module")
def of_noisy(noisy, films) -> motion.Motion:
    return measure(noisy, films)


# Scores.


def test_a_film_moves_as_itself(films):
    found = measure(films, films, orders=False)
    np.testing.assert_array_equal(found.scores["epe"], 0)
    for name in ("flow_cosine", "direction_cosine"):
        np.testing.assert_allclose(found.scores[name], 1, atol=1e-6)
    assert (found.scores["flow_cosine_reversed"] < -0.9).all()
    assert (found.scores["epe_reversed"] > 1.8 * found.scores["epe_still"]).all()
    assert found.scores["speed_ratio"].mean() == pytest.approx(1)
    np.testing.assert_allclose(found.scores["speed"], [np.hypot(*v) for v in VELOCITIES], rtol=0.1)
    assert found.distances is None


def test_a_film_shown_backwards_moves_the_other_way(films):
    forwards, backwards = measure(films, films, orders=False), measure(films[:, ::-1], films, orders=False)
    assert (backwards.scores["flow_cosine"] < -0.9).all()
    assert (backwards.scores["direction_cosine"] < -0.99).all()
    np.testing.assert_allclose(backwards.scores["flow_cosine"], forwards.scores["flow_cosine_reversed"], atol=1e-6)
    np.testing.assert_allclose(backwards.scores["flow_cosine_reversed"], 1, atol=1e-6)
    np.testing.assert_allclose(backwards.scores["epe"], forwards.scores["epe_reversed"])
    np.testing.assert_allclose(backwards.scores["epe_reversed"], 0)


def test_scores_agree_with_their_definitions(noisy, films, of_noisy):
    for i, (video, true) in enumerate(zip(noisy, films, strict=True)):
        f, g = flows(video).astype(float), flows(true).astype(float)
        length = np.linalg.norm(g, axis=-1)
        expected = {
            "epe": np.linalg.norm(f - g, axis=-1).mean(),
            "epe_reversed": np.linalg.norm(flows(video[::-1]) - g, axis=-1).mean(),
            "epe_still": length.mean(),
            "flow_cosine": (f * g).sum() / np.linalg.norm(f) / np.linalg.norm(g),
            "speed": np.linalg.norm(f, axis=-1).mean(),
        }
        for name, value in expected.items():
            assert of_noisy.scores[name][i] == pytest.approx(value, rel=1e-5), name
        for j, other in enumerate(films):
            assert of_noisy.cosines[i, j] == pytest.approx(motion.flow_cosine(f, flows(other)), abs=1e-5)
    ratio = of_noisy.scores["speed"].mean() / of_noisy.scores["epe_still"].mean()
    assert of_noisy.scores["speed_ratio"].mean() == pytest.approx(ratio)
    assert ratio == pytest.approx(0.7, abs=0.05)


def test_scores_do_not_depend_on_whether_orders_are_wanted_or_on_other_clips(noisy, films, of_noisy, monkeypatch):
    without = measure(iter(noisy), iter(films), orders=False)
    for name, values in of_noisy.scores.items():
        np.testing.assert_array_equal(without.scores[name], values, err_msg=name)
    monkeypatch.setattr(motion, "_CLIPS_AT_ONCE", 3)
    np.testing.assert_allclose(measure(noisy, films, orders=False).cosines, of_noisy.cosines, atol=1e-6)
    alone = measure(noisy[2:3], films[2:3])
    for name in set(of_noisy.scores) - {"speed_ratio"}:  # its unit is the mean true speed
        assert alone.scores[name][0] == pytest.approx(of_noisy.scores[name][2], abs=1e-6), name
    np.testing.assert_array_equal(alone.distances[0], of_noisy.distances[2])


def test_a_film_that_does_not_move_has_no_motion_and_the_error_of_none(films):
    still = np.repeat(films[:, :1], 8, axis=1)
    found = measure(still, films)
    for name in ("flow_cosine", "flow_cosine_reversed", "direction_cosine"):
        np.testing.assert_array_equal(found.scores[name], 0, err_msg=name)
    np.testing.assert_array_equal(found.cosines, 0)
    np.testing.assert_allclose(found.scores["epe"], found.scores["epe_still"], rtol=0.01)
    both = measure(still, still, orders=False)  # flow of rounding, the same on both sides
    np.testing.assert_array_equal(both.scores["flow_cosine"], 0)
    assert other_clips_test(found.cosines, np.arange(4), 99, seed=1).p == 1


def test_the_flow_cosine_does_not_ask_for_amplitude_and_the_end_point_error_likes_it_small():
    true = np.random.default_rng(0).normal(size=(7, 16, 16, 2)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=true.shape).astype(np.float32)
    decoded = 0.3 * true + noise
    assert motion.flow_cosine(0.1 * decoded, true) == pytest.approx(motion.flow_cosine(decoded, true))
    assert motion.epe(0.1 * decoded, true) < motion.speed(true) < motion.epe(decoded, true)
    assert motion.direction_cosine(np.zeros_like(true), true) == 0


def test_large_flows_are_compared_by_cells():
    """Noise within cells is averaged out; the cosine of smooth flows is that of all pixels."""
    generator = np.random.default_rng(0)
    small = generator.normal(size=(2, 2, 64, 64, 2))
    f, g = small[0], small[0] + small[1]
    smooth = motion.flow_cosine(f.repeat(4, 1).repeat(4, 2), g.repeat(4, 1).repeat(4, 2))
    assert smooth == pytest.approx((f * g).sum() / np.linalg.norm(f) / np.linalg.norm(g), abs=1e-6)
    noise = generator.normal(size=(2, 256, 256, 2))
    assert motion.flow_cosine(f.repeat(4, 1).repeat(4, 2) + noise, g.repeat(4, 1).repeat(4, 2)) > 0.9 * smooth


def test_the_channels_as_published_change_the_flow(films):
    assert not np.array_equal(
        measure(films[:1], films[1:2], "bgr", orders=False).scores["epe"],
        measure(films[:1], films[1:2], orders=False).scores["epe"],
    )


def test_clips_are_not_kept(films, monkeypatch):
    """Memory for a clip more is that of two grids, not of the clip, its flows or its pairs of frames."""

    def clips(n: int):
        for _ in range(n):
            yield np.repeat(films[0], 2, axis=1).repeat(2, axis=2)  # 96 x 96, above the grid

    monkeypatch.setattr(motion, "_CLIPS_AT_ONCE", 1)
    peaks = []
    for n in (2, 6):
        tracemalloc.start()
        measure(clips(n), clips(n), orders=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    grid = 7 * 64 * 64 * 2 * 4
    assert peaks[1] - peaks[0] < 4 * 2.5 * grid
    assert peaks[0] > 14 * 96 * 96 * 2 * 4  # the flows of one clip


@pytest.mark.parametrize(
    ("videos", "true", "message"),
    [
        (np.zeros((0, 8, 4, 4, 3), np.uint8), np.zeros((0, 8, 4, 4, 3), np.uint8), "there are no clips"),
        (np.zeros((1, 8, 4, 4, 3), np.uint8), np.zeros((2, 8, 4, 4, 3), np.uint8), "argument 2 is longer"),
        (np.zeros((1, 7, 4, 4, 3), np.uint8), np.zeros((1, 8, 4, 4, 3), np.uint8), r"clip 0 is \(7, 4, 4, 3\)"),
        (np.zeros((1, 8, 4, 4, 3)), np.zeros((1, 8, 4, 4, 3), np.uint8), "uint8"),
    ],
)
def test_pairs_that_do_not_match_are_refused(videos, true, message):
    with pytest.raises(ValueError, match=message):
        measure(videos, true)


# Other clips.


def in_shots(generator: np.random.Generator, related: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of 40 shots of 1 to 5 clips, whose clips move nearly alike in the film and in what is decoded of it."""
    shots = np.repeat(np.arange(40), generator.integers(1, 6, 40))
    true, decoded = (
        generator.normal(size=(40, 4))[shots] + 0.1 * generator.normal(size=(len(shots), 4)) for _ in range(2)
    )
    decoded += related * true
    true, decoded = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (true, decoded))
    return decoded @ true.T, shots


def test_shots_exchanged_whole_reject_five_times_in_a_hundred_and_single_clips_too_often():
    whole, single = [], []
    for seed in range(400):
        cosines, shots = in_shots(np.random.default_rng(seed))
        whole.append(other_clips_test(cosines, shots, 199, seed).p)
        single.append(other_clips_test(cosines, np.arange(len(shots)), 199, seed).p)
    whole, single = np.array(whole), np.array(single)
    for level in (0.05, 0.2, 0.5):
        assert (whole <= level).mean() == pytest.approx(level, abs=2.5 * np.sqrt(level * (1 - level) / 400))
    assert (single <= 0.05).mean() > 0.12


def test_motion_of_the_own_clip_is_found():
    found = other_clips_test(*in_shots(np.random.default_rng(1), related=0.6), 999, 1)
    assert found.p == found.smallest_p == 1 / 1000
    assert found.mean > 0.3
    assert abs(found.others) < 0.15


def test_exchanges_agree_with_all_there_are():
    generator = np.random.default_rng(2)
    shots = np.array([5, 5, 9, 1, 1, 3, 3, 7, 8, 8, 8])  # three of two clips, two of one, and one of three
    cosines = generator.normal(size=(11, 11))
    twos, ones = np.array([[3, 4], [5, 6], [0, 1]]), np.array([[2], [7]])
    sums = []
    for a, b in itertools.product(itertools.permutations(range(3)), itertools.permutations(range(2))):
        sums.append(cosines[twos[list(a)], twos].sum() + cosines[ones[list(b)], ones].sum())
    found = other_clips_test(cosines, shots, 20_000, 1)
    assert (found.n_clips, found.n_shots) == (8, 5)
    assert found.smallest_p == pytest.approx(1 / 12)
    assert found.mean == pytest.approx(sums[0] / 8)
    assert found.p == pytest.approx(np.mean(np.array(sums) >= sums[0]), abs=0.015)
    of_twos = sum(cosines[twos[i], twos[j]].sum() for i, j in itertools.permutations(range(3), 2)) / 2
    of_ones = sum(cosines[ones[i], ones[j]].sum() for i, j in itertools.permutations(range(2), 2))
    assert found.others == pytest.approx((of_twos + of_ones) / 8)
    assert other_clips_test(cosines, shots, 500, 1) == other_clips_test(cosines, shots, 500, 1)


def test_motion_that_all_clips_have_is_not_their_own():
    assert other_clips_test(np.full((20, 20), 0.8), np.arange(20) // 2, 199, 1).p == 1


def test_cosines_with_others_leave_out_the_own_shot():
    cosines = np.array([[9.0, 9, 1, 2], [9, 9, 3, 5], [1, 3, 9, 4], [0, 0, 6, 9]])
    np.testing.assert_allclose(cosines_with_others(cosines, np.array([0, 0, 1, 2])), [1.5, 4, 8 / 3, 2])


def test_without_shots_to_exchange_there_is_no_test():
    with pytest.raises(ValueError, match="no two of 2 shots have as many clips"):
        other_clips_test(np.eye(3), np.array([0, 0, 1]), 99, 1)
    with pytest.raises(ValueError, match="the 3 clips are of one shot"):
        cosines_with_others(np.eye(3), np.zeros(3))


# The order of frames.


def test_every_order_is_as_computed_from_the_frames_in_that_order(noisy, films, of_noisy):
    by_order = every_order(of_noisy.distances.mean(axis=0))
    assert by_order.shape == (40_320,)
    assert orders(8)[0].tolist() == list(range(8))
    for k in [0, *np.random.default_rng(0).integers(40_320, size=6).tolist()]:
        direct = measure(noisy[:, orders(8)[k]], films, orders=False).scores["epe"].mean()
        assert by_order[k] == pytest.approx(direct, rel=1e-12)
    assert by_order[0] == pytest.approx(of_noisy.scores["epe"].mean(), rel=1e-12)


def test_the_exact_p_is_the_share_of_orders_as_good_as_the_true_one(of_noisy):
    found = shuffle_test(of_noisy.distances)
    by_order = every_order(of_noisy.distances.mean(axis=0))
    assert found.p == (by_order <= by_order[0]).sum() / 40_320
    assert found.p < 0.001
    assert (found.epe, found.n_orders) == (by_order[0], 40_320)
    assert found.shuffled == pytest.approx(by_order.mean())
    assert found.shuffled > found.epe


def test_five_hundred_orders_at_random_agree_with_all(of_noisy):
    p, deviation = sampled_shuffle_test(of_noisy.distances, seed=1)
    assert p == pytest.approx(shuffle_test(of_noisy.distances).p, abs=0.01)
    assert deviation < 0.01
    middling = np.random.default_rng(5).uniform(size=(1, 7, 8, 8))
    exact = shuffle_test(middling).p
    assert 0.05 < exact < 0.95
    p, deviation = sampled_shuffle_test(middling, 1, n_orders=2000, n_repeats=20)
    assert p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))
    assert deviation == pytest.approx(np.sqrt(exact * (1 - exact) / 2000), rel=0.5)


def test_films_that_do_not_move_and_what_has_no_order_have_p_1(films):
    still = measure(np.repeat(films[:, :1], 8, axis=1), films).distances
    assert shuffle_test(still).p == 1
    assert sampled_shuffle_test(still, 1) == (1, 0)
    of_frames = np.random.default_rng(0).uniform(size=8)  # a score of each frame, whatever its place
    order_free = np.zeros((1, 7, 8, 8))
    order_free[:, 0] = of_frames[:, None] + of_frames
    order_free[:, 1:] = of_frames
    assert shuffle_test(order_free).p == 1


def test_a_smooth_film_of_another_clip_passes_the_papers_test_and_fails_ours(films):
    """What the paper's test tells is that neighbouring frames are alike."""
    others = films[[1, 0, 3, 2]]
    found = measure(others, films)
    assert shuffle_test(found.distances).p < 0.01
    assert other_clips_test(found.cosines, np.arange(4), 199, 1).p > 0.3


def test_errors_of_some_orders_and_too_many_frames():
    distances = np.zeros((2, 3, 3))
    distances[0, 2, 0], distances[1, 0, 1] = 3, 5
    np.testing.assert_array_equal(errors_of(np.array([[2, 0, 1], [0, 1, 2]]), distances), [4, 0])
    with pytest.raises(ValueError, match="10 frames have too many orders"):
        every_order(np.zeros((9, 10, 10)))


# As published.


def test_bootstrap_and_wilcoxon_find_a_difference_where_there_is_none():
    generator = np.random.default_rng(0)
    p = [bootstrap_wilcoxon_test(*generator.normal(size=(2, 120)), seed=k) for k in range(150)]
    assert 0.75 < np.mean(np.array(p) < 0.05) < 0.95
    assert bootstrap_wilcoxon_test(np.ones(9), np.ones(9), 1) == 1
