"""The simulated brain and its scenes: rich, reproducible, and not built from what is decoded."""

import ast
import inspect
from dataclasses import replace

import numpy as np
import pytest

from minddiffuser.config import REPOSITORY
from minddiffuser.config.miniature import Miniature
from miniature import brain, nsd, scenes


@pytest.fixture(scope="module")
def pictures():
    return nsd.draw_pictures(60, seed=5)


def test_scenes_are_reproducible_and_do_not_depend_on_their_number(pictures):
    again = nsd.draw_pictures(3, seed=5)
    np.testing.assert_array_equal(again.images, pictures.images[:3])
    assert again.texts == pictures.texts[:3]


def test_scenes_are_as_rich_as_promised(pictures):
    assert (len(scenes.KINDS), len(scenes.COLOURS), len(scenes.BACKGROUNDS)) >= (8, 8, 6)
    assert {len(s.objects) for s in pictures.scenes} == {1, 2, 3}
    assert {s.background for s in pictures.scenes} == set(scenes.BACKGROUNDS)
    for texts in pictures.texts:
        assert len(set(texts)) == 5
        assert all(len(text.split()) <= 13 for text in texts)


def test_nearer_objects_hide_farther_ones():
    items = [scenes.SceneObject("box", colour, 32, 32, 12, 1) for colour in ("red", "blue")]
    image, visible = scenes.render(scenes.Scene("snow", 0.5, tuple(items), 0))
    assert not visible[0].any()
    assert visible[1].sum() > 300
    assert image[24, 24, 2] > image[24, 24, 0] + 50


def test_every_kind_and_background_can_be_drawn_and_differs():
    drawn = []
    for background in scenes.BACKGROUNDS:
        for kind in scenes.KINDS:
            item = scenes.SceneObject(kind, "red", 30, 30, 14, -1)
            image, visible = scenes.render(scenes.Scene(background, 0.5, (item,), 1))
            assert visible.sum() > 50
            drawn.append(image.tobytes())
    assert len(set(drawn)) == len(drawn)


def test_the_brain_knows_no_network_no_latents_and_no_captions():
    """Voxels must not be rigged: the simulator may import neither models nor features."""
    tree = ast.parse((REPOSITORY / "miniature" / "brain.py").read_text())
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    assert imported == {"dataclasses", "numpy", "scipy.fft", "miniature.scenes"}
    assert not any(isinstance(n, ast.Name) and n.id == "captions" for n in ast.walk(tree))


def test_early_voxels_see_the_place_of_contrast():
    """An object in the left half moves voxels whose receptive field is there more than the others."""
    fields = brain._receptive_fields([brain.AREAS["V1"]] * 200, np.random.default_rng(0))
    left = fields.reshape(32, 32, -1)[:, :16].sum(axis=(0, 1)) > 0.9
    item = scenes.SceneObject("box", "black", 14, 32, 10, 1)
    images = [
        _background_only(scenes.Scene("snow", 0.5, (), 3)),
        scenes.render(scenes.Scene("snow", 0.5, (item,), 3))[0],
    ]
    pooled = [brain.contrast_channels(image).reshape(14, -1) @ fields for image in images]
    change = np.abs(pooled[1] - pooled[0]).sum(axis=0)
    assert change[left].mean() > 5 * change[~left].mean()


def _background_only(scene):
    return np.asarray(scenes._draw_background(scene, np.random.default_rng(scene.texture_seed)).resize((64, 64)))


@pytest.fixture(scope="module")
def early(pictures):
    """Signals of the pictures in the same 150 voxels of V1."""

    def signal(images):
        rois, rng = np.array(["V1"] * 150), np.random.default_rng(0)
        return brain.simulate_signal(images, pictures.scenes, pictures.visible, rois, rng)

    return signal


def agreement(first, second):
    """Correlate two signals over pictures: the median over voxels."""
    return np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, second.T, strict=True)])


def test_energy_dominates_what_early_voxels_respond_to(pictures, early, monkeypatch):
    """Without colour and brightness nearly the same is left; without energy nothing that is like it."""
    whole, is_energy = early(pictures.images), np.arange(14) >= 6
    left = []
    for channels in (is_energy, ~is_energy):
        with monkeypatch.context() as patch:
            patch.setattr(brain, "_CHANNEL_WEIGHTS", brain._CHANNEL_WEIGHTS * channels)
            left.append(agreement(early(pictures.images), whole))
    assert left[0] > 0.95
    assert abs(left[1]) < 0.3


def test_early_voxels_hardly_tell_a_picture_from_its_negative(pictures, early, monkeypatch):
    negative = 255 - pictures.images
    assert agreement(early(pictures.images), early(negative)) > 0.9
    monkeypatch.setattr(brain, "_CHANNEL_WEIGHTS", np.ones(14))  # with as much colour and brightness they would
    assert agreement(early(pictures.images), early(negative)) < 0.6


@pytest.mark.parametrize("named", [0.06, 0.5])
def test_names_tell_their_share_of_the_attributes_and_no_more(named):
    """By least squares on kinds and colours, and on backgrounds; a fit of that many columns finds a little more."""
    rng = np.random.default_rng(0)
    drawn = [scenes.sample_scene(rng) for _ in range(1500)]
    objects, places = zip(*(brain.attributes(scene, named) for scene in drawn), strict=True)
    items = [item for scene in drawn for item in scene.objects]
    kinds = np.array([[item.kind == kind for kind in scenes.KINDS] for item in items])
    colours = np.array([[item.colour == colour for colour in scenes.COLOURS] for item in items])
    backgrounds = np.array([[scene.background == name for name in scenes.BACKGROUNDS] for scene in drawn])
    for values, names in (
        (np.concatenate(objects), np.hstack([kinds, colours]).astype(float)),
        (np.stack(places), backgrounds.astype(float)),
    ):
        told = names @ np.linalg.lstsq(names, values, rcond=None)[0]
        assert values.var(axis=0).mean() == pytest.approx(1, abs=0.1)
        assert told.var(axis=0).mean() / values.var(axis=0).mean() == pytest.approx(named, abs=0.07)


def test_most_of_what_higher_areas_are_tuned_to_has_no_name():
    assert inspect.signature(brain.simulate_signal).parameters["named"].default < 0.2


def test_attributes_of_a_scene_are_the_same_every_time_and_for_every_subject(pictures):
    def of_all(scenes):
        return np.concatenate([np.vstack(brain.attributes(scene, 0.06)) for scene in scenes])

    first = of_all(pictures.scenes)
    for subject in range(2):
        rois, rng = np.array(["VO"] * 5), np.random.default_rng(subject)
        brain.simulate_signal(pictures.images, pictures.scenes, pictures.visible, rois, rng)
        np.testing.assert_array_equal(of_all(pictures.scenes), first)
    np.testing.assert_array_equal(of_all(nsd.draw_pictures(60, seed=5).scenes), first)  # of a drawing of its own
    moved = [replace(scene, horizon=0.5, objects=scene.objects[:1]) for scene in pictures.scenes]
    for scene, other in zip(pictures.scenes, moved, strict=True):  # nor do others in the scene matter
        np.testing.assert_array_equal(brain.attributes(other, 0.06)[0], brain.attributes(scene, 0.06)[0][:1])
    assert len({brain.attributes(scene, 0.0)[1].tobytes() for scene in pictures.scenes}) == 60


@pytest.mark.parametrize("quality", [1.0, 0.5, 0.2])
def test_noise_ceilings_are_those_asked_for(quality):
    rng = np.random.default_rng(0)
    for roi in ("V1", "IPS"):
        noise = brain.noise_deviation(np.array([roi] * 20000), quality, rng)
        ceiling = 100 / (1 + noise**2 / 3)
        assert ceiling.mean() == pytest.approx(quality * brain.AREAS[roi].ceiling, abs=0.6)


def test_the_design_counts_repetitions_as_nsd_does():
    size = Miniature(n_shared=10, n_own=100, sessions=10)
    design = nsd.make_design(size, 2, seed=0)
    assert design["masterordering"].shape == (1, 330)
    assert design["basiccnt"].tolist() == [[3] * 110]
    used = np.unique(design["masterordering"][0][: 9 * 33])
    assert 100 <= len(used) < 110  # leaving out the last session leaves out a few images, as in NSD (9,841 of 10,000)
    np.testing.assert_array_equal(design["subjectim"][0, :10], design["sharedix"][0])
