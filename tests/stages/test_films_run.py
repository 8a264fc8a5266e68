"""Mind-Animator on the smallest films, by the real scripts: targets, decoders, kills and bad input."""

import base64
import json
import re
import shutil
from io import BytesIO

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file
from smallest import OF_FILMS, run_here, write_config

from baselines.mind_animator import sampler, targets
from baselines.mind_animator.networks import from_released
from baselines.mind_animator.retrieval import hit_rates
from data import cc2017
from data.cortex import cortex_of
from evaluation.videos import scoring
from feature_decoding import training
from minddiffuser.pretrained import stable_diffusion
from minddiffuser.store import Artifact
from miniature.networks import WEIGHTS
from reconstruction.folder import read_settings, read_videos

ROOT = "baselines/mind_animator"
SUBJECT, FORMS = "Subject01", ("original", "corrected")
N_TRAINING, N_TEST = 16, 8


def films_config(folder, **own):
    """Configuration of the smallest films: two of training and one of test, of 8 clips each."""
    path = write_config(folder, cc2017=str(folder / "cc2017"))
    config = yaml.safe_load(path.read_text())
    experiment = config["experiment"]
    experiment["miniature_cc2017"] = {
        "n_segments": 2, "clips": 8, "n_tests": 1, "test_clips": 8, "mean_shot": 2, "test_repetitions": 2,
        "vertex_share": 0.03, "n_silent": 10, "direction": [True],
    }  # fmt: skip
    settings = experiment["mind_animator"]
    settings.update(subjects=[SUBJECT], voxels={"n": 30}, n_validation=4, batch_size=5)
    settings.update(sampled=["original", "corrected", "change"])
    settings["semantic"].update(n_variations=2, epochs=3, n_blocks=1, eda="order")
    settings["structure"].update(epochs=3)
    settings["motion"].update(epochs=3)
    settings["video"].update(n_steps=3)
    settings["metrics"].update(n_scored=6, n_sampled=2)
    settings.update(own)
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Folder in which the scripts have run once, and the configuration."""
    folder = tmp_path_factory.mktemp("films")
    config = films_config(folder)
    for script in OF_FILMS:
        done = run_here(script, config)
        assert done.returncode == 0, f"{script}:\n{done.stdout}\n{done.stderr}"
    return folder


# A setting upstream of each script that was changed since; of those that have nothing upstream, one of their own.
CHANGED = {
    "miniature/04_make_cc2017.py": "experiment.miniature_cc2017.n_silent=11",
    f"{ROOT}/11_features.py": "experiment.mind_animator.max_length=14",
}


@pytest.mark.parametrize("script", OF_FILMS)
def test_a_stage_stops_after_a_setting_upstream_was_changed_and_names_it(copy, script):
    change = CHANGED.get(script, "experiment.mind_animator.voxels.n=29")
    done = run_in(copy, script, "--set", change)
    assert done.returncode == 1, done.stdout
    key, _, value = change.partition("=")
    assert f"{key} was " in done.stderr
    assert f", is {value}" in done.stderr


@pytest.fixture
def copy(films, tmp_path):
    """Folder with a copy of all that was made."""
    for name in ("cc2017", "runs"):
        shutil.copytree(films / name, tmp_path / name)
    films_config(tmp_path)
    return tmp_path


def run_in(folder, script, *arguments):
    return run_here(script, folder / "smallest.yaml", *arguments)


def options(folder):
    """Give the configuration as commands in messages name it."""
    return f"--config {folder / 'smallest.yaml'}"


def results(folder):
    return folder / "runs" / "smallest"


def arrays_of(path):
    with h5py.File(path) as file:
        return {key: file[key][:] for key in file}


def assert_same(path, other):
    a, b = arrays_of(path), arrays_of(other)
    assert list(a) == list(b)
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_targets_are_of_the_clips_of_prepared_rows_and_of_what_films_have(films):
    features = arrays_of(results(films) / "films/features/clips.h5")
    with h5py.File(results(films) / SUBJECT / "prepared.h5") as prepared:
        np.testing.assert_array_equal(features["stimulus_id"], prepared["stimulus_id"][:])
    assert features["z_mean"].shape == (N_TRAINING + N_TEST, 8, 4, 8, 8)
    assert features["c"].shape[:2] == (N_TRAINING + N_TEST, 15)
    np.testing.assert_array_equal(features["c"][:, 0], np.repeat(features["c"][:1, 0], N_TRAINING + N_TEST, axis=0))
    assert (features["z_mean"] != features["z_sample"]).mean() > 0.9
    captions = cc2017.read_captions(films / "cc2017", "test", N_TEST)
    captions += cc2017.read_captions(films / "cc2017", "training", N_TRAINING)
    same = np.array(captions)[:, None] == np.array(captions)
    np.testing.assert_array_equal(features["caption"][:, None] == features["caption"], same)


def test_variations_are_of_training_clips_and_differ_from_each_other(films):
    found = arrays_of(results(films) / "films/features/varied.h5")
    clips = arrays_of(results(films) / "films/features/clips.h5")
    np.testing.assert_array_equal(found["stimulus_id"], clips["stimulus_id"][N_TEST:])
    for key in ("per_image", "per_epoch"):
        assert found[key].shape == (N_TRAINING, 2, 96)
        assert not np.array_equal(found[key][:, 0], found[key][:, 1])
    assert (found["clip_text"][:, 0] != clips["clip_text"][N_TEST:]).any()


def test_shards_end_in_the_same_targets_as_one_run(films, copy, monkeypatch):
    monkeypatch.setattr(targets, "ROWS_PER_PART", 7)  # of which films have no whole number
    shutil.rmtree(results(copy) / "films")
    for shard in ("2-of-2", "1-of-2", "1-of-1"):  # the last joins
        done = run_in(copy, f"{ROOT}/11_features.py", "--shard", shard)
        assert done.returncode == 0, done.stderr
    for name in ("clips.h5", "varied.h5"):
        a, b = arrays_of(results(films) / "films/features" / name), arrays_of(results(copy) / "films/features" / name)
        assert list(a) == list(b)
        for key in a:  # batches are others, and so are the last bits
            np.testing.assert_allclose(a[key], b[key], atol=2e-3, err_msg=key)


@pytest.mark.parametrize("form", FORMS)
def test_decoders_leave_decoded_clips_controls_weights_and_curves(films, form):
    folder = results(films) / SUBJECT / "decoded" / form
    structure, semantic = arrays_of(folder / "structure.h5"), arrays_of(folder / "semantic.h5")
    clips = arrays_of(results(films) / "films/features/clips.h5")
    for found in (structure, semantic):
        np.testing.assert_array_equal(found["stimulus_id"], clips["stimulus_id"][:N_TEST])
    z = clips["z_sample" if form == "original" else "z_mean"][N_TEST:-4, 0].astype(np.float32)
    for key in ("z", "ridge", "mean", "nearest_training", "permuted"):
        assert structure[key].shape == (N_TEST, 4, 8, 8)
        assert np.isfinite(structure[key]).all()
    np.testing.assert_allclose(structure["mean"][3], z.mean(axis=0), atol=1e-4)
    assert all((z == decoded).all(axis=(1, 2, 3)).any() for decoded in structure["nearest_training"])
    assert semantic["f"].shape == (N_TEST, 96)
    assert semantic["c"].shape == semantic["c_ridge"].shape == (N_TEST, *clips["c"].shape[1:])
    np.testing.assert_array_equal(semantic["c"][:, 0], clips["c"][:N_TEST, 0])
    assert load_file(folder / "structure.safetensors")["trunk.first.0.weight"].shape == (256, 30)
    for decoder in ("structure", "semantic"):
        curve, table = pd.read_csv(folder / f"{decoder}_curve.csv"), pd.read_csv(folder / f"{decoder}.csv")
        assert len(curve) == 3
        assert curve["is_kept"].sum() == 1
        assert form != "original" or curve["is_kept"].iloc[-1]
        assert {"network", "ridge", "mean", "nearest_training", "permuted"} == set(table["system"])
    assert [path.name for path in folder.glob(".*")] == []


@pytest.mark.parametrize("form", [*FORMS, "change"])
def test_films_begin_with_the_decoded_first_frame_and_depend_on_the_vertices(films, form):
    folder = results(films) / SUBJECT / "decoded" / form
    found = arrays_of(folder / "motion.h5")
    structure = arrays_of(folder.with_name("corrected" if form == "change" else form) / "structure.h5")
    assert found["z"].shape == found["ridge"].shape == (N_TEST, 8, 4, 8, 8)
    for key in ("z", "other_clip", "static"):
        np.testing.assert_array_equal(found[key][:, 0], structure["z"])
    np.testing.assert_allclose(found["ridge"][:, 0], structure["ridge"], atol=1e-5)
    np.testing.assert_array_equal(found["static"], np.repeat(found["static"][:, :1], 8, axis=1))
    assert (found["z"] != found["other_clip"])[:, 1:].any(axis=(1, 2, 3, 4)).all()
    table = pd.read_csv(folder / "motion.csv").set_index("system")
    assert table.loc["static", "change_r"] == 0
    assert set(table.index) == set(found) - {"stimulus_id", "z", "velocity"} | {"network"}
    assert np.isfinite(table.to_numpy()).all()
    assert "norm.gain" in load_file(folder / "motion.safetensors") or form == "change"


def test_a_decoded_first_frame_is_what_the_original_form_does_not_train_with(films, copy):
    """Its files are others where `motion.first` is another, and only there."""
    for made in (results(copy) / SUBJECT / "decoded").glob("*/motion.*"):
        made.unlink()
    done = run_in(copy, f"{ROOT}/23_motion.py", "--set", "experiment.mind_animator.motion.first=true")
    assert done.returncode == 0, done.stderr
    for form, is_same in (("original", True), ("corrected", False)):
        first, second = (results(f) / SUBJECT / "decoded" / form / "motion.safetensors" for f in (films, copy))
        a, b = load_file(first), load_file(second)
        assert all(bool((a[key] == b[key]).all()) for key in a) == is_same, form


def test_first_frames_of_other_settings_are_refused(copy):
    setting = "experiment.mind_animator.structure.epochs=2"
    done = run_in(copy, f"{ROOT}/23_motion.py", "--set", setting, "--overwrite")
    assert done.returncode == 1
    assert "structure.epochs was 3, is 2" in done.stderr
    assert f"22_structure.py {options(copy)} --set {setting} --subject {SUBJECT} --overwrite" in done.stderr


def test_retrieval_has_both_galleries_and_kinds_with_chance_beside_hits(films):
    table = pd.read_csv(results(films) / SUBJECT / "retrieval.csv")
    assert set(table["form"]) == {"original", "corrected"}
    assert {tuple(row) for row in table[["gallery", "n"]].to_numpy()} == {("small", 8), ("large", 24)}
    assert set(table["by"]) == {"image", "text"}
    np.testing.assert_allclose(table["chance"], table["k"] / table["n"])
    assert table["hits"].between(0, 1).all()
    assert run_in(films, f"{ROOT}/24_retrieval.py").stdout.count("is there already") == 1


def released_trunk(n_in, width=96):
    """A checkpoint as the authors released them for retrieval, of weights at random."""
    generator, shapes = torch.Generator().manual_seed(0), {}
    for layer, n in (("lin0", n_in), ("mlp.0", width), ("mlp.1", width)):
        shapes |= {f"{layer}.0.weight": (width, n)}
        shapes |= {f"{layer}.{key}": (width,) for key in ("0.bias", "1.weight", "1.bias")}
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()} | {
        "logit_scale": torch.tensor(2.0)
    }


def test_clips_are_looked_up_by_a_checkpoint_of_the_authors(films, tmp_path):
    state, path = released_trunk(30), tmp_path / "theirs.pth"
    torch.save(state, path)
    table = results(films) / SUBJECT / "retrieval.csv"
    before = table.read_bytes()
    done = run_in(films, f"{ROOT}/24_retrieval.py", "--released", str(path))
    assert done.returncode == 0, done.stderr
    assert table.read_bytes() == before
    found = pd.read_csv(table.with_name("retrieval_released.csv"))
    assert set(found["system"]) == {"theirs"}
    assert set(found["form"]) == {"original"}
    with h5py.File(results(films) / SUBJECT / "prepared.h5") as file:
        X = file["betas"][:N_TEST][:, file["is_selected"][0]]  # of "original"
    X = torch.from_numpy((X - X.mean(axis=0)) / X.std(axis=0))
    f = from_released(state)(X).numpy()
    images = arrays_of(results(films) / "films/features/clips.h5")["clip_image"][:N_TEST]
    small = found[(found["gallery"] == "small") & (found["by"] == "image")]
    np.testing.assert_allclose(small["hits"], hit_rates(f, images, np.arange(N_TEST), small["k"].tolist()))
    table.with_name("retrieval_released.csv").unlink()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (released_trunk(29), "theirs.pth decodes from 29 vertices, and the rows have 30"),
        (released_trunk(30, 64), "theirs.pth gives an f of 64 numbers, but CLIP's embeddings have 96"),
        ({"weight": torch.ones(2)}, "theirs.pth: not a network of Mind-Animator"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(films, tmp_path, state, said):
    torch.save(state, tmp_path / "theirs.pth")
    done = run_in(films, f"{ROOT}/24_retrieval.py", "--released", str(tmp_path / "theirs.pth"))
    assert done.returncode == 1
    assert said in done.stderr


def test_forms_with_equal_settings_share_their_decoders(films):
    assert not (results(films) / SUBJECT / "decoded" / "change" / "semantic.h5").exists()
    again = run_in(films, f"{ROOT}/22_structure.py")
    assert again.stdout.count("is there already") == 2


@pytest.mark.parametrize("decoder", ["structure", "semantic", "motion"])
def test_a_killed_training_goes_on_to_the_same_bytes(films, copy, monkeypatch, decoder):
    script = f"{ROOT}/{ {'semantic': 21, 'structure': 22, 'motion': 23}[decoder] }_{decoder}.py"
    for path in (results(copy) / SUBJECT / "decoded").glob(f"*/{decoder}*"):
        path.unlink()
    kept, calls = training._keep, []

    def keep_and_die(*arguments):
        kept(*arguments)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "_keep", keep_and_die)
        with pytest.raises(KeyboardInterrupt):
            run_in(copy, script)
    folder = results(copy) / SUBJECT / "decoded"
    assert not (folder / "original" / f"{decoder}.h5").exists()
    assert list((folder / "original").glob(f".{decoder}.*.training"))
    with monkeypatch.context() as patch:  # and once more, at the very end
        patch.setattr(Artifact, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_in(copy, script)
    (folder / "original" / f"{decoder}.csv").unlink()
    done = run_in(copy, script)
    assert done.returncode == 0, done.stderr
    assert (folder / "original" / f"{decoder}.csv").is_file()
    assert not list(folder.rglob(".*.training"))
    for form in FORMS:
        first = results(films) / SUBJECT / "decoded" / form
        assert_same(first / f"{decoder}.h5", folder / form / f"{decoder}.h5")
        for name in (f"{decoder}.safetensors", f"{decoder}.csv", f"{decoder}_curve.csv"):
            assert (first / name).read_bytes() == (folder / form / name).read_bytes(), name


def test_targets_of_other_clips_are_refused(copy):
    path = results(copy) / "films/features/clips.h5"
    with h5py.File(path, "r+") as file:
        file["stimulus_id"][5] = 3099
    shutil.rmtree(results(copy) / SUBJECT / "decoded")
    done = run_in(copy, f"{ROOT}/22_structure.py")
    assert done.returncode == 1
    assert "1 of the stimulus_id differ" in done.stderr
    assert str(path) in done.stderr


def test_targets_made_with_other_settings_are_refused(copy):
    config = films_config(copy, max_length=9)
    done = run_here(f"{ROOT}/21_semantic.py", config, "--overwrite")
    assert done.returncode == 1
    assert "max_length was 15, is 9" in done.stderr


def test_missing_targets_name_the_script_that_makes_them(copy):
    for folder in (results(copy) / "films", results(copy) / SUBJECT / "decoded"):
        shutil.rmtree(folder)
    done = run_in(copy, f"{ROOT}/22_structure.py")
    assert done.returncode == 1
    assert f"make it with: python {ROOT}/11_features.py" in done.stderr


def test_an_f_of_another_width_than_clips_is_refused(copy):
    done = run_in(copy, f"{ROOT}/21_semantic.py", "--overwrite", "--set", "experiment.mind_animator.semantic.width=64")
    assert done.returncode == 1
    assert "semantic.width is 64, but CLIP's embeddings have 96 numbers" in done.stderr


FILMS = "reconstruction"
BY_FORM = [f"mind_animator/{form}" for form in ("original", "corrected", "change")]
OF_LATENTS = {
    **{f"no_generator/{form}": (form, "z") for form in ("original", "corrected", "change")},
    "control/static": ("corrected", "static"),
    "control/other_clip": ("corrected", "other_clip"),
    "control/ridge_frames": ("corrected", "ridge"),
    "control/mover": ("corrected", "mover"),
    "control/moved": ("corrected", "moved"),
    "control/mover_of_truth": ("corrected", "mover_of_truth"),
    "control/nearest_training": ("corrected", "nearest_training"),
    "control/mean_clip": ("corrected", "mean"),
}


def films_of(folder, name, subject=SUBJECT):
    ids, made = zip(*read_videos(results(folder) / subject / FILMS / name), strict=True)
    assert list(ids) == [101001 + k for k in range(N_TEST)]
    return np.stack(made)


def strips(folder, name):
    """Bytes of each strip, and the index without the seconds."""
    path = results(folder) / SUBJECT / FILMS / name
    found = {file.name: file.read_bytes() for file in path.glob("*.png")}
    return found | {"index": pd.read_csv(path / "index.csv").drop(columns="seconds").to_csv()}


def test_films_of_all_forms_and_controls_are_strips_of_eight_frames(films):
    for name in [*BY_FORM, *OF_LATENTS, "control/ceiling", "control/true_latents"]:
        assert films_of(films, name).shape == (N_TEST, 8, 64, 64, 3), name
    decoded = {form: films_of(films, f"mind_animator/{form}") for form in ("original", "corrected", "change")}
    assert not np.array_equal(decoded["original"], decoded["corrected"])
    assert not np.array_equal(decoded["change"], decoded["corrected"])
    flags = [read_settings(results(films) / SUBJECT / FILMS / name)["flags"] for name in BY_FORM]
    assert flags == [["test-set statistics"], [], []]


@pytest.mark.parametrize("name", OF_LATENTS)
def test_films_without_the_generator_are_those_of_the_autoencoder(films, name):
    form, key = OF_LATENTS[name]
    z = arrays_of(results(films) / SUBJECT / "decoded" / form / "motion.h5")[key][:2]
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "stable-diffusion" / "vae")
    with torch.no_grad():
        made = vae.decode(torch.from_numpy(z).flatten(0, 1) / vae.config.scaling_factor).sample
    expected = ((made / 2 + 0.5).clamp(0, 1) * 255).permute(0, 2, 3, 1).reshape(2, 8, 64, 64, 3).numpy()
    np.testing.assert_allclose(films_of(films, name)[:2], expected, atol=0.51)


def test_controls_are_what_they_are_called(films):
    truth = next(iter(read_true(films)))
    assert correlation(films_of(films, "control/true_latents")[0], truth) > 0.8
    assert correlation(films_of(films, "control/ceiling")[0], truth) > 0.6
    static, mean = films_of(films, "control/static"), films_of(films, "control/mean_clip")
    np.testing.assert_array_equal(static, np.repeat(static[:, :1], 8, axis=1))
    np.testing.assert_array_equal(mean, np.repeat(mean[:1], N_TEST, axis=0))
    other = films_of(films, "control/other_clip")
    np.testing.assert_allclose(static[:, 0].astype(int), other[:, 0], atol=1)  # the last bits are the batch's
    assert not np.array_equal(static[:, 1:], other[:, 1:])


def read_true(films):
    film = cc2017.films(films / "cc2017")["test1"]
    for _, frames in cc2017.read_clips(film, 8, 1, 64):
        yield frames


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def test_films_that_are_there_are_left_alone_and_one_that_is_missing_is_made_again_to_the_same_bytes(films, copy):
    for script, name in (("31_reconstruct", "mind_animator/corrected"), ("32_controls", "control/ceiling")):
        path, before = results(copy) / SUBJECT / FILMS / name, strips(films, name)
        (path / "records" / "101004.json").unlink()
        (path / "101004.png").write_bytes(b"half")
        times = {file: file.stat().st_mtime_ns for file in (results(copy) / SUBJECT / FILMS).glob("*/*/*.png")}
        done = run_in(copy, f"{ROOT}/{script}.py")
        assert done.returncode == 0, done.stderr
        assert strips(copy, name) == before
        again = {file for file, time in times.items() if file.stat().st_mtime_ns != time}
        assert again == {path / "101004.png"}


def test_shards_make_the_same_films_as_one_run(films, copy):
    names = [*BY_FORM, "control/ceiling", "control/static"]
    shutil.rmtree(results(copy) / SUBJECT / FILMS)
    for shard in ("2-of-2", "1-of-2"):
        done = run_in(copy, f"{ROOT}/31_reconstruct.py", "--shard", shard)
        assert done.returncode == 0, done.stderr
        done = run_in(copy, f"{ROOT}/32_controls.py", "--shard", shard, "--only", "ceiling", "static")
        assert done.returncode == 0, done.stderr
        assert ("4 of 8 films; 4 are left" in done.stdout) == (shard == "2-of-2")
    for name in names:
        assert strips(copy, name) == strips(films, name), name
    assert not (results(copy) / SUBJECT / FILMS / "control" / "mover").exists()


def test_a_control_that_needs_no_subject_is_copied_from_another_one(films, copy, monkeypatch):
    """A second subject that is the first one by another name; nothing may be sampled for it.

    The folder of the first has no index yet, as one that another process fills.
    """
    films_config(copy, subjects=[SUBJECT, "Subject02"])
    shutil.copytree(results(copy) / SUBJECT, results(copy) / "Subject02")
    shutil.rmtree(results(copy) / "Subject02" / FILMS)
    (results(copy) / SUBJECT / FILMS / "control/ceiling/index.csv").unlink()
    for path in (results(copy) / "Subject02").rglob("*.h5"):
        with h5py.File(path, "r+") as file:
            file.attrs["subject"] = "Subject02"
    for module, opener in ((sampler, "open_video_sampler"), (stable_diffusion, "open_vae")):
        monkeypatch.setattr(module, opener, lambda *_: pytest.fail("a model was opened"))
    own = ("--subject", "Subject02", "--set", "experiment.miniature_cc2017.direction=[true, true]")
    done = run_in(copy, f"{ROOT}/32_controls.py", *own, "--only", "ceiling", "true_latents")
    assert done.returncode == 0, done.stderr
    for name in ("control/ceiling", "control/true_latents"):
        np.testing.assert_array_equal(films_of(copy, name, "Subject02"), films_of(films, name))
    assert read_settings(results(copy) / "Subject02" / FILMS / "control/ceiling")["subject"] == "Subject02"


def test_films_of_other_settings_and_unknown_controls_are_refused(copy):
    setting = "experiment.mind_animator.video.guidance_scale=3"
    done = run_in(copy, f"{ROOT}/31_reconstruct.py", "--set", setting)
    assert done.returncode == 1
    assert "video.guidance_scale was 2" in done.stderr
    assert f"{ROOT}/31_reconstruct.py {options(copy)} --set {setting} --subject {SUBJECT} --overwrite" in done.stderr
    done = run_in(copy, f"{ROOT}/32_controls.py", "--only", "grey")
    assert done.returncode == 1
    assert "--only grey: the configuration has ceiling, true_latents, no_generator/original" in done.stderr


def test_films_without_what_is_decoded_name_the_script_that_makes_it(copy):
    (results(copy) / SUBJECT / "decoded" / "corrected" / "semantic.h5").unlink()
    done = run_in(copy, f"{ROOT}/31_reconstruct.py")
    assert done.returncode == 1
    assert f"make it with: python {ROOT}/21_semantic.py {options(copy)} --subject {SUBJECT}" in done.stderr


def test_maps_are_of_each_decoder_once_and_come_back_to_the_same_bytes(films, copy):
    folder = results(films) / SUBJECT / "maps"
    with h5py.File(results(films) / SUBJECT / "prepared.h5") as file:
        forms, chosen = file["form"][:].astype(str).tolist(), file["is_selected"][:]
        number, side = file["vertex"][:], file["hemisphere"][:].astype(str)
    table = pd.read_csv(folder / "maps.csv")
    of_semantic = [("f", "jacobian"), ("c", "jacobian"), ("c", "product")]
    expected = [*of_semantic, ("z_1", "jacobian"), ("z_1", "product"), ("direction", "jacobian")]
    of_motion = [("motion", "jacobian"), ("motion", "product")]
    for form in [*FORMS, "change"]:
        own = table[table["form"] == form]
        found = {tuple(row) for row in own[["target", "measure"]].to_numpy()}
        assert found == {*of_motion, *(expected if form in FORMS else [])}
        own = own.groupby(["target", "measure"])
        assert (own["n"].sum() == 30).all()
        np.testing.assert_allclose(own["share"].sum(), 1, rtol=1e-4)
    image = nib.load(folder / "maps.dscalar.nii")
    assert isinstance(image, nib.Cifti2Image)
    names, models = (image.header.get_axis(k) for k in (0, 1))
    cortex, values = cortex_of(models, folder, ""), image.get_fdata()
    assert len(cortex.vertex) == 59412
    for name, line in zip(names.name, values, strict=True):
        own = chosen[forms.index(name.split()[0])]
        shown = sorted(zip(cortex.hemisphere[np.isfinite(line)], cortex.vertex[np.isfinite(line)], strict=True))
        assert shown == sorted(zip(side[own], number[own], strict=True)), name
    with Image.open(folder / "maps.png") as picture:
        assert 1000 < picture.width < 1400
    assert run_in(films, f"{ROOT}/25_maps.py").stdout.count("is there already") == 1
    for name in ("maps.png", "maps.dscalar.nii"):
        (results(copy) / SUBJECT / "maps" / name).unlink()  # as a kill may leave it
    done = run_in(copy, f"{ROOT}/25_maps.py")
    assert done.returncode == 0, done.stderr
    assert "1 is the mean over all vertices" in done.stdout
    files = [path for path in folder.iterdir() if path.suffix != ".json"]
    assert len(files) == 5
    for path in files:
        assert path.read_bytes() == (results(copy) / SUBJECT / "maps" / path.name).read_bytes(), path.name


def test_maps_of_weights_of_another_training_are_refused(copy):
    folder = results(copy) / SUBJECT / "decoded"
    shutil.copy(folder / "original/motion.safetensors", folder / "corrected/motion.safetensors")
    shutil.rmtree(results(copy) / SUBJECT / "maps")
    done = run_in(copy, f"{ROOT}/25_maps.py")
    assert done.returncode == 1
    assert "corrected/motion.safetensors is of another training" in done.stderr
    assert f"motion.h5, and make it again with: python {ROOT}/23_motion.py {options(copy)} --subject" in done.stderr


SCORE = "evaluation/44_score_films.py"
SYSTEMS = {*BY_FORM, *OF_LATENTS, "control/ceiling", "control/true_latents"}
MOVERS = ("control/mover", "control/moved")


def tables_of(folder):
    """Bytes of all tables of scores of films."""
    return {path.name: path.read_bytes() for path in (results(folder) / "evaluation" / "videos").glob("*.csv")}


def table_of(folder, name):
    return pd.read_csv(results(folder) / "evaluation" / "videos" / f"{name}.csv")


def test_all_films_are_scored_and_what_is_decoded_agrees_with_the_decoders_own_tables(films):
    scores = table_of(films, "scores")
    assert set(scores["system"]) == SYSTEMS
    n_of = scores.groupby("metric")["stimulus_id"].nunique()
    assert n_of["flow_cosine"] == N_TEST
    assert n_of["ssim"] == n_of["vifi_stand_in"] == 6
    motion = table_of(films, "motion").set_index("system")
    assert set(motion.index) == SYSTEMS
    assert motion["flow_cosine"].idxmax() == "control/true_latents"
    assert motion.loc["control/static", "flow_cosine"] == 0
    shuffle = table_of(films, "shuffle").set_index("system")
    assert set(shuffle.index) == {*BY_FORM, "control/ceiling", "control/static", "control/other_clip"}
    assert shuffle.loc["control/static", "p"] == 1
    assert set(table_of(films, "as_published")["system"]) == {*BY_FORM, "control/ceiling", "control/static"}

    decoded = table_of(films, "decoded").set_index(["form", "target", "system"])["r_by_clip"]
    for form in FORMS:
        own = results(films) / SUBJECT / "decoded" / form
        semantic = pd.read_csv(own / "semantic.csv").set_index(["target", "system"])["r_by_clip"]
        structure, moving = (pd.read_csv(own / f"{name}.csv").set_index("system") for name in ("structure", "motion"))
        expected = {("z1", name): r for name, r in structure["r_by_clip"].items()}
        expected |= {("motion", name): r for name, r in moving["r_by_clip"].items()}
        expected |= {("change", name): r for name, r in moving["change_r"].items()}
        expected |= dict(semantic.items())
        for (target, system), r in expected.items():
            if system != "permuted":  # of which there are several, and one is kept
                assert decoded[form, target, system] == pytest.approx(r, abs=2e-5), (form, target, system)
    hits = table_of(films, "retrieval")
    theirs = pd.read_csv(results(films) / SUBJECT / "retrieval.csv")
    same = ["form", "system", "gallery", "by", "n", "k"]
    both = hits.merge(theirs, on=same, suffixes=("", "_theirs"))
    assert len(both) == len(hits) == len(theirs)
    np.testing.assert_allclose(both["hits"], both["hits_theirs"], atol=1e-6)


def test_a_killed_scoring_goes_on_to_the_same_bytes_and_nothing_is_scored_twice(films, copy, monkeypatch):
    """Tables and five of the systems are not there yet."""
    output = results(copy) / "evaluation" / "videos"
    lacking = [*output.glob(f"measured/{SUBJECT}/control/m*"), *output.glob(f"measured/{SUBJECT}/mind_animator/co*")]
    for path in (*lacking, *output.glob("*.*")):
        path.unlink()
    measured, done = scoring.measure, []

    def measure_and_die(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments[1])
        measured(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "measure", measure_and_die)
        with pytest.raises(KeyboardInterrupt):
            run_in(copy, SCORE)
    assert tables_of(copy) == {}
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "measure", lambda *arguments: done.append(arguments[1]) or measured(*arguments))
        assert run_in(copy, SCORE).returncode == 0
    assert len(done) == len(set(done)) == len(lacking) == 5
    assert tables_of(copy) == tables_of(films)
    # The order of files and rows is nobody's: the index of a folder is turned round, and nothing is scored anew.
    index = results(copy) / SUBJECT / FILMS / "mind_animator/corrected/index.csv"
    pd.read_csv(index).iloc[::-1].to_csv(index, index=False)
    monkeypatch.setattr(scoring, "measure", lambda *_: pytest.fail("scored again"))
    again = run_in(copy, SCORE)
    assert "all films are scored already" in again.stdout
    assert tables_of(copy) == tables_of(films)


def test_films_that_subjects_have_in_common_are_scored_once(copy, monkeypatch):
    monkeypatch.setattr(scoring, "_measure", lambda *_: pytest.fail("scored again"))
    films_config(copy, subjects=[SUBJECT, "Subject02"])
    shutil.copytree(results(copy) / SUBJECT, results(copy) / "Subject02")
    for path in (results(copy) / "Subject02").rglob("*.h5"):
        with h5py.File(path, "r+") as file:
            file.attrs["subject"] = "Subject02"
    for path in (results(copy) / "Subject02" / FILMS).rglob("settings.json"):
        path.write_text(path.read_text().replace('"subject": "Subject01"', '"subject": "Subject02"'))
    own = ("--set", "experiment.miniature_cc2017.direction=[true, false]")
    done = run_in(copy, SCORE, "--subject", "Subject02", *own)
    assert done.returncode == 0, done.stderr
    motion, claim = table_of(copy, "motion"), table_of(copy, "claim")
    columns = ["system", "flow_cosine", "epe"]
    first, second = (motion.loc[motion["subject"] == s, columns].reset_index() for s in (SUBJECT, "Subject02"))
    pd.testing.assert_frame_equal(first.drop(columns="index"), second.drop(columns="index"))
    between = claim[claim["other_subject"] != claim["subject"]]
    assert set(between["system"]) == {*BY_FORM, *(f"no_generator/{form}" for form in (*FORMS, "change")), *MOVERS}
    assert (between["difference"] == 0).all()
    assert (between["other_subject"] == "Subject02").all()
    assert "all" in set(table_of(copy, "summary")["subject"])


def test_the_true_films_as_somebody_elses_have_the_best_scores(films, copy, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for clip, frames in enumerate(read_true(films), start=1):  # strips, called as Mind-Animator's authors call them
        Image.fromarray(frames.reshape(-1, 64, 3)).save(folder / f"test{clip}.png")
    done = run_in(copy, SCORE, "--films", str(folder), "--system", "truth", "--subject", SUBJECT)
    assert done.returncode == 0, done.stderr
    assert "8 films taken" in done.stdout
    summary = table_of(copy, "summary").pivot_table(index="system", columns="metric", values="mean")
    assert summary.loc["others/truth", "ssim"] == pytest.approx(1)
    for name in ("flow_cosine", "direction_cosine", "ssim", "psnr", "image_2_way_stand_in", "vifi_stand_in"):
        assert summary.loc["others/truth", name] == summary[name].max(), name
    assert summary["epe"].idxmin() == "others/truth"
    paired = table_of(copy, "paired")
    assert "others/truth" in set(paired["system"])
    assert table_of(copy, "shuffle").set_index("system").loc["others/truth", "p"] < 1e-4


def test_bad_films_are_refused_by_name(copy, tmp_path):
    folder, film = tmp_path / "theirs", np.zeros((7, 64, 64, 3), np.uint8)
    folder.mkdir()
    Image.fromarray(film.reshape(-1, 64, 3)).save(folder / "test1_1.png")
    own = ("--films", str(folder), "--system", "theirs")
    done = run_in(copy, SCORE, *own, "--subject", SUBJECT)
    assert done.returncode == 1
    assert "test1_1.png has 7 frames: 8 are expected" in done.stderr
    assert "test clips without a film: test1_2" in done.stderr
    for arguments, said in (
        (("--films", str(folder)), "--films needs --system NAME"),
        (("--system", "theirs"), "name them with --films DIR"),
    ):
        done = run_in(copy, SCORE, *arguments)
        assert done.returncode == 1
        assert said in done.stderr
    # A folder of another subject, of other clips, and of pictures.
    source = results(copy) / SUBJECT / FILMS / "control" / "static"
    theirs = source.parents[1] / "others" / "theirs"
    shutil.copytree(source, theirs)
    settings = theirs / "settings.json"
    text = settings.read_text()
    for old, new, said in (
        ('"subject": "Subject01"', '"subject": "Subject02"', "belongs to Subject02, not to Subject01"),
        ('"n_frames": 8', '"n_frames": 4', "has films of 4 frames, and films of 8 frames are scored"),
        (',\n  "n_frames": 8', "", "has pictures, and films of 8 frames are scored"),
    ):
        assert old in text
        settings.write_text(text.replace(old, new))
        done = run_in(copy, SCORE)
        assert done.returncode == 1
        assert f"{theirs} {said}" in done.stderr
    settings.write_text(text)
    index = theirs / "index.csv"
    index.write_text(index.read_text().replace("101003", "101099"))
    done = run_in(copy, SCORE)
    assert done.returncode == 1
    assert f"{theirs} has 1 films that are not of test clips of Subject01, such as 101099" in done.stderr


def test_films_of_clips_that_lack_are_scored_on_those_that_are_there_and_it_is_said(films, copy, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for clip, frames in enumerate(read_true(films), start=1):
        if clip != 4:
            Image.fromarray(frames.reshape(-1, 64, 3)).save(folder / f"{101000 + clip}.png")
    own = ("--films", str(folder), "--system", "truth", "--subject", SUBJECT)
    done = run_in(copy, SCORE, *own)
    assert done.returncode == 1
    assert "test clips without a film: test1_4" in done.stderr
    assert run_in(copy, SCORE, *own, "--allow-missing").returncode == 0
    summary = table_of(copy, "summary").set_index(["system", "metric"])
    assert summary.loc[("others/truth", "flow_cosine"), "n"] == 7
    assert summary.loc[("others/truth", "flow_cosine"), "incomplete"] == "7 of 8 films"


def test_scoring_without_films_names_the_script_that_makes_them(copy):
    shutil.rmtree(results(copy) / SUBJECT / FILMS)
    done = run_in(copy, SCORE)
    assert done.returncode == 1
    assert f"make them with: python {ROOT}/31_reconstruct.py {options(copy)} --subject {SUBJECT}" in done.stderr


REPORT = "evaluation/43_report.py"


def shown_films(page):
    """What the page has of films: what its player reads, and the pictures."""
    text = page.read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
    blocks = re.findall(r'class="pictures"[^>]*data-start="(\d+)">\n(.*?)\n</script>', text, re.DOTALL)
    pictures = {int(start) + k: line for start, lines in blocks for k, line in enumerate(lines.split("\n"))}
    return data["films"], {k: Image.open(BytesIO(base64.b64decode(line))) for k, line in pictures.items()}


def test_films_alone_have_a_page_with_all_of_them(copy):
    done = run_in(copy, REPORT)
    assert done.returncode == 0, done.stderr
    folder = results(copy) / "evaluation"
    found = json.loads((folder / "verdict.json").read_text())
    assert list(found["by_dataset"]) == ["videos"]
    assert found["verdict"] == found["by_dataset"]["videos"]
    assert found["verdict"][0].startswith("Is motion decoded?: ")
    assert found["absent"] == ["Natural Scenes Dataset, Generic Object Decoding (not made yet)"]
    films, pictures = shown_films(folder / "index.html")
    assert [clip["name"] for clip in films["clips"]] == [f"test1_{k + 1}" for k in range(N_TEST)]
    assert [clip["caption"] for clip in films["clips"]] == cc2017.read_captions(copy / "cc2017", "test", N_TEST)
    for clip, frames in zip(films["clips"], read_true(copy), strict=True):
        assert correlation(np.array(pictures[clip["film"]]), frames.reshape(-1, 64, 3)) > 0.98
    own = films["subjects"][SUBJECT]
    assert set(own["films"]) == set(own["scores"]) == SYSTEMS
    for name, numbers in own["films"].items():
        for number, film in zip(numbers, films_of(copy, name), strict=True):
            height = pictures[number].height // 64
            assert height in (1, 8)
            assert correlation(np.array(pictures[number]), film[:height].reshape(-1, 64, 3)) > 0.97, name
    assert {pictures[number].height for number in own["films"]["control/static"]} == {64}
    cosines = table_of(copy, "scores").set_index(["system", "metric"]).loc[("mind_animator/corrected", "flow_cosine")]
    shown = own["scores"]["mind_animator/corrected"]["flow_cosine"]
    np.testing.assert_allclose(shown, cosines.sort_values("stimulus_id")["value"], atol=1e-4)


def test_a_light_page_has_few_films_and_one_that_is_lacking_is_left_blank(copy):
    path = results(copy) / SUBJECT / FILMS / "control/mover"
    index = pd.read_csv(path / "index.csv")
    index[index["stimulus_id"] != 101001].to_csv(path / "index.csv", index=False)
    films_config(copy, subjects=[SUBJECT, "Subject02"])  # who has nothing yet
    done = run_in(copy, REPORT, "--light", "3", "--set", "experiment.miniature_cc2017.direction=[true, false]")
    assert done.returncode == 0, done.stderr
    films, _ = shown_films(results(copy) / "evaluation" / "light.html")
    speeds = table_of(copy, "scores").query("metric == 'epe_still'").groupby("stimulus_id")["value"].first()
    shown = [clip["speed"] for clip in films["clips"]]
    assert len(shown) == 3
    assert (min(shown), max(shown)) == pytest.approx((speeds.min(), speeds.max()), abs=1e-3)
    lacking = [clip["name"] == "test1_1" for clip in films["clips"]]
    assert [number is None for number in films["subjects"][SUBJECT]["films"]["control/mover"]] == lacking
