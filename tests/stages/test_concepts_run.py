"""Semantic Brain Decoding on the smallest miniature of Generic Object Decoding, by the real scripts."""

import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from smallest import CONCEPTS, GROUPS, REPOSITORY, run_here, write_config
from transformers import CLIPConfig, CLIPImageProcessor

from data import god
from minddiffuser.store import open_arrays
from miniature.categories import CATEGORIES
from reconstruction.folder import read, sample_folders

SUBJECTS = ("Subject1", "Subject2")
FORMS = ("original", "corrected", "classifier")


@pytest.fixture
def copy(whole_run, tmp_path):
    """Configuration of a copy of the dataset and of what was made of it."""
    for name in ("god", "imagenet", "runs/smallest/bank", *(f"runs/smallest/{subject}" for subject in SUBJECTS)):
        shutil.copytree(whole_run / name, tmp_path / name)
    return write_config(tmp_path)


def decoded_path(folder, subject, form):
    return folder / "runs" / "smallest" / subject / "semantic_brain_decoding" / "decoded" / f"{form}.h5"


def test_the_bank_has_as_many_images_of_each_class_as_asked_for(whole_run):
    with open_arrays(whole_run / "runs/smallest/bank/scoring_clip.h5", "", "ImageNet") as bank:
        n_classes = len(bank["class_wnid"])
        np.testing.assert_array_equal(np.bincount(bank["class_index"][:]), np.full(n_classes, 3))
        assert bank["features"].shape == (3 * n_classes, 512)
        assert bank["head_weight"].shape == (n_classes, 512)
        wnids = bank["class_wnid"].asstr()[:]
        assert list(wnids) == sorted(c.wnid for c in CATEGORIES if c.in_imagenet)
        for key, index in zip(bank["image"][:], bank["class_index"][:], strict=True):
            name = f"n{key // 10**6:08d}_{key % 10**6}.JPEG"
            assert (whole_run / "imagenet" / wnids[index] / name).is_file()
        accuracy = (np.argmax(bank["features"] @ bank["head_weight"][:].T + bank["head_bias"][:], axis=1)
                    == bank["class_index"][:]).mean()  # fmt: skip
        assert accuracy > 0.9  # it was fitted to these


def test_labels_and_pictures_are_of_the_test_images(whole_run):
    test_images = god.read_images(whole_run / "god" / god.TEST_IMAGES)
    for subject in SUBJECTS:
        for form in FORMS:
            with open_arrays(decoded_path(whole_run, subject, form), "", subject) as decoded:
                np.testing.assert_array_equal(decoded["stimulus_id"][:], test_images.ids)
                assert list(decoded["image_name"].asstr()[:]) == list(test_images.names)
                assert (decoded["n_repetitions"][:] == 3).all()
                assert decoded["classes"].shape == (len(test_images.ids), 3)
                assert decoded["classes"][:].max() < len(decoded["class_wnid"])
                assert ("validation_classes" in decoded) == (form == "original")
                assert np.isfinite(decoded["features"][:]).all()
            folder = whole_run / "runs/smallest" / subject / "reconstruction/semantic_brain_decoding" / form
            first, second = (read(path) for path in sample_folders(folder))
            assert sorted(first[0]) == sorted(test_images.ids)
            assert first[1].shape == (len(test_images.ids), 64, 64, 3)
            assert (first[1] != second[1]).any(axis=(1, 2, 3)).all()


def test_only_the_original_form_uses_statistics_of_the_test_set_and_says_so(whole_run):
    for form in FORMS:
        folder = whole_run / "runs/smallest/Subject1/reconstruction/semantic_brain_decoding" / form
        assert bool(json.loads((folder / "settings.json").read_text())["flags"]) == (form == "original")


def test_stimuli_in_the_bank_are_neighbours_only_as_released(whole_run, copy):
    """With the bank's images of the experiment as the only difference, some labels differ."""
    stimuli = {*god.read_images(whole_run / "god" / god.TRAINING_IMAGES).ids}
    stimuli |= {*god.read_images(whole_run / "god" / god.TEST_IMAGES).ids}
    with open_arrays(whole_run / "runs/smallest/bank/scoring_clip.h5", "", "ImageNet") as bank:
        assert np.isin(bank["image"][:], list(stimuli)).any()
    with_them = ["--set", "experiment.semantic_brain_decoding.bank_has_stimuli=true", "--subject", "Subject1"]
    only = ["--set", "experiment.semantic_brain_decoding.forms=[corrected]", "--overwrite"]
    done = run_here(f"{CONCEPTS}/29_decode_labels.py", copy, *with_them, *only)
    assert done.returncode == 0, done.stderr
    found = []
    for folder in (whole_run, copy.parent):
        with open_arrays(decoded_path(folder, "Subject1", "corrected"), "", "Subject1") as decoded:
            found.append((decoded["features"][:], decoded["classes"][:]))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-4)
    assert (found[0][1] != found[1][1]).any()


def test_images_that_the_lists_do_not_have_are_refused_by_name(copy):
    path = copy.parent / "god" / god.TEST_IMAGES
    first, *rest = path.read_text().splitlines()
    shown = first.split('"')[1].removesuffix(".JPEG")
    path.write_text("\n".join(['1443537.999999,"n01443537_999999.JPEG"', *rest]) + "\n")
    shutil.rmtree(decoded_path(copy.parent, "Subject1", "corrected").parent)
    done = run_here(f"{CONCEPTS}/29_decode_labels.py", copy, "--subject", "Subject1")
    assert done.returncode == 1
    assert shown in done.stderr
    assert "n01443537_999999" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bank_of_other_settings_is_refused(copy):
    change = ["--set", "experiment.semantic_brain_decoding.bank_per_class=2", "--overwrite"]
    done = run_here(f"{CONCEPTS}/29_decode_labels.py", copy, "--subject", "Subject1", *change)
    assert done.returncode == 1
    assert "experiment.semantic_brain_decoding.bank_per_class was 3, is 2" in done.stderr


def test_without_pictures_labels_are_scored_beside_all_controls(copy):
    for subject in SUBJECTS:
        shutil.rmtree(copy.parent / "runs" / "smallest" / subject / "reconstruction")
    done = run_here("evaluation/40_score_concepts.py", copy)
    assert done.returncode == 0, done.stderr
    summary = pd.read_csv(copy.parent / "runs/smallest/evaluation/concepts/summary.csv")
    wup = summary[summary["metric"] == "wup"].groupby("subject")["system"].unique()
    controls = {f"control/{name}" for name in ("constant_label", "permuted_labels", "perfect_decoding")}
    for subject in SUBJECTS:
        assert set(wup[subject]) == {*(f"semantic_brain_decoding/{form}" for form in FORMS), *controls}
    assert "examples.png" not in done.stdout


def test_missing_stimuli_and_classes_are_named(copy):
    (copy.parent / "god" / "images" / "test" / god.read_images(copy.parent / "god" / god.TEST_IMAGES).names[3]).unlink()
    shutil.rmtree(decoded_path(copy.parent, "Subject1", "corrected").parent)
    done = run_here(f"{CONCEPTS}/29_decode_labels.py", copy, "--subject", "Subject1")
    assert done.returncode == 1
    assert god.read_images(copy.parent / "god" / god.TEST_IMAGES).names[3] in done.stderr
    empty = sorted((copy.parent / "imagenet").glob("n*"))[0]
    for picture in empty.iterdir():
        picture.unlink()
    done = run_here(f"{CONCEPTS}/14_bank.py", copy)
    assert done.returncode == 1
    assert f"{empty} has no pictures" in done.stderr


def test_labels_of_one_person_do_not_become_pictures_of_another(whole_run, copy):
    shutil.copy(decoded_path(whole_run, "Subject2", "corrected"), decoded_path(copy.parent, "Subject1", "corrected"))
    done = run_here(f"{CONCEPTS}/39_generate.py", copy, "--subject", "Subject1")
    assert done.returncode == 1
    assert "belongs to Subject2, not to Subject1" in done.stderr


def test_flagged_pictures_are_recorded_and_never_silently_black(copy):
    """A safety checker that flags everything, in the place where Stable Diffusion has its own."""
    config = yaml.safe_load(copy.read_text())
    model = copy.parent / "model"
    shutil.copytree(REPOSITORY / config["experiment"]["models"]["stable_diffusion"], model)
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(vision_config={**small, "image_size": 32, "patch_size": 16}, text_config=small, projection_dim=16)
    )
    torch.nn.init.constant_(checker.concept_embeds_weights, -2.0)  # no cosine is below that
    checker.save_pretrained(model / "safety_checker")
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(model / "feature_extractor")
    settings = {"forms": "[corrected]", "n_pictures": 1, "safety_checker": "true"}
    changes = [f"experiment.semantic_brain_decoding.{key}={value}" for key, value in settings.items()]
    changes.append(f"experiment.models.stable_diffusion={model}")
    options = [word for change in changes for word in ("--set", change)]
    done = run_here(f"{CONCEPTS}/39_generate.py", copy, "--subject", "Subject1", "--overwrite", *options)
    assert done.returncode == 0, done.stderr
    folder = copy.parent / "runs/smallest/Subject1/reconstruction/semantic_brain_decoding/corrected"
    index = pd.read_csv(folder / "index.csv")
    assert index["flagged"].all()
    assert (read(folder)[1] == 0).all()
    assert f"the safety checker made {len(index)} pictures black" in done.stdout
    assert not (folder / "sample_2").exists()  # there were two pictures of each before


def test_without_wordnet_the_constant_is_left_out_aloud(copy, tmp_path):
    control = copy.parent / "runs/smallest/Subject1/reconstruction/control/constant_label"
    made_with = json.loads((control / "settings.json").read_text())["lineage"]["reconstruction/control/constant_label"]
    assert made_with["label"] in {category.label for category in CATEGORIES if category.in_imagenet}
    shutil.rmtree(control)
    options = ["--subject", "Subject1", "--set", f"execution.wordnet={tmp_path / 'nowhere'}"]
    done = run_here(f"{CONCEPTS}/39_generate.py", copy, *options)
    assert done.returncode == 0, done.stderr
    assert "there will be no control with a constant label" in done.stdout
    assert "wordnet-base" in done.stdout
    assert not control.exists()


def test_without_wordnet_the_doctor_warns_and_is_content(copy, tmp_path):
    options = ["--set", f"execution.wordnet={tmp_path / 'nowhere'}", "--set", f"execution.runs={tmp_path / 'runs'}"]
    done = run_here("doctor/__main__.py", copy, *options, "--scripts", f"{CONCEPTS}/39_generate.py")
    assert done.returncode == 0, done.stderr
    assert "warn   WordNet: WordNet is missing: expected" in done.stdout
    assert done.stdout.count("wordnet-base") == 1
    assert "Subject1 39 pictures of labels" in done.stdout  # the table of estimates
    assert "\nnothing is wrong\nwhat is absent is said above, after warn (1)" in done.stdout


@pytest.mark.slow
def test_generic_object_decoding_can_be_all_there_is(copy):
    """A configuration without subjects of NSD."""
    config = yaml.safe_load(copy.read_text())
    config["experiment"].update(subjects=[], miniature=None, takagi=None, ozcelik=None)
    copy.write_text(yaml.safe_dump(config))
    for script in (script for group in GROUPS for script in group):  # as `make demo` does
        done = run_here(script, copy)
        assert done.returncode == 0, f"{script}: {done.stderr}"
    page = (copy.parent / "runs/smallest/evaluation/index.html").read_text()
    assert "Generic Object Decoding" in page
    done = run_here("doctor/__main__.py", copy)
    assert "ok     Subject1 of Generic Object Decoding: " in done.stdout, done.stdout


def test_a_section_left_out_is_not_an_error(copy):
    for script in (f"{CONCEPTS}/14_bank.py", f"{CONCEPTS}/29_decode_labels.py", f"{CONCEPTS}/39_generate.py"):
        done = run_here(script, copy, "--set", "experiment.semantic_brain_decoding=null")
        assert done.returncode == 0, done.stderr
        assert "nothing to do" in done.stdout


def test_the_recording_is_in_the_layout_that_bdpy_writes(whole_run):
    with h5py.File(whole_run / "god" / "Subject1.h5") as file:
        assert set(file) == {"dataset", "metadata"}
        assert set(file["metadata"]) == {"key", "description", "value"}
