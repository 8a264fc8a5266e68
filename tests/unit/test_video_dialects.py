"""Scores of films as published: golden values, what GIFs and grids do, and what sets them apart from ours."""

import itertools

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from evaluation.metrics.images import psnr
from evaluation.videos import dialects
from evaluation.videos.dialects import beside, drawn_n_way, hue_cosine, published_scores, split, through_gif
from evaluation.videos.metrics import chance, hue_correlation, n_way
from evaluation.videos.networks import FilmNetworks


def smooth_film(size=512, n_frames=8, seed=0, width=24.0):
    """A film of slow colours that moves."""
    rng = np.random.default_rng(seed)
    field = cv2.GaussianBlur(rng.normal(size=(size + 16, size + 16, 3)), (0, 0), width)
    field = np.interp(field, (field.min(), field.max()), (0, 255)).astype(np.uint8)
    return np.stack([field[2 * t : 2 * t + size, t : t + size] for t in range(n_frames)])


def no_networks():
    return FilmNetworks(lambda _: {}, {}, "")


def ssim(a, b):
    values = [structural_similarity(x, y, data_range=255, channel_axis=-1) for x, y in zip(a, b, strict=True)]
    return float(np.mean(values))


# The grid


def test_the_grid_is_516_by_1030_and_its_halves_are_a_pixel_apart():
    film = smooth_film(n_frames=2)
    grid = beside(film, film)
    assert grid.shape == (2, 516, 1030, 3)
    left, right = split(grid)
    assert left.shape == right.shape == (2, 516, 515, 3)
    np.testing.assert_array_equal(left[:, 2:514, 2:514], film)
    np.testing.assert_array_equal(right[:, 2:514, 1:513], film)
    for border in (left[:, :2], left[:, 514:], left[:, :, :2], left[:, :, 514:], right[:, :, :1], right[:, :, 513:]):
        assert not border.any()


def test_equal_smooth_films_do_not_score_as_equal():
    """SSIM .990 and 28.5 dB are given for one such film."""
    films = [smooth_film(n_frames=1, seed=seed) for seed in range(3)]
    halves = [split(beside(film, film)) for film in films]
    assert np.mean([ssim(*pair) for pair in halves]) == pytest.approx(0.990, abs=0.005)
    assert np.mean([psnr(*pair)[0] for pair in halves]) == pytest.approx(28.5, abs=2)


def test_noise_that_is_shifted_by_a_pixel_scores_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8)
    assert abs(ssim(*split(beside(noise, noise)))) < 0.05


# GIF


@pytest.mark.parametrize("n_different", [1, 3, 8])
def test_a_film_comes_back_from_a_gif_with_all_its_frames(n_different):
    film = smooth_film(64)[np.arange(8) * n_different // 8]
    again = through_gif(film)
    assert again.shape == film.shape
    assert 0 < np.abs(again.astype(int) - film).mean() < 6  # 256 colours
    same = np.abs(film[1:].astype(int) - film[:-1]).max(axis=(1, 2, 3)) == 0
    np.testing.assert_array_equal(np.abs(again[1:].astype(int) - again[:-1]).max(axis=(1, 2, 3)) == 0, same)


def test_few_colours_survive_a_gif():
    film = np.random.default_rng(0).integers(0, 4, (8, 16, 16, 3)).astype(np.uint8) * 85
    np.testing.assert_array_equal(through_gif(film), film)


# Hue


def test_uniform_hues_that_are_unrelated_have_a_cosine_of_three_quarters_and_no_correlation():
    hsv = np.full((2, 256, 256, 3), 255, np.uint8)
    hsv[..., 0] = np.random.default_rng(0).integers(0, 180, hsv.shape[:3])
    a, b = (cv2.cvtColor(image, cv2.COLOR_HSV2BGR)[None] for image in hsv)
    assert hue_cosine(a, b)[0] == pytest.approx(0.75, abs=0.01)
    assert abs(hue_correlation(a, b)[0]) < 0.02
    np.testing.assert_allclose(hue_cosine(a, a), 1)


def test_red_and_blue_are_exchanged_in_the_published_cosine():
    """Red becomes blue, hue 120 of 179, and blue becomes red, hue 0."""
    red, blue = (np.full((1, 4, 4, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    half = np.concatenate([red, blue], axis=2)
    assert hue_cosine(np.concatenate([red, red], axis=2), half)[0] == pytest.approx(1 / np.sqrt(2))
    assert hue_cosine(np.concatenate([blue, blue], axis=2), half)[0] == 0  # all hues are 0


# Draws


@pytest.mark.parametrize("n", [2, 50])
def test_draws_are_those_of_the_exact_score(n):
    rng = np.random.default_rng(0)
    seen, made = rng.normal(size=(2, 40, 60))
    exact = n_way(seen, made + 0.5 * seen, n)
    drawn = drawn_n_way(seen, made + 0.5 * seen, n, 400, np.random.default_rng(1))
    error = np.sqrt(exact * (1 - exact) / 400)
    assert (np.abs(drawn - exact) < 4.5 * error + 1e-9).all()
    assert np.abs(drawn - exact).max() > 0


def test_chance_of_draws_is_that_of_three_right_classes():
    rng = np.random.default_rng(0)
    seen, made = rng.normal(size=(2, 3000, 60))
    for n in (2, 50):
        assert drawn_n_way(seen, made, n, 4, rng).mean() == pytest.approx(chance(n), abs=0.025)


# All of it


def test_the_first_six_frames_count_for_ssim_and_hue_and_all_eight_for_psnr():
    film = smooth_film(64)[None]
    late, early = film.copy(), film.copy()
    late[:, 6:], early[:, :2] = 0, 0
    ids = np.array([101001])
    whole, of_late, of_early = (
        published_scores(no_networks(), ids, film, made, 0.6, 0) for made in (film, late, early)
    )
    for name in ("as_published/ssim", "as_published/hue"):
        # Other frames of the GIF have palettes of their own, so that they change by nothing.
        np.testing.assert_allclose(of_late[name], whole[name], atol=0.01)
        assert (of_early[name] < whole[name] - 0.1).all()
    assert (of_late["as_published/psnr"] < whole["as_published/psnr"] - 3).all()


def look(videos):
    """Networks that see mean colours, and of a film how it changes."""
    weights = np.random.default_rng(0).normal(size=(3, 60))
    of_frames = videos.mean(axis=(2, 3))
    of_film = of_frames.mean(axis=1)
    return {"image": of_frames @ weights, "video": of_film @ weights, "vifi": of_film, "clip": of_frames}


def test_each_clip_has_its_own_draws_whatever_the_batch():
    ids, seen = np.array([101001, 101002, 102001]), np.stack([smooth_film(32, seed=k) for k in range(3)])
    made = seen[::-1].copy()
    networks = FilmNetworks(look, {}, "_stand_in")
    whole = published_scores(networks, ids, seen, made, -1, 7)
    assert set(whole) == {
        "as_published/ssim", "as_published/psnr", "as_published/hue",
        *(f"as_published/{name}_{n}_way_stand_in" for name in ("image", "video") for n in (2, 50)),
        "as_published/vifi_stand_in", "as_published/clip_consistency_gated_stand_in",
    }  # fmt: skip
    for rows in ([2], [1, 0]):
        part = published_scores(networks, ids[rows], seen[rows], made[rows], -1, 7)
        for name, values in part.items():
            np.testing.assert_allclose(values, whole[name][rows], err_msg=name)
    trials = whole["as_published/image_2_way_stand_in"] * 20 * 8
    np.testing.assert_allclose(trials, trials.round(), atol=1e-9)  # 20 draws for each of 8 frames
    trials = whole["as_published/video_2_way_stand_in"] * 100
    np.testing.assert_allclose(trials, trials.round(), atol=1e-9)


def test_clips_that_are_alike_have_draws_of_their_own():
    seen, made = (np.repeat(smooth_film(32, seed=k)[None], 2, axis=0) for k in range(2))

    def guess(videos):
        return {"video": np.tile(np.random.default_rng(int(videos[0].sum())).normal(size=60), (len(videos), 1))}

    found = published_scores(FilmNetworks(guess, {}, ""), np.array([101001, 101002]), seen, made, 0.6, 7)
    assert np.ptp(found["as_published/video_2_way"]) > 0
    assert np.ptp(found["as_published/psnr"]) == 0


def test_networks_see_the_film_itself_its_gif_and_halves_of_the_grid():
    """Frames are compared between the film and the GIF; videos between halves, whose borders are seen."""
    seen, made = 255 - smooth_film(64)[None] // 4, 255 - smooth_film(64, seed=1)[None] // 4  # nowhere dark
    looked = []
    published_scores(FilmNetworks(lambda videos: looked.append(videos) or {}, {}, ""), np.array([1]), seen, made, 0, 0)
    itself, alone, left, right = looked
    np.testing.assert_array_equal(itself, seen)
    np.testing.assert_array_equal(alone[0], through_gif(made[0]))
    assert left.shape == right.shape == seen.shape
    assert left[:, :, :2].max() < 100 < left[:, :, 4:-4, 4:-4].min()
    assert np.abs(right[:, :, 4:-4, 4:-4].astype(int) - made[:, :, 4:-4, 4:-4]).mean() < 10


def test_classes_of_frames_are_of_the_films_and_those_of_videos_are_of_halves():
    film, outputs, n_calls = smooth_film(32)[None], np.random.default_rng(0).normal(size=60), itertools.count()

    def disagree_elsewhere(_):
        call = next(n_calls)  # the film, the GIF, and the two halves
        of_frames, of_film = (-outputs if call == disagreeing else outputs for disagreeing in (3, 1))
        return {"image": np.tile(of_frames, (1, 8, 1)), "video": of_film[None]}

    found = published_scores(FilmNetworks(disagree_elsewhere, {}, ""), np.array([1]), film, film, 0.6, 0)
    assert [found[f"as_published/{name}_50_way"][0] for name in ("image", "video")] == [1, 1]


def test_a_film_is_not_as_published_equal_to_itself():
    film = smooth_film(64)[None]
    found = published_scores(no_networks(), np.array([1]), film, film, 0.6, 0)
    assert 25 < found["as_published/psnr"][0] < 60
    assert found["as_published/ssim"][0] < 0.98


def test_the_gate_is_on_the_vifi_score():
    ids, seen = np.array([101001]), smooth_film(32)[None]
    networks = FilmNetworks(lambda v: {**look(v), "vifi": look(v)["vifi"] - 127.0}, {}, "")
    for made, is_above in ((seen, True), (255 - seen, False)):
        found = published_scores(networks, ids, seen, made, 0.6, 0)
        assert (found["as_published/vifi"][0] > 0.6) == is_above
        assert (found["as_published/clip_consistency_gated"][0] > 0) == is_above


def test_films_of_another_size_are_resized_and_of_another_length_refused():
    seen = smooth_film(32)[None]
    found = published_scores(no_networks(), np.array([1]), seen, smooth_film(64)[None], 0.6, 0)
    assert set(found) == {f"{dialects.NAME}/{name}" for name in ("ssim", "psnr", "hue")}
    with pytest.raises(ValueError, match="shape"):
        published_scores(no_networks(), np.array([1]), seen, seen[:, :7], 0.6, 0)
