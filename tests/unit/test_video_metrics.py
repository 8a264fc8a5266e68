"""Scores of films: known values, independent computations, chance, and the networks that give them."""

import itertools
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from evaluation.catalogue import STAND_IN
from evaluation.metrics import images
from evaluation.videos import metrics, networks, stand_ins
from evaluation.videos.metrics import chance, consistency, gated, hue_correlation, n_way, network_scores, pixel_scores
from evaluation.videos.networks import FilmNetworks, open_networks
from feature_extraction.optical_flow import flows
from minddiffuser.config import REPOSITORY, Config, Experiment
from minddiffuser.config.loading import load
from minddiffuser.config.mind_animator import FilmMetrics, MindAnimator
from minddiffuser.store import DataError
from miniature import movies, scenes

CPU = torch.device("cpu")


def films(n=2, n_frames=3, size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, n_frames, size, size, 3), dtype=np.uint8)


def of_hues(hues):
    """Pictures with these hues, in degrees: (h, w) to (h, w, 3), uint8."""
    hsv = np.stack([hues % 360, np.ones(hues.shape), np.ones(hues.shape)], axis=-1).astype(np.float32)
    return (cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).round().astype(np.uint8)


# Pixels


def test_a_film_is_like_itself():
    scores = pixel_scores(films(), films())
    assert {name: values.round(6).tolist() for name, values in scores.items()} == {
        "pixcorr": [1, 1], "ssim": [1, 1], "psnr": [100, 100], "hue": [1, 1]
    }  # fmt: skip


def test_scores_of_a_clip_are_means_over_all_its_frames():
    seen, made = films(), films(seed=1)
    made[0, 1] = seen[0, 1]
    scores = pixel_scores(seen, made)
    for name, score in (("pixcorr", images.pixcorr), ("ssim", images.ssim), ("psnr", images.psnr)):
        of_frames = [score(a, b).mean() for a, b in zip(seen, made, strict=True)]
        np.testing.assert_allclose(scores[name], of_frames)


def test_films_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        pixel_scores(films(), films(n_frames=2))


# Hue


def test_hue_correlation_is_that_of_all_pairs_of_pixels():
    rng = np.random.default_rng(0)
    a, b = (of_hues(rng.uniform(0, 360, (5, 5))) for _ in range(2))
    b[:2] = a[:2]
    x, y = (cv2.cvtColor(i.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[..., 0].ravel() for i in (a, b))
    differences = [(np.radians(x[i] - x[j]), np.radians(y[i] - y[j])) for i, j in itertools.combinations(range(25), 2)]
    sines = np.sin(np.array(differences, np.float64))
    expected = sines.prod(axis=1).sum() / np.sqrt((sines**2).sum(axis=0).prod())
    assert 0.1 < expected < 0.9
    np.testing.assert_allclose(hue_correlation(a[None], b[None]), [expected], atol=1e-6)


def test_unrelated_hues_have_no_correlation_and_a_shift_is_not_seen():
    rng = np.random.default_rng(0)
    hues = rng.uniform(0, 360, (2, 96, 96))
    assert abs(hue_correlation(of_hues(hues[0])[None], of_hues(hues[1])[None])[0]) < 0.03
    for change, expected in ((hues[0] + 90, 1), (hues[0] + 180, 1), (-hues[0], -1)):
        found = hue_correlation(of_hues(hues[0])[None], of_hues(change)[None])
        np.testing.assert_allclose(found, [expected], atol=1e-3)


def test_hue_does_not_end_at_red():
    """Hues of 355 and 5 degrees are as near as those of 175 and 185."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 20, (2, 64, 64))
    at_red, elsewhere = (
        hue_correlation(of_hues(a + start)[None], of_hues(0.7 * a + 0.3 * b + start)[None])[0] for start in (0, 180)
    )
    assert at_red == pytest.approx(elsewhere, abs=0.01)
    assert at_red > 0.8


def test_grey_pixels_have_no_hue():
    hues = np.random.default_rng(0).uniform(0, 360, (2, 16, 16))
    seen, made = of_hues(hues[0]), of_hues(hues[0])
    made[:8] = 128
    assert hue_correlation(seen[None], made[None])[0] == pytest.approx(0.5)  # those that lost it count as unrelated
    assert hue_correlation(made[None], seen[None])[0] == pytest.approx(1)  # those that had none are left out
    grey, red = np.full_like(seen, 128), of_hues(np.zeros((16, 16)))
    assert hue_correlation(np.stack([seen, grey, red, seen]), np.stack([grey, seen, seen, red])).tolist() == [0] * 4


# Classes


def test_n_way_is_the_share_of_all_draws():
    rng = np.random.default_rng(0)
    seen, made = rng.normal(size=(2, 8))
    right = np.argsort(seen)[-3:]
    others = np.setdiff1d(np.arange(8), right)
    for n in (2, 3, 5, 6):
        draws = list(itertools.combinations(others, n - 1))
        expected = np.mean([made[right].max() > made[list(drawn)].max() for drawn in draws])
        assert n_way(seen[None], made[None], n)[0] == pytest.approx(expected)


@pytest.mark.parametrize(("n", "expected"), [(2, 0.75), (50, 3 / 52)])
def test_chance_is_that_of_three_right_classes(n, expected):
    assert chance(n) == pytest.approx(expected)
    seen, made = np.random.default_rng(0).normal(size=(2, 4000, 90))
    scores = n_way(seen, made, n)
    assert abs(scores.mean() - expected) < 4 * scores.std() / np.sqrt(len(scores))
    assert scores.std() / np.sqrt(len(scores)) < 0.005


def test_the_right_classes_are_found_and_equal_outputs_are_lost():
    outputs = np.random.default_rng(0).normal(size=(5, 4, 60))
    np.testing.assert_array_equal(n_way(outputs, outputs, 50), np.ones((5, 4)))
    np.testing.assert_array_equal(n_way(outputs, np.zeros_like(outputs), 2), np.zeros((5, 4)))
    np.testing.assert_allclose(n_way(outputs, np.exp(outputs[::-1]), 2), n_way(outputs, outputs[::-1], 2))
    with pytest.raises(ValueError, match="50-way classification needs 52 classes or more, not 51"):
        n_way(outputs[..., :51], outputs[..., :51], 50)


# Features


def test_a_film_that_does_not_move_is_consistent():
    rng = np.random.default_rng(0)
    still = np.repeat(rng.normal(size=(2, 1, 5)), 8, axis=1)
    flicker = np.tile(np.eye(5)[:2], (1, 4, 1))
    np.testing.assert_allclose(consistency(np.concatenate([still, flicker])), [1, 1, 0])
    a, b, c = rng.normal(size=(3, 5))
    cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in ((a, b), (b, c))]
    np.testing.assert_allclose(consistency(np.stack([a, b, c])[None]), [np.mean(cosines)])


def test_the_gate_sets_to_zero_what_is_not_above_it():
    assert gated(np.array([0.9, 0.9, 0.9]), np.array([0.59, 0.6, 0.61]), 0.6).tolist() == [0, 0, 0.9]


def test_scores_of_absent_networks_are_absent():
    rng = np.random.default_rng(0)
    outputs = {"image": rng.normal(size=(2, 3, 60)), "video": rng.normal(size=(2, 60))}
    embeddings = {"vifi": rng.normal(size=(2, 5)), "clip": rng.normal(size=(2, 3, 5))}
    names = {"image_2_way", "image_50_way", "video_2_way", "video_50_way"}
    found = network_scores(outputs, outputs, 0.6)
    assert {name: values.tolist() for name, values in found.items()} == {name: [1, 1] for name in names}
    assert set(network_scores(embeddings, embeddings, 0.6)) == {"vifi", "clip_consistency", "clip_consistency_gated"}
    clip = {"clip": embeddings["clip"]}
    assert set(network_scores(clip, clip, 0.6)) == {"clip_consistency"}
    assert network_scores({}, {}, 0.6) == {}
    of_itself = network_scores(embeddings, embeddings, 0.6)
    np.testing.assert_allclose(of_itself["vifi"], 1)


# All scores, a batch at a time


def fake_networks(suffix=""):
    """Networks that see mean colours."""

    def look(videos):
        of_frames = videos.mean(axis=(2, 3))  # (n, n_frames, 3)
        weights = np.random.default_rng(0).normal(size=(3, 60))
        of_film = of_frames.mean(axis=1)
        return {"image": of_frames @ weights, "video": of_film @ weights, "vifi": of_film, "clip": of_frames}

    return FilmNetworks(look, {}, suffix)


def test_scores_do_not_depend_on_batches():
    seen, made, ids = films(5), films(5, seed=1), np.arange(101, 106)
    whole = metrics.score(fake_networks(), [(ids, seen, made)], 0.6)
    parts = [(ids[rows], seen[rows], made[rows]) for rows in (slice(0, 2), slice(2, 3), slice(3, 5))]
    found = metrics.score(fake_networks(), parts, 0.6)
    assert list(found) == list(whole)
    for name, values in whole.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)
    assert {"stimulus_id", "pixcorr", "hue", "video_50_way", "clip_consistency_gated"} <= set(whole)
    with pytest.raises(ValueError, match="no clips"):
        metrics.score(fake_networks(), [], 0.6)


def test_films_are_let_go_of_once_they_are_scored():
    alive = []

    def batches():
        for k in range(4):
            seen = films(1, seed=k)
            alive.append(weakref.ref(seen))
            assert sum(film() is not None for film in alive) <= 2  # this one, and the one that is let go of now
            yield np.array([k]), seen, seen

    metrics.score(fake_networks(), batches(), 0.6)


def test_films_of_another_size_are_compared_at_that_of_what_was_seen():
    seen = np.repeat(np.repeat(films(1, size=16), 2, axis=2), 2, axis=3)
    scores = metrics.score(fake_networks("_x"), [(np.array([1]), seen, films(1, size=16))], 0.6)
    expected = images.pixcorr(seen[0], images.resize(films(1, size=16)[0], 32)).mean()
    assert scores["pixcorr"][0] == pytest.approx(expected)
    assert scores["pixcorr"][0] > 0.9
    assert {"vifi_x", "image_2_way_x"} <= set(scores)


# Stand-ins


def test_the_words_of_stand_ins_are_the_miniatures():
    assert set(stand_ins.COLOURS) == set(scenes.COLOURS)
    assert set(stand_ins.KINDS) == set(scenes.KINDS)
    assert len(set(stand_ins.prompts())) == 90
    assert {"a red ball", "an orange kite"} <= set(stand_ins.prompts())
    assert movies._SPEED[0] > 2 * stand_ins.STILL


@pytest.mark.parametrize(("x", "y", "motion"), [(2, 0, 0), (2, 2, 1), (0, 2, 2), (-2, 0, 4), (0, -2, 6), (0, 0, 8)])
def test_a_films_class_is_what_its_caption_names_first_and_where_it_moves(x, y, motion):
    field = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (104, 104)), (0, 0), 3)
    field = np.interp(field, (field.min(), field.max()), (0, 255)).astype(np.uint8)
    frames = [field[20 - t * y :, 20 - t * x :][:64, :64] for t in range(8)]
    video = np.repeat(np.stack(frames)[..., None], 3, axis=-1)
    caption = "a red star left of a blue ball, and then a kite"
    assert stand_ins.labels_of(caption, flows(video)) == (stand_ins.KINDS.index("star"), motion)
    with pytest.raises(DataError, match="names none of the miniature's objects"):
        stand_ins.labels_of("a man with a dog", flows(video))


@pytest.fixture(scope="module")
def miniature():
    return load(REPOSITORY / "configs" / "miniature.yaml")


def test_stand_ins_tell_films_apart(miniature, monkeypatch):
    """Fitted on one film, they know the other's objects and motion better than chance, and themselves always."""
    names = {"seg1": 100, "test1": 24}
    drawn = {name: movies.draw_film(name, n, 1, 1.0, 42) for name, n in names.items()}
    clips = {name: film.frames.reshape(-1, 8, 64, 64, 3) for name, film in drawn.items()}
    kinds = {name: [max(s.objects, key=lambda o: o.radius) for s in film.scenes[::8]] for name, film in drawn.items()}

    class Film:
        is_test, n_clips = False, 100

    monkeypatch.setattr(networks, "FIT_STEP", 1)
    monkeypatch.setattr(networks.cc2017, "films", lambda _: {"seg1": Film()})
    monkeypatch.setattr(networks.cc2017, "read_clips", lambda *_: enumerate(clips["seg1"]))
    captions = [f"a {item.colour} {item.kind}" for item in kinds["seg1"]]
    monkeypatch.setattr(networks.cc2017, "read_captions", lambda *_: captions)
    found = open_networks(miniature, CPU)
    assert (found.suffix, found.absent) == (STAND_IN, {})
    seen = found.look(clips["test1"])
    assert {name: values.shape for name, values in seen.items()} == {
        "image": (24, 8, 90), "video": (24, 90), "vifi": (24, 96), "clip": (24, 8, 96)
    }  # fmt: skip
    own, other = network_scores(seen, seen, 0.6), network_scores(seen, found.look(clips["test1"][::-1]), 0.6)
    for name in ("image_2_way", "video_2_way", "image_50_way", "video_50_way", "vifi"):
        np.testing.assert_allclose(own[name], 1, err_msg=name)
        assert other[name].mean() < 0.85, name
    named = [f"a{'n' if o.colour == 'orange' else ''} {o.colour} {o.kind}" for o in kinds["test1"]]
    right = [stand_ins.prompts().index(name) for name in named]
    best = seen["image"][:, 0].argmax(axis=1)
    assert np.mean(best == right) > 0.3  # of 90
    motions = [stand_ins.labels_of("a ball", flows(video))[1] for video in clips["test1"]]
    probabilities = np.exp(seen["video"])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert np.mean(probabilities.reshape(24, 10, -1).sum(axis=1).argmax(axis=1) == motions) > 0.4  # of 9


# The published networks


def test_networks_that_are_not_there_are_named_with_their_scores(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    config = Config(name="x", experiment=Experiment(mind_animator=MindAnimator()))
    found = open_networks(config, CPU)
    assert found.suffix == ""
    assert found.look(films()) == {}
    assert set(found.absent) == {
        "image_2_way", "image_50_way", "video_2_way", "video_50_way", "vifi", "clip_consistency",
        "clip_consistency_gated",
    }  # fmt: skip
    assert "google/vit-base-patch16-224 is not on this machine; python data/00_get" in found.absent["image_2_way"]
    assert "experiment.mind_animator.metrics.vifi" in found.absent["vifi"]


def test_a_network_that_is_there_and_broken_stops_it(tmp_path):
    (tmp_path / "vifi.pth").write_bytes(b"")
    settings = MindAnimator(metrics=FilmMetrics(vifi=str(tmp_path / "vifi.pth"), image_classifier=str(tmp_path)))
    with pytest.raises(DataError, match=r"vifi\.pth cannot be read as a checkpoint of ViFi-CLIP: it is empty"):
        open_networks(Config(name="x", experiment=Experiment(mind_animator=settings)), CPU)


def test_pixels_are_resized_as_the_classifiers_own_processor_does():
    from transformers import ViTImageProcessor

    from minddiffuser.pretrained.classifiers import Network

    picture = cv2.GaussianBlur(films(1, 1, 96)[0, 0], (0, 0), 2)
    processor = ViTImageProcessor(size={"height": 56, "width": 56}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    expected = processor(picture, return_tensors="pt")["pixel_values"]
    network = Network(lambda pixels: pixels, 56, (0.5,) * 3, (0.5,) * 3)
    found = networks._pixels(picture[None], network, CPU)
    assert (found - expected).abs().max() < 2.5 / 127.5  # of it rounding, to grey levels


def test_vifi_sees_the_middle_of_frames():
    from minddiffuser.pretrained.classifiers import Network

    network = Network(lambda pixels: pixels, 14, (0.0,) * 3, (1.0,) * 3)
    picture = films(1, 1, 16)[0]
    found = networks._pixels(picture, network, CPU, through=16)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1) * 255, picture[:, 1:15, 1:15], atol=1e-3)


def test_revisions_are_commits():
    names = FilmMetrics()
    for revision in (names.image_classifier_revision, names.video_classifier_revision):
        assert revision is not None
        assert len(revision) == 40
    assert not Path(names.image_classifier).is_absolute()
