"""From a small CC2017 on disk to rows of vertices: what is planted in the runs is in the rows, and bad runs stop it."""

import re
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import h5py
import nibabel as nib
import numpy as np
import pytest
import yaml
from nibabel.cifti2 import BrainModelAxis, SeriesAxis
from numpy.testing import assert_allclose, assert_array_equal

from data import cc2017, recordings
from data.cortex import Cortex, read_atlas
from data.film_averaging import average_film, find_agreements, find_lags, find_strangers
from minddiffuser.config.mind_animator import FilmVoxels
from minddiffuser.store import DataError

REPOSITORY = Path(__file__).parents[2]
# Clips and repetitions of films; test2 is recorded from its beginning on, the others from 2 s into the film.
FILMS = {"seg1": (40, 2), "seg2": (40, 2), "seg3": (32, 2), "test1": (40, 5), "test2": (36, 4)}
ORDER = ("test1", "test2", "seg1", "seg2", "seg3")
SUBJECTS = ("Subject01", "Subject03")
LATE = ("Subject03", "test2", 3)
N_SEEING, N_SILENT = 160, 80
N_SELECTED, N_VALIDATION = 100, 20


@pytest.fixture(scope="module")
def cortex():
    """Vertices of V1, MT and A1, of the left and the right hemisphere."""
    atlas, rng = read_atlas(), np.random.default_rng(0)
    rows = [
        rng.choice(np.flatnonzero((atlas.hemisphere == side) & (atlas.area == area)), n, replace=False)
        for side in "LR"
        for area, n in (("V1", N_SEEING // 4), ("MT", N_SEEING // 4), ("A1", N_SILENT // 2))
    ]
    rows = np.sort(np.concatenate(rows))
    return Cortex(atlas.hemisphere[rows], atlas.vertex[rows], np.arange(len(rows))), atlas.area[rows]


def models_of(cortex):
    sides = {"L": "CIFTI_STRUCTURE_CORTEX_LEFT", "R": "CIFTI_STRUCTURE_CORTEX_RIGHT"}
    left, right = (
        BrainModelAxis.from_surface(cortex.vertex[cortex.hemisphere == side], 32492, name)
        for side, name in sides.items()
    )
    return left + right + BrainModelAxis.from_mask(np.ones((2, 2, 2), bool), "THALAMUS_LEFT", np.eye(4))


def write_run(path, volumes, models):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.concatenate([volumes, np.zeros((len(volumes), len(models) - volumes.shape[1]))], axis=1)
    nib.save(nib.Cifti2Image(columns.astype(np.float32), (SeriesAxis(0, 2.0, len(volumes)), models)), path)


@pytest.fixture(scope="module")
def world(tmp_path_factory, cortex):
    """The dataset, and what each subject responds to each film, volume by volume from 8 before its window on."""
    root, rng, (vertices, area) = tmp_path_factory.mktemp("cc2017"), np.random.default_rng(0), cortex
    folder = root / "Stimuli" / "video_fmri_dataset" / "stimuli"
    folder.mkdir(parents=True)
    for name, (n_clips, _) in FILMS.items():
        writer = cv2.VideoWriter(str(folder / f"{name}.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 4, (16, 16))
        for _ in range(8 * n_clips):
            writer.write(np.zeros((16, 16, 3), np.uint8))
        writer.release()
    models, responses = models_of(vertices), {}
    for subject in SUBJECTS:
        for name, (n_clips, n_repetitions) in FILMS.items():
            response = rng.normal(size=(n_clips + 22, len(area)))
            response = (response[:-2] + response[1:-1] + response[2:]) / np.sqrt(3) * (area != "A1")
            responses[subject, name] = response
            for number in range(1, n_repetitions + 1):
                before = 2 if name == "test2" else 1  # volumes of the recording before the window
                first = 8 - before + 5 * ((subject, name, number) == LATE)
                shown = response[first : first + before + n_clips + 4]
                time = np.linspace(-1, 1, len(shown))[:, None]
                drift = sum(rng.normal(size=len(area)) * time**k for k in range(5))
                volumes = 10_000 + 100 * (shown + rng.normal(size=shown.shape) + 3 * drift)
                write_run(cc2017.recording_path(root, subject, name, number), volumes, models)
    return root, responses


@pytest.fixture
def root(world, tmp_path):
    """A copy that can be spoilt."""
    return shutil.copytree(world[0], tmp_path / "cc2017")


def average(root, cortex, film, subject="Subject01", **settings):
    vertices, area = cortex
    return average_film(root, subject, cc2017.films(root)[film], vertices, area != "A1", FilmVoxels(**settings))


def path_of(root, film, number, subject="Subject01"):
    return cc2017.recording_path(root, subject, film, number)


def rewrite(path, change):
    """Write a recording again with other volumes."""
    image = nib.load(path)
    volumes = change(np.asarray(image.dataobj).copy())
    axes = SeriesAxis(0, 2.0, len(volumes)), image.header.get_axis(1)
    nib.save(nib.Cifti2Image(volumes.astype(np.float32), axes), path)


# ---- one film


def by_hand(root, film, numbers, n_vertices, subject="Subject01"):
    """z-scores of each run, in the plainest way: all columns, polynomials by NumPy."""
    found = []
    for number in numbers:
        volumes = np.asarray(nib.load(path_of(root, film, number, subject)).dataobj, float)[:, :n_vertices]
        volumes = volumes[2:-4] if film == "test2" else volumes[1:-4]
        time = np.linspace(0, 1, len(volumes))
        left = volumes - np.stack([np.polyval(np.polyfit(time, v, 4), time) for v in volumes.T], axis=1)
        found.append((left - left.mean(axis=0)) / left.std(axis=0))
    return np.stack(found)


def test_a_film_is_averaged_as_it_is_by_hand(world, cortex):
    n = len(cortex[1])
    found, Z = average(world[0], cortex, "seg1"), by_hand(world[0], "seg1", (1, 2), n)
    assert_allclose(found["mean"], Z.mean(axis=0), atol=1e-4)
    assert_allclose(np.tanh(found["fisher_z"]), (Z[0] * Z[1]).mean(axis=0), atol=1e-5)
    assert_allclose(found["squares"], [2.0 * 40] * 1 * np.ones((1, n)), rtol=1e-4)
    assert "halves" not in found
    found, Z = average(world[0], cortex, "test1"), by_hand(world[0], "test1", range(1, 6), n)
    assert_allclose(found["mean"], Z.mean(axis=0), atol=1e-4)
    assert_allclose(found["halves"], [Z[:2].mean(axis=0), Z[2:4].mean(axis=0)], atol=1e-4)
    assert "fisher_z" not in found
    assert found["run"].tolist() == [b"test1_1", b"test1_2", b"test1_3", b"test1_4", b"test1_5"]
    assert found["lag"].tolist() == [0] * 5


def test_several_volumes_are_averaged_and_scaled_over_all_that_are_taken(world, cortex):
    found = average(world[0], cortex, "seg1", extra_lag=-1, n_volumes=3)
    n = len(cortex[1])
    assert found["mean"].shape == (42, n)
    assert found["squares"].shape == (3, n)
    plain = average(world[0], cortex, "seg1")
    r = [np.corrcoef(found["mean"][1:41, v], plain["mean"][:, v])[0, 1] for v in range(n)]
    assert np.min(r) > 0.9
    assert found["squares"].mean() == pytest.approx(2 * 40, rel=0.05)


def test_a_late_run_is_named_with_its_lag(world, cortex):
    with pytest.raises(
        DataError, match=r"test2 were recorded later .*: test2_3 by \+5 volumes; .*exclude.*\[test2_3\]"
    ):
        average(world[0], cortex, "test2", "Subject03", exclude={"Subject01": ("test2_3",)})


def test_a_run_that_is_left_out_changes_nothing_and_is_still_looked_at(world, root, cortex):
    left_out = {"exclude": {"Subject03": ("test2_3",)}}
    found = average(root, cortex, "test2", "Subject03", **left_out)
    assert found["n_repetitions"] == 3
    assert found["lag"].tolist() == [0, 0, 5, 0]
    assert found["is_left_out"].tolist() == [False, False, True, False]
    assert_allclose(
        found["mean"], by_hand(root, "test2", (1, 2, 4), len(cortex[1]), "Subject03").mean(axis=0), atol=1e-4
    )
    path_of(root, "test2", 3, "Subject03").write_bytes(b"")
    broken = average(root, cortex, "test2", "Subject03", **left_out)
    assert np.isnan(broken["lag"]).tolist() == [False, False, True, False]
    path_of(root, "test2", 3, "Subject03").unlink()
    absent = average(root, cortex, "test2", "Subject03", **left_out)
    assert absent["run"].tolist() == [b"test2_1", b"test2_2", b"test2_4"]
    for other in (broken, absent):
        for key in ("mean", "halves", "squares"):
            assert_array_equal(other[key], found[key])


def test_of_two_runs_both_are_named_for_nobody_knows_which_is_wrong(root, cortex):
    rewrite(path_of(root, "seg2", 2), lambda X: np.concatenate([X[3:], X[:3]]))
    with pytest.raises(DataError, match=r"seg2_1 by -3 volumes, seg2_2 by \+3 volumes"):
        average(root, cortex, "seg2")


def test_a_single_run_has_no_lag():
    run = np.random.default_rng(0).normal(size=(40, 9))
    assert np.isnan(find_lags({"test1_1": run}, ["test1_1"])["test1_1"])


def test_one_repetition_of_a_test_film_suffices_and_has_no_halves(root, cortex):
    for number in (2, 3, 4, 5):
        path_of(root, "test1", number).unlink()
    found = average(root, cortex, "test1")
    assert np.isnan(found["halves"]).all()
    assert_allclose(found["mean"], by_hand(root, "test1", [1], len(cortex[1]))[0], atol=1e-4)


@pytest.mark.parametrize("how", ["missing", "left out"])
def test_a_training_film_needs_two_repetitions(root, cortex, how):
    if how == "missing":
        path_of(root, "seg1", 1).unlink()
        settings, expected = {}, r"1 runs of seg1, and 2 are needed: expected .*seg1_1_Atlas"
    else:
        settings, expected = {"exclude": {"Subject01": ["seg1_2"]}}, r"1 runs of seg1, besides seg1_2, left out, and 2"
    with pytest.raises(DataError, match=expected):
        average(root, cortex, "seg1", **settings)


def test_a_copied_file_is_no_repetition(root, cortex):
    shutil.copy(path_of(root, "seg1", 1), path_of(root, "seg1", 2))
    with pytest.raises(DataError, match=r"same in repetitions of seg1, seg1_1, seg1_2: one is a copy"):
        average(root, cortex, "seg1")


def test_vertices_without_data_are_counted(root, cortex):
    def spoil(volumes):
        volumes[:, 5], volumes[3, 6] = 0, np.nan
        return volumes

    rewrite(path_of(root, "seg1", 2), spoil)
    with pytest.raises(DataError, match=r"seg1_2_Atlas.*no data in 2 of 240 vertices"):
        average(root, cortex, "seg1")
    found = average(root, cortex, "seg1", invalid="zero")
    assert found["n_empty"].tolist() == [0, 2]
    assert found["fisher_z"][[5, 6]].tolist() == [0, 0]
    assert_allclose(found["mean"][:, 5], by_hand(root, "seg1", [1], 6)[0, :, 5] / 2, atol=1e-4)


# ---- all films


def write_config(folder, root, **animator):
    voxels = {"n": N_SELECTED, "exclude": {"Subject03": ["test2_3"]}, **animator.pop("voxels", {})}
    settings = {"subjects": list(SUBJECTS), "voxels": voxels, "n_validation": N_VALIDATION, **animator}
    config = {
        "name": "films",
        "experiment": {"subjects": [], "mind_animator": settings},
        "execution": {"cc2017": str(root), "runs": str(folder / "runs")},
    }
    path = folder / "films.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def prepare(folder, root, *arguments, **animator):
    """Run the script; return what it wrote of each subject."""
    script = runpy.run_path(str(REPOSITORY / "data" / "05_prepare_films.py"), run_name="prepare")
    script["main"](["--config", str(write_config(folder, root, **animator)), *arguments])
    found = {}
    for path in sorted((folder / "runs" / "films").glob("*/prepared.h5")):
        with h5py.File(path) as file:
            found[path.parent.name] = {key: file[key][()] for key in file}
    return found


@pytest.fixture(scope="module")
def prepared(world, tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("prepared"), world[0])


def test_rows_are_the_clips_of_all_films_test_films_first(prepared):
    for rows in prepared.values():
        expected = [(name, k) for name in ORDER for k in range(1, FILMS[name][0] + 1)]
        assert list(zip(rows["film"].astype(str), rows["clip"], strict=True)) == expected
        assert rows["stimulus_id"].tolist() == [cc2017.clip_key(*pair) for pair in expected]
        assert rows["is_test"].tolist() == [name.startswith("test") for name, _ in expected]
        assert rows["is_validation"].sum() == N_VALIDATION
        assert rows["is_validation"][-N_VALIDATION:].all()
    assert set(prepared["Subject01"]["n_repetitions"][:40]) == {5}
    assert set(prepared["Subject03"]["n_repetitions"][40:76]) == {3}
    assert set(prepared["Subject03"]["n_repetitions"][76:]) == {2}


def test_each_column_is_the_vertex_that_it_says(world, prepared, cortex):
    vertices, area = cortex
    for subject, rows in prepared.items():
        n_columns = rows["betas"].shape[1]
        assert {rows[k].shape for k in ("roi", "hemisphere", "vertex", "noise_ceiling", "volume")} == {(n_columns,)}
        assert not rows["volume"].any()
        found = []
        for column in range(n_columns):
            side, number = rows["hemisphere"][column].decode(), rows["vertex"][column]
            (place,) = np.flatnonzero((vertices.hemisphere == side) & (vertices.vertex == number))
            assert rows["roi"][column].decode() == (area[place] if area[place] != "A1" else "other")
            if area[place] == "A1":
                continue
            shown = [world[1][subject, name][8:, place, None][: FILMS[name][0]] for name in ORDER]
            planted = np.concatenate([recordings.detrend(X, 4) for X in shown])[:, 0]
            found.append(np.corrcoef(rows["betas"][:, column], planted)[0, 1])
        assert np.min(found) > 0.65


def test_rows_are_scaled_by_training_clips(prepared):
    for rows in prepared.values():
        training = rows["betas"][~rows["is_test"]]
        assert_allclose(training.mean(axis=0), 0, atol=1e-5)
        assert_allclose(training.std(axis=0), 1, atol=1e-5)
        # Test clips are means of more repetitions, and so of less noise.
        assert rows["betas"][rows["is_test"]].std(axis=0).mean() < 0.97
        four = rows["n_repetitions"][rows["is_test"]] == 4
        assert_allclose(rows["betas_halves"][four].mean(axis=1), rows["betas"][rows["is_test"]][four], atol=1e-5)


def test_of_a_film_seen_three_times_the_last_is_in_neither_half(prepared, world, cortex):
    vertices, _ = cortex
    rows = prepared["Subject03"]
    Z = by_hand(world[0], "test2", (1, 2), len(vertices.vertex), "Subject03")
    where = {pair: k for k, pair in enumerate(zip(vertices.hemisphere, vertices.vertex, strict=True))}
    places = [where[pair] for pair in zip(rows["hemisphere"].astype(str), rows["vertex"], strict=True)]
    for half in (0, 1):
        of_film = rows["betas_halves"][40:76, half]
        r = [np.corrcoef(of_film[:, c], Z[half][:, p])[0, 1] for c, p in enumerate(places)]
        assert np.min(r) > 0.9999


def test_selected_vertices_are_those_of_each_form(prepared):
    for rows in prepared.values():
        assert rows["form"].astype(str).tolist() == ["original", "corrected", "change"]
        assert rows["is_selected"].sum(axis=1).tolist() == [N_SELECTED] * 3
        assert rows["is_selected"].any(axis=0).all()
        assert_array_equal(rows["is_selected"][1], rows["is_selected"][2])
        silent = rows["roi"] == b"other"
        assert silent[rows["is_selected"][1]].mean() < 0.05
        # With three films few vertices have so small a p that they are not tied, and V1 to A1 of the left come first.
        original = rows["is_selected"][0]
        assert (rows["hemisphere"][original] == b"L").mean() > 0.7
        assert silent[original].mean() > 2 * silent[rows["is_selected"][1]].mean()
        assert silent[original].mean() > 0.08


def test_ceilings_tell_vertices_that_respond(prepared):
    for rows in prepared.values():
        silent = rows["roi"] == b"other"
        # Signal and noise have equal variance in a run: 100 / (1 + 1/3), if detrending took none of the signal.
        assert 60 < np.median(rows["noise_ceiling"][~silent]) < 80
        assert np.median(rows["noise_ceiling"][silent]) < 15
        reliability = rows["cortex_reliability"]
        assert reliability.shape == (N_SEEING + N_SILENT,)
        assert 0.35 < np.median(reliability[rows["cortex_roi"] != b"other"]) < 0.6
        assert np.abs(np.median(reliability[rows["cortex_roi"] == b"other"])) < 0.05


def test_runs_are_listed_with_their_lags(prepared):
    rows = prepared["Subject03"]
    lags = dict(zip(rows["run"].astype(str), rows["lag"], strict=True))
    assert {name for name, lag in lags.items() if lag} == {"test2_3"}
    assert lags["test2_3"] == 5
    assert rows["run"][rows["is_left_out"]].tolist() == [b"test2_3"]
    assert len(lags) == 15


def test_a_test_row_depends_on_other_test_rows_only_where_they_scale_it(root, tmp_path):
    def make_larger(path):
        rewrite(path, lambda X: 10_000 + 3 * (X - 10_000))

    def disturb(volumes):
        volumes[-30:] += np.random.default_rng(0).normal(0, 300, volumes[-30:].shape)
        return volumes

    one = ["--subject", "Subject01"]
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    before = {
        by: prepare(tmp_path / "a", root, *one, "--overwrite", voxels={"test_scaling": by})["Subject01"]
        for by in ("train", "test")
    }
    for number in range(1, 5):
        make_larger(path_of(root, "test2", number))  # which z-scores undo
    for number in range(1, 6):
        rewrite(path_of(root, "test1", number), disturb)
    test1, test2 = slice(0, 40), slice(40, 76)
    for by in ("train", "test"):
        after = prepare(tmp_path / "b", root, *one, "--overwrite", voxels={"test_scaling": by})["Subject01"]
        assert_array_equal(after["vertex"], before[by]["vertex"])
        assert np.abs(after["betas"][test1] - before[by]["betas"][test1]).max() > 0.1
        difference = np.abs(after["betas"][test2] - before[by]["betas"][test2]).max()
        assert difference < 1e-3 if by == "train" else difference > 0.01
    by_test = before["test"]["betas"][:76]
    assert_allclose(by_test.mean(axis=0), 0, atol=1e-5)
    assert_allclose(by_test.std(axis=0), 1, atol=1e-5)
    by_train = before["train"]["betas"][:76]  # from which the others follow
    assert_allclose((by_train - by_train.mean(axis=0)) / by_train.std(axis=0), by_test, atol=1e-4)


def test_two_volumes_of_a_clip_are_columns_one_after_the_other(world, prepared, tmp_path):
    rows = prepare(tmp_path, world[0], "--subject", "Subject01", voxels={"n_volumes": 2}, forms=["corrected"])
    rows = rows["Subject01"]
    assert rows["betas"].shape[1] == 2 * N_SELECTED
    assert rows["volume"].tolist() == [0] * N_SELECTED + [1] * N_SELECTED
    assert_array_equal(rows["vertex"][:N_SELECTED], rows["vertex"][N_SELECTED:])
    first, second = rows["betas"][:40, :N_SELECTED], rows["betas"][:40, N_SELECTED:]  # test1
    r = [np.corrcoef(first[1:, v], second[:-1, v])[0, 1] for v in range(N_SELECTED)]
    assert np.min(r) > 0.9999
    assert rows["noise_ceiling"].shape == rows["roi"].shape == (2 * N_SELECTED,)


def test_shards_make_the_same_bytes_as_one_process(world, prepared, tmp_path, capsys):
    for shard in ("3-of-3", "1-of-3", "2-of-3", "1-of-1"):  # the last joins
        found = prepare(tmp_path, world[0], "--subject", "Subject03", "--shard", shard)
        assert ("Subject03" in found) == (shard == "1-of-1")
    assert "a run without --shard joins them" in capsys.readouterr().out
    for key, values in prepared["Subject03"].items():
        assert_array_equal(found["Subject03"][key], values)


def test_it_prints_what_was_found_and_does_nothing_twice(world, tmp_path, capsys):
    prepare(tmp_path, world[0], "--subject", "Subject03")
    text = capsys.readouterr().out
    assert "Subject03: 112 training clips, of which 20 validate, and 76 test clips" in text
    assert "14 of 15 runs were recorded at the same time of their film" in text
    assert "test2_3: lag +5 volumes, left out" in text
    table = [line.split() for line in text.splitlines() if line.split()[:1] in (["V1"], ["MT"], ["other"])]
    assert [row[0] for row in table] == ["V1", "MT", "other"]
    assert [int(row[1]) for row in table] == [80, 80, 80]
    assert sum(int(row[4]) for row in table) == N_SELECTED
    written = (tmp_path / "runs" / "films" / "Subject03" / "reliability.csv").read_text()
    assert written.startswith("area,n_vertices,reliability,original,corrected,change\nV1,80,")
    prepare(tmp_path, world[0], "--subject", "Subject03")
    again = capsys.readouterr().out
    assert "prepared.h5 is there already" in again
    assert text.strip() in again


def test_what_another_subject_leaves_out_does_not_matter(world, tmp_path, capsys):
    prepare(tmp_path, world[0], "--subject", "Subject01")
    prepare(tmp_path, world[0], "--subject", "Subject01", voxels={"exclude": {"Subject03": ["test2_1"]}})
    assert "is there already" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"other settings: experiment\.mind_animator\.voxels\.exclude\.Subject01"):
        prepare(tmp_path, world[0], "--subject", "Subject01", voxels={"exclude": {"Subject01": ["test2_1"]}})


@pytest.mark.parametrize(
    ("animator", "expected"),
    [
        ({"voxels": {"n": 241}}, r"241 vertices are to be selected, but 240 of 240"),
        ({"n_validation": 112}, r"n_validation 112 leaves none of 112 training clips"),
        ({"voxels": {"extra_lag": 4, "n_volumes": 2}}, r"test1_1_Atlas.*lower .*extra_lag or n_volumes"),
        ({"voxels": {"detrend_order": 39}}, r"40 volumes are left nothing by a polynomial of order 39"),
    ],
)
def test_settings_that_do_not_fit_stop_with_the_reason(world, tmp_path, animator, expected):
    with pytest.raises(DataError, match=expected):
        prepare(tmp_path, world[0], "--subject", "Subject01", **animator)


def test_recordings_of_a_film_that_is_not_there_stop_it(root, tmp_path):
    (root / "Stimuli" / "video_fmri_dataset" / "stimuli" / "seg3.mp4").unlink()
    with pytest.raises(DataError, match=r"recordings of seg3 of Subject01, but no such film"):
        prepare(tmp_path, root, "--subject", "Subject01")


def test_a_disk_that_is_full_once_all_films_are_averaged_keeps_them(world, prepared, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=200_000))
        with pytest.raises(OSError, match="No space left") as caught:
            prepare(tmp_path, world[0], "--subject", "Subject01")
    folder = tmp_path / "runs" / "films" / "Subject01"
    assert caught.value.filename == str(folder / "prepared.h5")
    assert not (folder / "prepared.h5").exists()
    assert not list(folder.rglob("*.partial"))
    assert len(list(folder.rglob("*.h5"))) == len(FILMS)
    with monkeypatch.context() as patch:
        patch.setattr("data.film_averaging.recordings.standardise_run", None)  # nothing is read again
        found = prepare(tmp_path, world[0], "--subject", "Subject01")["Subject01"]
    for key, values in prepared["Subject01"].items():
        assert_array_equal(found[key], values)


# ---- runs of another subject


@pytest.mark.parametrize("film", ["seg1", "test1"])
def test_a_run_of_another_subject_is_named_and_stops_nothing(root, tmp_path, capsys, film):
    """Both subjects watched the film at the same time of it: lags do not tell."""
    shutil.copy(path_of(root, film, 2, "Subject03"), path_of(root, film, 2))
    found = prepare(tmp_path, root, "--subject", "Subject01")["Subject01"]
    named = re.findall(r"WARNING: (\S+) agrees .* by r (\S+), where (\S+) is usual: is it of Subject01\?", said(capsys))
    expected = {"seg1": ["seg1_1", "seg1_2"], "test1": ["test1_2"]}[film]
    assert [name for name, *_ in named] == expected
    assert all(float(r) < 0.1 < float(usual) for _, r, usual in named)
    agreement = dict(zip(found["run"].astype(str), found["agreement"], strict=True))
    assert all((agreement[name] < 0.1) == (name in expected) for name in agreement if not np.isnan(agreement[name]))


def said(capsys):
    return capsys.readouterr().out


def test_runs_of_the_subject_are_not_named(world, tmp_path, capsys):
    prepare(tmp_path, world[0])
    assert "agrees" not in said(capsys)


def test_agreement_is_the_mean_correlation_with_the_others():
    rng = np.random.default_rng(0)
    runs = {f"test1_{k}": rng.normal(size=(50, 7)) for k in (1, 2, 3)}
    runs = {name: (x - x.mean(axis=0)) / x.std(axis=0) for name, x in runs.items()}
    found = find_agreements(runs, ["test1_1", "test1_2"])
    for name, others in (("test1_1", "test1_2"), ("test1_2", "test1_1"), ("test1_3", None)):
        mean = runs[others] if others else runs["test1_1"] + runs["test1_2"]
        expected = np.mean([np.corrcoef(runs[name][:, v], mean[:, v])[0, 1] for v in range(7)])
        assert found[name] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(find_agreements({"test1_1": runs["test1_1"]}, ["test1_1"])["test1_1"])


def test_strangers_are_found_among_runs_of_their_kind():
    names = ["seg1_1", "seg1_2", "seg2_1", "seg2_2", "seg3_1", "seg3_2", "test1_1", "test1_2", "test1_3"]
    r = np.array([0.2, 0.2, 0.25, 0.25, 0.09, 0.09, 0.5, 0.24, np.nan])
    assert find_strangers(names, r) == {"seg3_1": (0.09, 0.2), "seg3_2": (0.09, 0.2)}
    assert find_strangers(names[-2:], np.array([np.nan, np.nan])) == {}
