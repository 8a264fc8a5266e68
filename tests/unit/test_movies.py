"""Drawn films: reproducible, cut as promised, and with a motion that no still picture gives away."""

from dataclasses import replace

import numpy as np
import pytest

from miniature import movies
from miniature.scenes import captions

N_SHOTS = 3000


@pytest.fixture(scope="module")
def film():
    return movies.draw_film("seg1", n_clips=24, mean_shot=3, alone=0.6, seed=5)


@pytest.fixture(scope="module")
def shots():
    return [movies.sample_shot(0.6, np.random.default_rng(k)) for k in range(N_SHOTS)]


def places(scene):
    return np.array([(item.x, item.y) for item in scene.objects])


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


def test_films_are_reproducible_and_do_not_depend_on_their_length(film):
    again = movies.draw_film("seg1", n_clips=10, mean_shot=3, alone=0.6, seed=5)
    np.testing.assert_array_equal(again.frames, film.frames[:80])
    np.testing.assert_array_equal(again.shot, film.shot[:80])
    np.testing.assert_array_equal(again.steps, film.steps[:80])
    assert movies.draw_captions(again, "seg1", 5) == tuple(
        texts[:10] for texts in movies.draw_captions(film, "seg1", 5)
    )
    for name, seed in (("seg2", 5), ("seg1", 6)):
        assert not np.array_equal(movies.draw_film(name, 2, 3, 0.6, seed).frames, film.frames[:16])


def test_a_film_has_what_it_says_in_each_frame(film):
    assert film.frames.shape == (192, 64, 64, 3)
    assert len(film.scenes) == len(film.visible) == len(film.steps) == len(film.shot) == 192
    for shot in range(film.shot[-1] + 1):
        of_shot = [film.scenes[k] for k in np.flatnonzero(film.shot == shot)]
        assert len({(s.background, s.horizon, s.texture_seed, len(s.objects)) for s in of_shot}) == 1
        moved = np.diff([places(s) for s in of_shot], axis=0)
        steps = film.steps[film.shot == shot][:-1]
        np.testing.assert_allclose(moved, np.repeat(steps[:, None], moved.shape[1], axis=1), atol=1e-9)


def test_shots_last_one_to_five_clips_and_three_on_average():
    lengths, inside, n_cuts = [], 0, 0
    for k in range(100):
        shot = movies.shots_of_frames(90, 3, np.random.default_rng(k))
        cuts = np.flatnonzero(np.diff(shot)) + 1
        assert np.diff(shot).max() == 1
        assert shot[0] == 0
        inside, n_cuts = inside + (cuts % 8 != 0).sum(), n_cuts + len(cuts)
        lengths += np.diff(np.r_[0, cuts // 8]).tolist()
    assert set(lengths) == {1, 2, 3, 4, 5}
    assert np.mean(lengths) == pytest.approx(3, abs=0.1)
    assert inside / n_cuts == pytest.approx(0.1, abs=0.02)


def test_most_shots_have_one_large_object_and_others_two_that_move(shots):
    sizes = [[item.radius for item in shot.scene.objects] for shot in shots]
    assert {len(radii) for radii in sizes} == {1, 2}
    alone = [radii[0] for radii in sizes if len(radii) == 1]
    assert len(alone) / N_SHOTS == pytest.approx(0.6, abs=0.03)
    assert 13 <= min(alone) < max(alone) <= 20
    speed = np.hypot(*np.array([shot.velocity for shot in shots]).T)
    assert (speed == 0).mean() == pytest.approx(0.05, abs=0.015)
    assert 1.5 <= speed[speed > 0].min() < 1.6
    assert 3.4 < speed.max() <= 3.5


def test_neither_place_nor_facing_nor_size_predicts_the_direction(shots):
    """Each correlation has a standard error of .018."""
    velocity = np.array([shot.velocity for shot in shots])
    first = [shot.scene.objects[0] for shot in shots]
    for values in ([o.x for o in first], [o.y for o in first], [o.facing for o in first], [o.radius for o in first]):
        for v in velocity.T:
            assert abs(correlation(values, v)) < 0.07
            assert abs(correlation(np.abs(values - np.mean(values)), np.abs(v))) < 0.07


def test_objects_stay_within_bounds_and_are_equally_often_everywhere_whatever_their_direction(shots):
    before, steps = [], []
    for shot in shots[:600]:
        scenes, moved = movies.move(shot, 40)
        at = np.stack([places(scene) for scene in scenes])
        assert at.min() > 6 - 1e-9
        assert at.max() < 58 + 1e-9
        np.testing.assert_allclose(at - at[:, :1], np.broadcast_to(at[:1] - at[:1, :1], at.shape), atol=1e-9)
        if len(shot.scene.objects) == 1:
            before.append(at[:, 0])
            steps.append(moved)
    middle = np.stack(before) + np.stack(steps) / 2
    for axis in (0, 1):
        assert abs(correlation(middle[..., axis].ravel(), np.stack(steps)[..., axis].ravel())) < 0.05
        counts, _ = np.histogram(middle[..., axis], bins=4, range=(6, 58))
        assert counts.min() > 0.8 * counts.mean()


def test_an_object_that_comes_to_a_bound_turns_back(shots):
    shot = replace(next(s for s in shots if len(s.scene.objects) == 1), velocity=(3.0, 0.0))
    room = movies.rooms(shot.scene)[0][1]
    at_end = replace(shot, scene=movies.shifted(shot.scene, room - 4, 0))
    scenes, steps = movies.move(at_end, 4)
    assert [round(58 - scene.objects[0].x, 6) for scene in scenes] == [4, 1, 2, 5]
    np.testing.assert_allclose(steps[:, 0], [3, -1, -3, -3])


def test_pixels_move_as_the_steps_say(film):
    checked = 0
    for k in np.flatnonzero(np.diff(film.shot, append=-1) == 0):
        item = film.scenes[k].objects[0]
        inside = all(21 < place < 43 for scene in film.scenes[k : k + 2] for place in places(scene).ravel())
        if len(film.scenes[k].objects) == 1 and inside and item.radius < 19:
            centres = [np.argwhere(film.visible[n][0]).mean(axis=0)[::-1] for n in (k, k + 1)]
            np.testing.assert_allclose(centres[1] - centres[0], film.steps[k], atol=0.4)
            checked += 1
    assert checked >= 5


def test_captions_of_a_clip_are_joined_where_they_fit_its_middle_unequally():
    def caption(similarities, seed=0):
        return movies.caption_clip("a", "b", np.array(similarities), 0.05, np.random.default_rng(seed))

    assert caption([0.3, 0.2]) == caption([0.2, 0.3]) == "a, and then b"
    chosen = [caption([0.3, 0.27], seed) for seed in range(400)]
    assert set(chosen) == {"a", "b"}
    assert chosen.count("a") == pytest.approx(200, abs=40)
    assert [caption([0.3, 0.27], seed) for seed in range(400)] == chosen


def test_first_and_last_frame_are_captioned_by_what_they_show(film):
    first, last = movies.draw_captions(film, "seg1", 5)
    assert len(first) == len(last) == 24
    for texts, offset in ((first, 0), (last, 7)):
        for clip, text in enumerate(texts):
            scene = film.scenes[8 * clip + offset]
            assert all(f"{item.colour} {item.kind}" in text for item in scene.objects)
            possible = {captions(scene, np.random.default_rng(k))[0] for k in range(30)}
            assert text in possible
    assert any(a != b for a, b in zip(first, last, strict=True))
