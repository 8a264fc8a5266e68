"""The simulated CC2017: it has the real layout, timing and vertices, and is what its films show."""

import importlib
import json
from pathlib import Path

import cv2
import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from data.cortex import read_atlas
from minddiffuser.cli import remedy_of
from minddiffuser.config import REPOSITORY, ConfigError, load
from minddiffuser.config.mind_animator import Clips
from minddiffuser.demo import is_simulated
from minddiffuser.lanes import Lane, lanes_of
from minddiffuser.store import DataError
from miniature import cc2017, movies
from miniature.video_brain import AREAS

make_cc2017 = importlib.import_module("miniature.04_make_cc2017")
SUBJECTS = ("Subject01", "Subject02", "Subject03")
SIZE = {
    "n_segments": 2,
    "clips": 14,
    "n_tests": 2,
    "test_clips": 12,
    "mean_shot": 2,
    "test_repetitions": 9,
    "vertex_share": 0.03,
    "n_silent": 20,
    "alone": 0.6,
    "named": 0.06,
}
CLIPS = {"seg1": 14, "seg2": 14, "test1": 12, "test2": 12}
STIMULI = Path("Stimuli/video_fmri_dataset/stimuli")


def write_config(folder, **experiment):
    miniature = yaml.safe_load((REPOSITORY / "configs" / "miniature.yaml").read_text())["experiment"]
    animator = {"subjects": list(SUBJECTS), "clips": {"frame_step": 1}}
    values = {"models": miniature["models"], "miniature_cc2017": SIZE, "mind_animator": animator, **experiment}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    execution = {"cc2017": str(folder / "cc2017")}
    path.write_text(yaml.safe_dump({"name": "small", "experiment": values, "execution": execution}))
    return path


def make(folder, *options, **experiment):
    make_cc2017.main(["--config", str(write_config(folder, **experiment)), *options])


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".yaml"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folder, and of each film what was drawn, beside the frames that the brain was shown."""
    folder, drawn, seen = tmp_path_factory.mktemp("films"), {}, {}  # films are made side by side, in any order
    with pytest.MonkeyPatch.context() as patch:
        draw_film, view = make_cc2017.draw_film, make_cc2017.view

        def draw(name, *args):
            drawn[name] = draw_film(name, *args)
            return drawn[name]

        def see(film, frames):
            seen[id(film)] = frames
            return view(film, frames)

        patch.setattr(make_cc2017, "draw_film", draw)
        patch.setattr(make_cc2017, "view", see)
        make(folder)
    return folder / "cc2017", {name: (film, seen[id(film)]) for name, film in drawn.items()}


@pytest.fixture(scope="module")
def root(made):
    return made[0]


def recording(root, subject, film, repetition):
    folder = root / subject / "video_fmri_dataset" / f"subject{int(subject[-2:])}" / "fmri" / film / "cifti"
    return nib.load(folder / f"{film}_{repetition}_Atlas.dtseries.nii")


def volumes(root, subject, film, repetition):
    """Deviations of each vertex from its mean over the run."""
    found = np.asarray(recording(root, subject, film, repetition).dataobj, float)
    return found - found.mean(axis=0)


def areas_of(root):
    """Area of each grayordinate, as the atlas says, by the vertex numbers of a recording."""
    hemisphere, vertex, area = read_atlas()
    named = dict(zip(zip(hemisphere, vertex, strict=True), area, strict=True))
    axis = recording(root, "Subject01", "seg1", 1).header.get_axis(1)
    sides = {"CIFTI_STRUCTURE_CORTEX_LEFT": "L", "CIFTI_STRUCTURE_CORTEX_RIGHT": "R"}
    return np.array([named.get((sides.get(n), v), "") for n, v in zip(axis.name, axis.vertex, strict=True)])


# ---- layout


def test_the_layout_is_that_of_the_real_dataset(root):
    expected = {STIMULI / f"{name}.mp4" for name in CLIPS}
    expected |= {Path("captions/Train_captions_new.h5"), Path("captions/Test_captions_new.h5")}
    expected |= {Path("miniature_cc2017.json"), Path("miniature_shots.csv")}
    for number, subject in enumerate(SUBJECTS, start=1):
        for film in CLIPS:
            folder = Path(subject, "video_fmri_dataset", f"subject{number}", "fmri", film, "cifti")
            n = 2 if film.startswith("seg") else 9
            expected |= {folder / f"{film}_{k}_Atlas.dtseries.nii" for k in range(1, n + 1)}
    assert set(contents(root)) == expected


@pytest.mark.parametrize(("film", "n_clips"), CLIPS.items())
def test_films_are_read_frame_for_frame_and_are_what_the_brain_saw(made, film, n_clips):
    root, shown = made
    capture = cv2.VideoCapture(str(root / STIMULI / f"{film}.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 4
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 8 * n_clips
    frames = []
    while (answer := capture.read())[0]:
        frames.append(answer[1][..., ::-1])
    frames = np.stack(frames)
    assert frames.shape == (8 * n_clips, 64, 64, 3)
    drawn, seen = shown[film]
    np.testing.assert_array_equal(seen, frames)
    error = (frames.astype(float) - drawn.frames) ** 2
    assert 0 < error.mean(axis=(1, 2, 3)).max() < 255**2 / 10**2.5  # 25 dB in the worst frame
    shifted = (frames[1:].astype(float) - drawn.frames[:-1]) ** 2
    assert error.mean() < 0.5 * shifted.mean()


def test_recordings_open_as_dense_series_with_the_brain_models_of_the_real_ones(root):
    image = recording(root, "Subject02", "seg1", 2)
    assert isinstance(image, nib.Cifti2Image)
    assert image.nifti_header.get_intent()[0] == "ConnDenseSeries"
    time, brain = (image.header.get_axis(k) for k in (0, 1))
    assert (time.step, time.start, time.unit) == (2, 0, "SECOND")
    names = [name for name, *_ in brain.iter_structures()]
    assert names == [f"CIFTI_STRUCTURE_{n}" for n in ("CORTEX_LEFT", "CORTEX_RIGHT", "THALAMUS_LEFT")]
    assert brain.nvertices == dict.fromkeys(names[:2], 32492)
    n_voxels = int((brain.name == names[2]).sum())
    assert n_voxels == 27
    hemisphere, vertex, area = read_atlas()
    for name, side in zip(names, "LR", strict=False):
        numbers = brain.vertex[brain.name == name]
        assert (np.diff(numbers) > 0).all()
        assert set(numbers) <= set(vertex[hemisphere == side])  # not of the medial wall
        for parcel in AREAS:
            share = np.isin(vertex[(hemisphere == side) & (area == parcel)], numbers).mean()
            assert 0.01 < share < 0.06, (side, parcel)
    found = areas_of(root)
    assert np.isin(found, ("A1", "4", "3b")).sum() == 20
    assert set(found) - {""} <= {*AREAS, "A1", "4", "3b"}


def test_the_atlas_has_the_papers_5820_vertices():
    hemisphere, _, area = read_atlas()
    assert len(area) == 59412
    assert (hemisphere == "L").sum() == 29696
    assert np.isin(area, list(AREAS)).sum() == 5820


def test_runs_have_5_volumes_more_than_clips_or_6(root):
    for film, n_clips in CLIPS.items():
        n_volumes = n_clips + (6 if film == "test2" else 5)
        assert recording(root, "Subject01", film, 1).shape == (n_volumes, len(areas_of(root)))


def test_each_clip_has_a_caption_of_what_it_shows(made):
    root, shown = made
    for split, names in (("Train", ("seg1", "seg2")), ("Test", ("test1", "test2"))):
        with h5py.File(root / "captions" / f"{split}_captions_new.h5") as file:
            texts = [text.decode() for text in file[f"{split}_captions"]]
        films = [shown[name][0] for name in names]
        scenes = [film.scenes[k : k + 8] for film in films for k in range(0, len(film.scenes), 8)]
        assert len(texts) == len(scenes)
        for text, of_clip in zip(texts, scenes, strict=True):
            options = {f"{s.objects[0].colour} {s.objects[0].kind}" for s in (of_clip[0], of_clip[-1])}
            assert any(option in text for option in options)


def test_captions_are_joined_where_the_middle_looks_like_one_end_only(made):
    """A film of two scenes, cut after the first frames of its clip; and one that stays the same."""
    experiment = load(REPOSITORY / "configs" / "miniature.yaml").experiment
    cpu = make_cc2017.torch.device("cpu")
    clip = make_cc2017.open_clip_model(experiment.models.clip, None, cpu)
    tokenizer, _ = make_cc2017.open_text_encoder(experiment.models.stable_diffusion, None, cpu)
    film = made[1]["seg1"][0]
    starts = [np.flatnonzero(film.shot == shot)[0] for shot in (0, 1)]
    order = {"cut": [starts[0]] * 2 + [starts[1]] * 6, "same": [starts[0]] * 8}
    for name, rows in order.items():
        part = movies.Film(
            film.frames[rows], [film.scenes[k] for k in rows], [film.visible[k] for k in rows], film.steps, film.shot
        )
        settings = Clips(frame_step=1)
        (text,) = cc2017.caption_film(part, "seg1", part.frames, clip, tokenizer, settings, 0)
        assert (", and then " in text) == (name == "cut")


def test_shots_and_motion_are_told_beside_the_dataset(made):
    root, shown = made
    table = pd.read_csv(root / "miniature_shots.csv")
    assert table.groupby("film", sort=False).size().to_dict() == CLIPS
    film = shown["seg1"][0]
    first = table[table["film"] == "seg1"]
    assert first["clip"].tolist() == list(range(1, 15))
    assert first["shot"].tolist() == film.shot[4::8].tolist()
    np.testing.assert_allclose(first["right"], [film.steps[k : k + 7, 0].mean() for k in range(0, 112, 8)], atol=1e-4)


# ---- subjects


def test_the_third_subject_is_the_first_without_direction(root):
    area = areas_of(root)
    a, b = (volumes(root, subject, "seg1", 1) for subject in ("Subject01", "Subject03"))
    sees = np.isin(area, list(AREAS))
    np.testing.assert_array_equal(a[:, ~sees], b[:, ~sees])
    change = (a - b).std(axis=0)
    of_motion, of_form = (np.median(change[np.isin(area, names)]) for names in (("MT", "MST"), ("V4", "LO1", "LO2")))
    assert of_motion > 2 * of_form > 0


def test_the_second_subject_is_another_brain(root):
    a, b = (volumes(root, subject, "seg1", 1) for subject in ("Subject01", "Subject02"))
    r = [np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)]
    assert np.abs(r).max() < 0.95


def test_repetitions_share_the_response_and_no_noise(root):
    area = areas_of(root)
    runs = [volumes(root, "Subject01", "test1", k) for k in range(1, 10)]
    X = np.stack([np.stack([run[:, v] for run in runs]) for v in range(len(area))])
    r = np.array([np.corrcoef(x)[np.triu_indices(9, 1)].mean() for x in X])
    assert r[np.isin(area, ("V1", "V2", "V3"))].mean() > 0.1
    assert abs(r[~np.isin(area, list(AREAS))].mean()) < 0.05


def test_one_recording_began_5_volumes_late(root):
    """Noise and drift are as large as ever: so the agreement is taken over all vertices that see."""
    sees = np.isin(areas_of(root), list(AREAS))
    expected = np.mean([volumes(root, "Subject03", "test2", k)[:, sees] for k in range(1, 9)], axis=0)

    def shift_of(subject, repetition):
        run = volumes(root, subject, "test2", repetition)[:, sees]
        return max(range(7), key=lambda k: np.corrcoef(expected[k:].ravel(), run[: len(run) - k].ravel())[0, 1])

    assert shift_of("Subject03", 9) == 5
    assert shift_of("Subject01", 9) == 0


# ---- making it


def test_killed_and_run_again_ends_in_the_same_bytes(root, tmp_path):
    make(tmp_path)
    assert contents(tmp_path / "cc2017") == contents(root)  # the same seed, the same bytes
    marker = tmp_path / "cc2017" / make_cc2017.MARKER
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "complete": False}))
    folder = tmp_path / "cc2017"
    kept = folder / "Subject01/video_fmri_dataset/subject1/fmri/seg1/cifti/seg1_1_Atlas.dtseries.nii"
    before = kept.stat().st_mtime_ns
    lost = [folder / STIMULI / "seg2.mp4", folder / "captions/Test_captions_new.h5"]
    for path in [*lost, *(folder / "Subject03").rglob("test2_9*")]:
        path.unlink()
    make(tmp_path)
    assert contents(folder) == contents(root)
    assert kept.stat().st_mtime_ns == before


def test_what_is_there_is_left_and_said_to_be(root, capsys):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.*")}
    make(root.parent)
    assert "is there already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before


SMALLEST = {**SIZE, "n_segments": 1, "n_tests": 1, "clips": 4, "test_clips": 4, "test_repetitions": 1, "n_silent": 0}


def test_other_settings_need_overwrite(tmp_path):
    make(tmp_path, miniature_cc2017=SMALLEST)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=r"other settings.*seed was 42, is 7.*--overwrite"):
        make(tmp_path, miniature_cc2017=SMALLEST, seed=7)
    assert contents(tmp_path) == before
    make(tmp_path, "--overwrite", miniature_cc2017=SMALLEST, seed=7)
    after = contents(tmp_path)
    assert set(after) == set(before)
    assert all(after[name] != before[name] for name in after if name.suffix in (".nii", ".mp4"))


def test_files_of_others_are_not_touched(tmp_path):
    (tmp_path / "cc2017").mkdir()
    (tmp_path / "cc2017" / "mine.txt").write_text("mine")
    for options in ([], ["--overwrite"]):
        with pytest.raises(DataError, match="cc2017 has files that this script did not make"):
            make(tmp_path, *options)
    assert [path.name for path in tmp_path.rglob("*") if path.suffix != ".yaml"] == ["cc2017", "mine.txt"]


def test_a_configuration_for_the_real_dataset_makes_nothing(tmp_path, capsys):
    make(tmp_path, miniature_cc2017=None)
    assert "no experiment.miniature_cc2017" in capsys.readouterr().out
    assert not (tmp_path / "cc2017").exists()


@pytest.mark.parametrize(
    ("experiment", "named"),
    [
        ({"mind_animator": None}, "mind_animator, which names the subjects"),
        ({"mind_animator": {"clips": {"frame_step": 8}}}, "frame_step 8 and n_frames 8 need more"),
        ({"miniature_cc2017": {**SIZE, "n_silent": 30_000}}, r"n_silent: A1, 4, 3b have \d+ vertices"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path, experiment, named):
    with pytest.raises(DataError, match=named):
        make(tmp_path, **experiment)


def test_each_subject_has_or_has_not_direction_selectivity(tmp_path):
    with pytest.raises(ConfigError, match=r"direction has 1 values for 3 mind_animator\.subjects"):
        load(write_config(tmp_path, miniature_cc2017={**SIZE, "direction": [True]}))


def test_what_is_missing_names_the_script(tmp_path):
    config = load(write_config(tmp_path))
    error = DataError("it is missing", "download it", config.cc2017 / STIMULI / "seg1.mp4")
    assert remedy_of(error, config) == "make it with: python miniature/04_make_cc2017.py"


def test_scripts_of_films_run_for_the_subjects_of_films(tmp_path):
    experiment = load(write_config(tmp_path, subjects=["subj01"])).experiment
    scripts = ["miniature/04_make_cc2017.py", "data/02_prepare_subject.py", "data/05_prepare_films.py"]
    together, apart = lanes_of(scripts, experiment)
    assert together == [Lane(None, scripts[:1])]
    assert apart == [Lane("subj01", scripts[1:2]), *(Lane(subject, scripts[2:]) for subject in SUBJECTS)]


def test_simulated_films_are_not_looked_for(tmp_path):
    real = load(write_config(tmp_path, miniature={}, miniature_cc2017=None)).experiment
    assert not is_simulated(real)
    assert is_simulated(load(write_config(tmp_path, miniature={})).experiment)
    assert is_simulated(real.model_copy(update={"mind_animator": None}))
