"""The simulated brain that watches films: its timing, its sense of motion, and the one that lacks it."""

import ast
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import gamma
from sklearn.linear_model import Ridge

from data.cortex import AREAS
from minddiffuser.config import REPOSITORY
from miniature import movies, video_brain
from miniature.brain import AREAS as STILL_AREAS

MOVED = np.array(["MT"] * 60 + ["MST"] * 60 + ["A1"] * 10 + ["V4"] * 60)


@pytest.fixture(scope="module")
def films():
    return [movies.draw_film(name, n_clips=60, mean_shot=2, alone=0.6, seed=3) for name in ("seg1", "seg2", "test1")]


@pytest.fixture(scope="module")
def views(films):
    return [video_brain.view(film, film.frames) for film in films]


@pytest.fixture(scope="module")
def brain():
    return video_brain.sample_brain(MOVED, 1.0, np.random.default_rng(0))


def noiseless(brain):
    return replace(brain, noise=np.zeros_like(brain.noise))


def test_the_brain_knows_no_network_no_latents_no_captions_and_no_optical_flow():
    tree = ast.parse((REPOSITORY / "miniature" / "video_brain.py").read_text())
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    known = {"collections.abc", "dataclasses", "numpy", "numpy.polynomial.legendre"}
    known |= {"scipy.fft", "scipy.signal", "scipy.special", "miniature.brain", "miniature.movies", "miniature.scenes"}
    assert imported == known
    names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not names & {"steps", "velocity"}  # nor the true motion


def test_every_area_is_like_one_that_watches_pictures():
    assert tuple(video_brain.AREAS) == AREAS
    assert {like for like, _ in video_brain.AREAS.values()} <= set(STILL_AREAS)


# ---- motion


def test_a_film_that_runs_backwards_has_the_other_sign_of_motion(films):
    clip = films[0].frames[:8]
    forwards, backwards = video_brain.motion_channels(clip), video_brain.motion_channels(clip[::-1])
    np.testing.assert_allclose(np.concatenate([forwards[8:], forwards[:8]]), backwards, atol=1e-4)
    assert forwards.max() > 0.01


def test_a_picture_that_is_held_has_no_motion(films):
    assert video_brain.motion_channels(films[0].frames[:1].repeat(8, axis=0)).max() < 1e-3 * np.ptp(films[0].frames)


@pytest.mark.parametrize(("angle", "channel"), [(0, 0), (45, 1), (90, 2), (135, 3)])
def test_a_drifting_grating_drives_the_channel_of_its_direction(angle, channel):
    """Wavelength 10 pixels, a quarter of it in each step; the other way round it drives the other sign."""
    y, x = np.mgrid[:64, :64]
    along = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    frames = np.stack([127 + 100 * np.cos(2 * np.pi * (along - 2.5 * t) / 10) for t in range(8)])
    frames = np.repeat(frames[..., None], 3, axis=-1).astype(np.uint8)
    energy = video_brain.motion_channels(frames)[:, 12:20, 12:20].mean(axis=(1, 2))
    winner = int(energy.argmax())
    assert winner % 8 == channel
    assert energy[(winner + 8) % 16] < 0.1 * energy[winner]
    reverse = video_brain.motion_channels(frames[::-1])[:, 12:20, 12:20].mean(axis=(1, 2))
    assert reverse.argmax() == (winner + 8) % 16


def test_the_motion_blind_brain_has_the_same_energy_and_no_sign(views, brain):
    motion = views[0].motion
    total = replace(brain, motion=np.ones_like(brain.motion))
    normal, blind = (video_brain.respond_to_motion(motion, total, direction) for direction in (True, False))
    np.testing.assert_allclose(normal, blind, rtol=1e-4)
    backwards = np.concatenate([motion[:, 8:], motion[:, :8]], axis=1)
    normal, blind = (
        [video_brain.respond_to_motion(each, brain, direction) for each in (motion, backwards)]
        for direction in (True, False)
    )
    np.testing.assert_allclose(*blind, rtol=1e-4)
    assert np.abs(normal[0] - normal[1]).mean() > 0.2 * normal[0].mean()


def direction_read_out(films, responses):
    """Correlation of the decoded with the true motion of clips of the last film; a decoder of all the others."""
    motion = [film.steps.reshape(-1, 8, 2)[:, :-1].mean(axis=1) for film in films]
    X, Y = np.concatenate(responses[:-1]), np.concatenate(motion[:-1])
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    found = Ridge(30).fit((X - mean) / deviation, Y).predict((responses[-1] - mean) / deviation)
    return [np.corrcoef(a, b)[0, 1] for a, b in zip(found.T, motion[-1].T, strict=True)]


@pytest.mark.parametrize(("direction", "lowest", "highest"), [(True, 0.6, 1.0), (False, -0.3, 0.3)])
def test_direction_is_read_from_the_normal_brain_and_not_from_the_motion_blind_one(
    films, views, brain, direction, lowest, highest
):
    responses = [video_brain.respond_to_motion(each.motion[1:-1], brain, direction) for each in views]
    for r in direction_read_out(films, responses):
        assert lowest < r < highest


@pytest.mark.parametrize(("direction", "lowest", "highest"), [(True, 0.4, 1.0), (False, -0.3, 0.3)])
def test_nor_does_time_give_direction_away(films, views, brain, direction, lowest, highest):
    """From responses of all vertices, as they are recorded but without noise."""
    drives = [each[:, brain.sees] for each in video_brain.drive(views, brain, 1.0, direction)]
    held = [np.concatenate([each, each[-1:].repeat(2, axis=0)]) for each in drives]  # until the last volume
    responses = [video_brain.haemodynamic_response(each)[3:63] for each in held]
    for r in direction_read_out(films, responses):
        assert lowest < r < highest


# ---- the drive


def test_responses_are_standardised_and_silent_vertices_have_none(views, brain):
    drives = video_brain.drive(views, brain, 1.0)
    assert [each.shape for each in drives] == [(62, 190)] * 3
    together = np.concatenate(drives)
    np.testing.assert_array_equal(together[:, MOVED == "A1"], 0)
    seen = together[:, MOVED != "A1"]
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(seen.std(axis=0), 1, atol=1e-3)


def test_without_direction_only_the_share_of_motion_changes(views, brain):
    normal, blind = (np.concatenate(video_brain.drive(views, brain, 1.0, direction)) for direction in (True, False))
    r = np.array([np.corrcoef(a, b)[0, 1] if a.any() else 1.0 for a, b in zip(normal.T, blind.T, strict=True)])
    assert np.median(r[MOVED == "V4"]) > 0.99
    assert np.median(r[np.isin(MOVED, ["MT", "MST"])]) < 0.97


def test_a_clip_with_a_cut_shows_the_scenes_of_both_shots(films, views):
    for film, view in zip(films, views, strict=True):
        for clip, scenes in enumerate(view.scenes[1:-1]):
            shots = film.shot[[8 * clip + k for k in (0, 2, 5, 7)]]
            assert len(scenes) == len(set(shots))
            assert sum(share for share, *_ in scenes) == 1
            assert scenes[0][0] == (shots == shots[0]).mean()
    assert any(len(scenes) == 2 for view in views for scenes in view.scenes)


# ---- time


def test_the_haemodynamic_response_peaks_at_4_s_and_is_that_of_spm():
    time = np.arange(0, 40, 0.01)
    density = np.gradient(video_brain.haemodynamic_step(time), time)
    assert time[density.argmax()] == pytest.approx(4, abs=0.011)
    inside = (time > 0.1) & (time < 31.9)
    spm = gamma.pdf(time, 5) - gamma.pdf(time, 16) / 6
    np.testing.assert_allclose(density[inside], spm[inside] / (5 / 6), atol=1e-3)
    np.testing.assert_array_equal(video_brain.haemodynamic_step(np.array([-3.0, 0.0])), 0)
    np.testing.assert_allclose(video_brain.haemodynamic_step(np.array([32.0, 50.0])), 1)


def test_the_response_is_the_convolution_of_the_drive_with_it():
    rng, dt = np.random.default_rng(0), 0.01
    drive = rng.normal(size=(30, 4)).astype(np.float32)
    found = video_brain.haemodynamic_response(drive)
    time = np.arange(0, 35, dt)
    middle = (np.arange(30) * 2 + 1) / dt
    for vertex in range(4):
        density = np.where(time < 32, gamma.pdf(time, 5) - gamma.pdf(time, 16) / 6, 0) / (5 / 6)
        fine = np.convolve(drive[:, vertex].repeat(round(2 / dt)), density)[: round(60 / dt)] * dt
        np.testing.assert_allclose(found[:, vertex], fine[middle.astype(int)], atol=0.02)


@pytest.mark.parametrize(("start", "n_volumes", "window"), [(1, 65, 1), (0, 66, 2)])
def test_the_released_window_pairs_each_clip_with_the_volume_4_s_later(views, brain, start, n_volumes, window):
    drive = video_brain.drive(views, brain, 1.0)[0]
    rng = np.random.default_rng(0)
    run = video_brain.record(drive, noiseless(brain), start, n_volumes, rng)[:, brain.sees]
    assert run.shape == (n_volumes, 180)
    clips = drive[1:-1, brain.sees]

    def agreement(shift):
        """Correlation of clips with the volumes of the window, moved by so many volumes."""
        rows = slice(window + shift, window + shift + 60)
        return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(clips.T, run[rows].T, strict=True)])

    found = {shift: agreement(shift) for shift in (-1, 0, 1, 2)}
    assert max(found, key=found.get) == 0
    assert found[0] > 0.6


def test_recordings_that_begin_at_other_times_show_the_same(views, brain):
    drive = video_brain.drive(views, brain, 1.0)[0]

    def run(start, n_volumes):
        return video_brain.record(drive, noiseless(brain), start, n_volumes, np.random.default_rng(0))

    usual = run(0, 66)
    np.testing.assert_allclose(run(1, 65), usual[1:], rtol=1e-6)
    late = run(5, 66)
    np.testing.assert_allclose(late[:61], usual[5:], rtol=1e-6)
    assert usual.mean() == pytest.approx(10_000, rel=0.01)


def test_the_first_and_the_last_frame_are_held_for_12_s(brain):
    step = video_brain.haemodynamic_step
    for row, volume, since, until in ((0, 0, 13, 1), (0, 3, 19, 7), (-1, 15, 11, 0), (-1, 18, 17, 5)):
        drive = np.zeros((12, 190), np.float32)  # ten clips
        drive[row] = 1
        run = video_brain.record(drive, noiseless(brain), 0, 20, np.random.default_rng(0))
        expected = step(np.array(since)) - step(np.array(until))  # seconds since it came, and since it went
        np.testing.assert_allclose((run[volume] / 10_000 - 1) * 100, expected, atol=2e-3)


def test_noise_is_autocorrelated_in_part_common_and_drifts_slowly():
    areas = np.array(["A1"] * 400)
    brain = video_brain.sample_brain(areas, 1.0, np.random.default_rng(0))
    drive = np.zeros((202, 400), np.float32)
    run = video_brain.record(drive, brain, 1, 205, np.random.default_rng(1)).astype(float)
    percent = (run / 10_000 - 1) * 100 / brain.noise
    time = np.linspace(-1, 1, 205)
    left = percent - np.polynomial.polynomial.polyval(time, np.polynomial.polynomial.polyfit(time, percent, 4)).T
    assert left.std() == pytest.approx(1, abs=0.05)
    assert percent.std() > 1.3
    after = np.mean([np.corrcoef(a[1:], a[:-1])[0, 1] for a in left.T])
    assert after == pytest.approx(0.3, abs=0.05)
    first = np.linalg.svd(left, compute_uv=False)[:6] ** 2
    assert first[:5].sum() / (left**2).sum() == pytest.approx(0.1 + 0.9 * 5 * 1.5 / 205, abs=0.05)
    assert first[4] > 1.3 * first[5]


def test_a_noisier_subject_has_lower_ceilings():
    def noise(quality):
        areas = np.array(["V1"] * 3000)
        return np.median(video_brain.sample_brain(areas, quality, np.random.default_rng(0)).noise)

    assert noise(0.85) > 1.05 * noise(1.0)
