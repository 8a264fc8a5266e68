"""The simulated Generic Object Decoding: it reads as the real one does, and holds a signal that can be decoded."""

import importlib
import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.linear_model import Ridge

from baselines.semantic_brain_decoding.wordnet import open_wordnet, wu_palmer
from data import bdata, god, god_trials
from minddiffuser.config import REPOSITORY, load
from minddiffuser.store import DataError
from miniature import god as miniature
from miniature import shorten_wordnet
from miniature.categories import CATEGORIES
from miniature.scenes import COLOURS, KINDS

make_god = importlib.import_module("miniature.03_make_god")
SUBJECTS = ("Subject1", "Subject2")
SIZE = {"n_training": 4, "n_test": 2, "n_repetitions": 8, "n_imagery": 2, "n_bank": 3, "roi_scale": 0.1}
ROLES = {role: {c.wnid for c in CATEGORIES if c.role == role} for role in ("training", "test", "neither")}
BY_WNID = {category.wnid: category for category in CATEGORIES}


def write_config(folder, **experiment):
    values = {"miniature_god": SIZE, "semantic_brain_decoding": {"subjects": list(SUBJECTS)}, **experiment}
    execution = {name: str(folder / name) for name in ("god", "imagenet")}
    path = folder / "config.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"name": "small", "experiment": values, "execution": execution}))
    return path


def make(folder, *options, **experiment):
    make_god.main(["--config", str(write_config(folder, **experiment)), *options])


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".yaml"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("miniature")
    make(folder)
    return folder


@pytest.fixture(scope="module", params=SUBJECTS)
def recording(root, request):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return god.read_subject(root / "god", request.param)


def averages(recording, kind, rows=slice(None)):
    """Standardised responses to each test image, averaged over some of its trials: (n_images, n_voxels)."""
    X = god_trials.standardise_runs(recording.X, recording.data_type, recording.run)
    of_kind = np.flatnonzero(recording.data_type == kind)[rows]
    return god_trials.average(X[of_kind], recording.image[of_kind], len(recording.test_images.ids))[0]


def correlation(a, b):
    """Correlation of each voxel over images."""
    a, b = ((x - x.mean(axis=0)) / x.std(axis=0) for x in (a, b))
    return (a * b).mean(axis=0)


# ---- categories


def test_no_two_categories_are_the_same_and_all_can_be_drawn():
    assert len(BY_WNID) == len({c.label for c in CATEGORIES}) == len({c.concept for c in CATEGORIES}) == 64
    assert {c.kind for c in CATEGORIES} == set(KINDS)
    assert {c.colour for c in CATEGORIES} == set(COLOURS)
    assert BY_WNID["n02930766"].label == "yellow car"


def test_proportions_are_those_of_the_real_experiment():
    """150 training and 50 test categories, of which 59 and 20 are classes of ImageNet."""
    assert {role: len(wnids) for role, wnids in ROLES.items()} == {"training": 32, "test": 24, "neither": 8}
    in_imagenet = Counter(c.role for c in CATEGORIES if c.in_imagenet)
    assert in_imagenet == {"training": 16, "test": 10, "neither": 8}


def test_kinds_and_colours_of_test_categories_are_known_from_training_but_no_combination_is():
    training = [BY_WNID[wnid] for wnid in ROLES["training"]]
    test = [BY_WNID[wnid] for wnid in ROLES["test"]]
    assert {c.kind for c in test} <= {c.kind for c in training}
    assert {c.colour for c in test} <= {c.colour for c in training}
    assert not {c.label for c in test} & {c.label for c in training}
    assert len({c.kind for c in test}) >= 8


EXCERPT = load(REPOSITORY / "configs" / "miniature.yaml").wordnet


def test_every_id_is_of_the_concept_that_wordnet_has_there():
    lines = (EXCERPT / "data.noun").read_text().splitlines()
    entries = {line[:8]: line.split() for line in lines if not line.startswith("  ")}
    for category in CATEGORIES:
        _, _, kind, n_words, *rest = entries[category.wnid[1:]]
        words = rest[: 2 * int(n_words, 16) : 2]
        assert kind == "n"
        assert category.concept.replace(" ", "_") in words, (category, words)


def test_the_excerpt_of_wordnet_has_its_licence_and_all_that_similarities_need():
    wordnet = open_wordnet(EXCERPT)
    wnids = [category.wnid for category in CATEGORIES]
    similarity = wu_palmer(wordnet, wnids, wnids)
    assert 0 < similarity.min() < 0.2
    assert similarity.max() == 1
    for name in ("LICENSE", "data.noun", "index.noun"):
        text = (EXCERPT / name).read_text()
        assert "WordNet 3.0 Copyright 2006 by Princeton University." in text
        assert "provided that you agree to comply with" in text


def test_the_excerpt_of_wordnet_is_what_its_script_makes_of_the_whole(wordnet_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shorten_wordnet, "OUTPUT", tmp_path)
    shorten_wordnet.main(["--wordnet", str(wordnet_folder)])
    for name in ("LICENSE", "data.noun", "index.noun"):
        assert (tmp_path / name).read_bytes() == (EXCERPT / name).read_bytes()
    wnids = [category.wnid for category in CATEGORIES]
    of_whole, of_excerpt = (wu_palmer(open_wordnet(folder), wnids, wnids) for folder in (wordnet_folder, EXCERPT))
    np.testing.assert_array_equal(of_whole, of_excerpt)


# ---- the recording, read by the module that reads the real one


def test_recordings_are_as_large_as_asked_for_and_taken_for_no_real_release(recording):
    n_training, n_test = 32 * 4, 24 * 2
    trials = Counter(recording.data_type.tolist())
    assert trials == {god.TRAINING: n_training, god.PERCEPTION: 8 * n_test, god.IMAGERY: 2 * n_test}
    assert recording.release == "unknown"
    sizes = {roi: int(mask.sum()) for roi, mask in recording.rois.items()}
    assert sizes["ROI_V1"] == pytest.approx(100, abs=11)
    assert sizes["ROI_PPA"] == pytest.approx(36, abs=4)
    assert sizes["ROI_LVC"] == sum(sizes[roi] for roi in ("ROI_V1", "ROI_V2", "ROI_V3"))
    assert sizes["ROI_HVC"] == sum(sizes[roi] for roi in ("ROI_LOC", "ROI_FFA", "ROI_PPA"))
    assert sizes["ROI_VC"] == sizes["ROI_LVC"] + sizes["ROI_V4"] + sizes["ROI_HVC"] == recording.X.shape[1]


def test_a_number_of_voxels_that_means_a_real_release_is_avoided(monkeypatch):
    n_voxels = len(miniature._sample_rois(1.0, np.random.default_rng(0)))
    monkeypatch.setattr(miniature, "SPM_VOXELS", {"Subject1": n_voxels})
    assert len(miniature._sample_rois(1.0, np.random.default_rng(0))) == n_voxels - 1


def test_each_image_is_shown_as_often_as_asked_for_in_random_order(recording):
    training, test = (recording.data_type == kind for kind in (god.TRAINING, god.PERCEPTION))
    assert sorted(recording.image[training]) == list(range(128))
    assert recording.run[training].max() == 3  # runs of up to 50 trials, as in the real experiment
    for kind, n_runs in ((god.PERCEPTION, 8), (god.IMAGERY, 2)):
        rows = recording.data_type == kind
        orders = [tuple(recording.image[rows & (recording.run == run)]) for run in range(1, n_runs + 1)]
        assert all(sorted(order) == list(range(48)) for order in orders)
        assert len(set(orders)) == n_runs
    assert (np.diff(recording.image[test]) < 0).mean() > 0.3  # no order by image
    assert not {*recording.training_images.wnids} & {*recording.test_images.wnids}


def test_lists_name_the_pictures_of_the_categories(root, recording):
    for images, role, n_images in ((recording.training_images, "training", 4), (recording.test_images, "test", 2)):
        assert Counter(images.wnids) == dict.fromkeys(ROLES[role], n_images)
        assert list(images.names) == sorted(images.names)  # as the real lists are
        assert {path.name for path in (root / "god/images" / role).iterdir()} == set(images.names)
    with Image.open(root / "god/images/test" / recording.test_images.names[0]) as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (64, 64))


def test_indices_count_images_and_categories_from_one(root):
    data, metadata = bdata.read_bdata(root / "god/Subject1.h5", "get it again")
    column = {key: data[:, metadata[key] == 1] for key in ("DataType", "stimulus_id", "category_index", "image_index")}
    images = god.read_images(root / "god" / god.TEST_IMAGES)
    rows = column["DataType"].ravel() != god.TRAINING
    listed = column["image_index"][rows].ravel().astype(int) - 1
    np.testing.assert_array_equal(god.image_keys(column["stimulus_id"][rows].ravel()), images.ids[listed])
    wnids = sorted(set(images.wnids))
    expected = [1 + wnids.index(images.wnids[row]) for row in listed]
    np.testing.assert_array_equal(column["category_index"][rows].ravel(), expected)
    assert (metadata["Label"] == 1).sum() == 3
    places = np.stack([metadata[f"voxel_{axis}"][metadata["VoxelData"] == 1] for axis in "xyz"])
    assert np.unique(places, axis=1).shape == places.shape


# ---- the signal


def test_averages_are_more_reliable_than_single_trials(recording):
    def agreement(first, second):
        return correlation(*(averages(recording, god.PERCEPTION, rows) for rows in (first, second))).mean()

    single = agreement(slice(48), slice(48, 96))
    halves = agreement(slice(192), slice(192, None))
    assert 0.1 < single < 0.4
    assert halves > single + 0.15


def test_only_higher_areas_know_what_is_imagined(recording):
    agreement = correlation(averages(recording, god.IMAGERY), averages(recording, god.PERCEPTION))
    assert agreement[recording.rois["ROI_HVC"]].mean() > 0.08
    assert abs(agreement[recording.rois["ROI_LVC"]].mean()) < 0.04


@pytest.mark.parametrize("attribute", ["kind", "colour"])
def test_what_new_categories_share_with_training_categories_can_be_decoded(recording, attribute):
    X = god_trials.standardise_runs(recording.X, recording.data_type, recording.run)
    training = recording.data_type == god.TRAINING
    seen, new = (
        np.array([getattr(BY_WNID[wnid], attribute) for wnid in images.wnids])
        for images in (recording.training_images, recording.test_images)
    )
    classes, Y = np.unique(seen, return_inverse=True)
    model = Ridge(100).fit(X[training], np.eye(len(classes))[Y][recording.image[training]])
    found = classes[model.predict(averages(recording, god.PERCEPTION)).argmax(axis=1)]
    by_chance = [(found == np.random.default_rng(k).permutation(new)).mean() for k in range(100)]
    assert (found == new).mean() > max(by_chance)


def test_subjects_are_other_brains_that_saw_the_same_images_in_another_order(root):
    a, b = (god.read_subject(root / "god", subject) for subject in SUBJECTS)
    assert a.X.shape[1] != b.X.shape[1]
    assert not np.array_equal(a.image, b.image)
    n_voxels = min(a.X.shape[1], b.X.shape[1])
    between = correlation(*(averages(r, god.PERCEPTION)[:, :n_voxels] for r in (a, b)))
    assert between.mean() < 0.3  # voxels of equal number are no more alike than any two that see the same images


# ---- ImageNet


def test_imagenet_has_a_folder_a_class_and_among_its_pictures_those_that_the_subjects_saw(root, recording):
    classes = {category.wnid: category for category in CATEGORIES if category.in_imagenet}
    folders = {path.name: path for path in (root / "imagenet").iterdir() if path.is_dir()}
    assert set(folders) == set(classes)
    stimuli = {"training": recording.training_images, "test": recording.test_images}
    for wnid, folder in folders.items():
        names = {path.name for path in folder.iterdir()}
        role = classes[wnid].role
        shown = {name for name in stimuli[role].names if name.startswith(wnid)} if role in stimuli else set()
        assert shown <= names
        assert len(names - shown) == SIZE["n_bank"]
        for name in shown:
            assert (folder / name).read_bytes() == (root / "god/images" / role / name).read_bytes()


def test_labels_are_words_of_the_captions_in_the_order_of_the_classes(root):
    lines = (root / "imagenet" / miniature.LABELS).read_text().splitlines()
    assert lines == sorted(lines)
    assert "n02930766 yellow car" in lines
    assert {line.split()[0] for line in lines} == {c.wnid for c in CATEGORIES if c.in_imagenet}


# ---- making it


def test_more_images_do_not_change_the_first():
    few, many = (miniature.draw_stimuli(CATEGORIES[:n], n_images, 1) for n, n_images in ((2, 3), (3, 5)))
    assert (len(few), len(many)) == (6, 15)
    drawn = {picture.name: picture.jpeg for picture in many}
    assert {picture.name: drawn[picture.name] for picture in few} == {picture.name: picture.jpeg for picture in few}
    assert len(set(drawn.values())) == 15


def test_killed_and_run_again_ends_in_the_same_bytes(root, tmp_path):
    make(tmp_path)
    marker = tmp_path / "god" / make_god.MARKER
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "complete": False}))
    lost = [tmp_path / "god/Subject2.h5", *(tmp_path / "imagenet/n02930766").iterdir()]
    for path in lost:
        path.unlink()
    make(tmp_path)
    assert contents(tmp_path) == contents(root)


def test_what_is_there_is_left_and_said_to_be(root, capsys):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.*") if path.suffix != ".yaml"}
    make(root)
    assert "are there already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_settings_need_overwrite(tmp_path):
    make(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=r"other settings.*--overwrite"):
        make(tmp_path, seed=7)
    assert contents(tmp_path) == before
    make(tmp_path, "--overwrite", seed=7)
    after = contents(tmp_path)
    assert after[Path("god/Subject1.h5")] != before[Path("god/Subject1.h5")]
    assert not {name for name in after if name.suffix == ".JPEG"} & set(before)  # other numbers, and none of the old


@pytest.mark.parametrize("taken", ["god", "imagenet"])
def test_files_of_others_are_not_touched(tmp_path, taken):
    """Not even with --overwrite, and nothing is written to the other folder either."""
    (tmp_path / taken).mkdir()
    (tmp_path / taken / "mine.txt").write_text("mine")
    for options in ([], ["--overwrite"]):
        with pytest.raises(DataError, match=f"{taken} has files that this script did not make"):
            make(tmp_path, *options)
    assert [path.name for path in tmp_path.rglob("*") if path.suffix != ".yaml"] == [taken, "mine.txt"]


def test_a_configuration_for_the_real_dataset_makes_nothing(tmp_path, capsys):
    make(tmp_path, miniature_god=None)
    assert "no experiment.miniature_god" in capsys.readouterr().out
    assert not (tmp_path / "god").exists()


def test_without_subjects_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="semantic_brain_decoding, which names the subjects"):
        make(tmp_path, semantic_brain_decoding=None)
