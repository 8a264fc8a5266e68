"""Own data: all that is wrong with rows and pictures is listed at once, and what is right runs as NSD does."""

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from data import nsd, own
from data.recipes import prepared
from minddiffuser.config import load
from minddiffuser.store import DataError, open_made
from miniature.nsd import draw_pictures

N_IMAGES, N_TEST, N_VOXELS = 9, 3, 5
IDS = [4, 2, 11, 0, 1, 3, 5, 6, 7]
GOOD = {
    "betas": np.random.default_rng(0).normal(size=(N_IMAGES, N_VOXELS)),
    "stimulus_id": np.array(IDS),
    "is_test": np.arange(N_IMAGES) < N_TEST,
}
ALL = {
    **GOOD,
    "roi": np.array(["V1", "V1", "V2", "V2", "floc-faces"], dtype=object),
    "n_repetitions": np.full(N_IMAGES, 3),
    "betas_halves": np.random.default_rng(1).normal(size=(N_TEST, 2, N_VOXELS)),
    "noise_ceiling": np.linspace(0, 50, N_VOXELS),
    "voxel_index": np.arange(N_VOXELS) + 1,
    "volume_shape": np.array([2, 2, 2]),
    "affine": np.eye(4),
}


def write(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array.dtype == object:
                file.create_dataset(name, data=array, dtype=h5py.string_dtype())
            else:
                file[name] = array
    return path


@pytest.fixture
def rows(tmp_path):
    return write(tmp_path / "rows.h5", GOOD)


@pytest.fixture
def pictures(tmp_path):
    """Pictures of ids 0 to 11, as PNG, JPEG and WebP, with two captions each."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, image in enumerate(draw_pictures(12, seed=3).images):
        suffix = (".png", ".jpg", ".webp")[i % 3]
        Image.fromarray(image).save(folder / f"{i:03d}{suffix}")
    table = pd.DataFrame(
        {"stimulus_id": np.repeat(range(12), 2), "caption": [f"picture {k}, of it" for k in range(24)]}
    )
    table.to_csv(folder / "captions.csv", index=False)
    return folder


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "own.yaml"
    execution = {"nsd": str(tmp_path / "nsd"), "runs": str(tmp_path / "runs")}
    experiment = {"subjects": ["p01", "p02"], "semantic": {"n_captions": 2}, "takagi": None, "ozcelik": None}
    path.write_text(yaml.safe_dump({"name": "own", "experiment": experiment, "execution": execution}))
    return path


def problems(path, arrays):
    return own.check_rows(write(path, arrays))[0]


def take(config, rows, pictures, *options):
    own.main(["--take", str(rows), "--images", str(pictures), "--config", str(config), "--subject", "p01", *options])


# Rows


def test_rows_that_are_right_have_no_problems_and_are_completed(tmp_path):
    for arrays in (GOOD, ALL):
        found, complete = own.check_rows(write(tmp_path / "rows.h5", arrays))
        assert found == []
        for name, array in arrays.items():
            if name != "roi":
                np.testing.assert_allclose(complete[name], array, rtol=1e-6)
    assert [name.decode() for name in complete["roi"]] == ["V1", "V1", "V2", "V2", "floc-faces"]
    _, complete = own.check_rows(write(tmp_path / "rows.h5", GOOD))
    assert complete["roi"].tolist() == [b"all"] * N_VOXELS
    assert np.isnan(complete["betas_halves"]).all()
    of_matlab = GOOD | {name: GOOD[name].astype(float) for name in ("stimulus_id", "is_test")}
    found, same = own.check_rows(write(tmp_path / "rows.h5", of_matlab))
    assert found == []
    for name, array in complete.items():
        np.testing.assert_array_equal(same[name], array, strict=True)


def test_a_completed_file_has_all_that_the_preparation_of_nsd_writes(tmp_path):
    text = (Path(own.__file__).parent / "02_prepare_subject.py").read_text().split("noise_ceiling.csv")[0]
    named = {name for line in re.findall(r"^    ([a-z][a-z_, ]*?)  +", text, re.M) for name in line.split(", ")}
    assert named == set(own.check_rows(write(tmp_path / "rows.h5", GOOD))[1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"betas": None}, "betas is missing"),
        ({"is_test": None}, "is_test is missing"),
        ({"betas": GOOD["betas"][0]}, "betas is float64 of shape (5,), not numbers of (n_images, n_voxels)"),
        ({"betas": np.full((9, 5), b"x")}, "betas is |S1 of shape (9, 5)"),
        (
            {"betas": np.where(np.eye(9, 5), np.nan, GOOD["betas"])},
            "betas has 5 values that are not finite, in 5 rows (t",
        ),
        ({"betas": GOOD["betas"] * [1, 0, 1, 0, 1]}, "betas is the same in all images in the columns 1, 3; leave"),
        ({"betas": GOOD["betas"].T}, "stimulus_id has shape (9,), not (n_images = 5)"),
        ({"stimulus_id": np.array(IDS) / 2}, "stimulus_id is float64 of shape (9,), not a whole number"),
        ({"stimulus_id": np.array(IDS) - 1}, "stimulus_id must be from 0 to 9999999: -1"),
        ({"stimulus_id": np.array([4, 2, 4, 0, 1, 3, 5, 6, 2])}, "the same image in several rows: 2, 4; average"),
        ({"is_test": ~GOOD["is_test"]}, "is_test: test images come first, but row 3 (from 0) is one after a training"),
        ({"is_test": GOOD["is_test"] & False}, "is_test is false of all images"),
        ({"is_test": GOOD["is_test"] | True}, "is_test is true of all images"),
        ({"is_test": np.arange(9)}, "is_test is int64 of shape (9,), not true or false"),
        (
            {"roi": np.array(["V1", "é", "", "V2", "V2"], object)},
            "roi has names that are empty or not ASCII: '', '\\xe9'",
        ),
        ({"roi": np.arange(5)}, "roi is int64, not the name of the region"),
        ({"roi": np.array([b"V1"] * 4)}, "roi has shape (4,), not (n_voxels = 5)"),
        ({"n_repetitions": np.zeros(9, int)}, "n_repetitions must be whole numbers from 1 on"),
        ({"betas_halves": np.zeros((9, 2, 5))}, "betas_halves has shape (9, 2, 5), not (n_test = 3, 2, n_voxels = 5)"),
        ({"voxel_index": np.arange(5)}, "voxel_index: maps need all of voxel_index, volume_shape, affine"),
        ({**ALL, "voxel_index": np.arange(5) + 4}, "voxel_index goes from 4 to 8, outside of a volume of [2 2 2]"),
        ({**ALL, "voxel_index": np.zeros(5, int)}, "voxel_index has the same voxel more than once"),
        ({**ALL, "affine": np.eye(3)}, "affine has shape (3, 3), not (4, 4)"),
        ({"beta": GOOD["betas"]}, "beta: not part of the layout; known are betas, "),
    ],
)
def test_each_fault_of_rows_is_named(tmp_path, changes, words):
    arrays = {name: array for name, array in (GOOD | changes).items() if array is not None}
    found = problems(tmp_path / "rows.h5", arrays)
    assert any(problem.startswith(words) or words in problem for problem in found), found


def test_all_faults_are_listed_at_once(tmp_path, pictures, capsys):
    arrays = {**ALL, "is_test": ~GOOD["is_test"], "stimulus_id": np.array([*IDS[:-1], 99]), "x": np.zeros(1)}
    arrays |= {"roi": np.array([b"V1"]), "n_repetitions": np.zeros(N_IMAGES)}
    (pictures / "007.jpg").rename(pictures / "7 (1).jpg")
    Image.new("RGB", (60, 40)).save(pictures / "002.webp")
    (pictures / "003.png").write_bytes(b"<html>")
    (pictures / "3.webp").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        own.main(["--check", str(write(tmp_path / "rows.h5", arrays)), "--images", str(pictures)])
    for words in (
        "is_test: test images come first", "x: not part of the layout", "roi has shape (1,)", "n_repetitions must be",
        "betas_halves has shape (3, 2, 5), not (n_test = 6", "has no picture of 99", "not named by stimulus_id: 7 (",
        "002.webp: 60 x 40 pixels; crop them to a square", "pictures of different sizes", "003.png cannot be read",
        "more than one picture of an image: 003.png and 3.webp", "fewer than 1 captions of 99",
    ):  # fmt: skip
        assert words in str(raised.value)
    assert str(raised.value).startswith(f"{tmp_path / 'rows.h5'}:\n  - ")


def test_a_file_that_is_none_and_folders_that_are_none_end_in_a_line(tmp_path, rows, pictures):
    (tmp_path / "text.h5").write_text("x")
    for path in (tmp_path / "absent.h5", tmp_path / "text.h5"):
        with pytest.raises(DataError, match=re.escape(str(path))):
            own.check_rows(path)
    with pytest.raises(DataError, match="is no folder"):
        own.check_images(rows, None, 1)
    for content, words in (
        (None, r"captions\.csv is missing"),
        ("id,caption\n1,x\n", "it needs the columns stimulus_id and caption"),
        ("stimulus_id,caption\nx,y\n", "stimulus_id are not whole numbers"),
        ("stimulus_id,caption\n1, \n", "the caption of 1 is empty"),
    ):
        (pictures / "captions.csv").unlink(missing_ok=True)
        if content:
            (pictures / "captions.csv").write_text(content)
        (found,) = own.check_images(pictures, None, 1)
        assert re.search(words, found)


# What is written


def test_pictures_and_captions_are_read_back_as_those_of_nsd(config, rows, pictures, capsys):
    take(config, rows, pictures)
    settings = load(config)
    stimuli = nsd.Stimuli(settings.nsd)
    images = stimuli.read(np.array([11, 0, 4]))
    for image, name in zip(images, ("011.webp", "000.png", "004.jpg"), strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(pictures / name).convert("RGB")))
    with open_made(prepared(settings, "p01")) as file:
        np.testing.assert_array_equal(file["stimulus_id"][:], IDS)
        captions = nsd.read_captions(settings.nsd, file["coco_id"][:], 2)
    assert captions[0] == ["picture 8, of it", "picture 9, of it"]
    assert nsd.read_categories(settings.nsd, np.array([1])) is None
    assert "3 test images, 5 voxels; nothing is wrong" in capsys.readouterr().out


def test_taking_again_changes_nothing_and_other_rows_are_refused_once_there_are_results(
    config, rows, pictures, tmp_path, capsys
):
    take(config, rows, pictures)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    take(config, rows, pictures)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == stamps
    assert capsys.readouterr().out.count("there already") == 2
    write(rows, GOOD | {"betas": GOOD["betas"] + 1})
    with pytest.raises(DataError, match="has other rows; use --overwrite"):
        take(config, rows, pictures)
    (tmp_path / "runs/own/p01/features").mkdir()
    with pytest.raises(DataError, match="has other rows, and features are made of them; delete"):
        take(config, rows, pictures, "--overwrite")
    (tmp_path / "runs/own/p01/features").rmdir()
    take(config, rows, pictures, "--overwrite")
    with open_made(prepared(load(config), "p01")) as file:
        np.testing.assert_allclose(file["betas"][:], GOOD["betas"] + 1, rtol=1e-6)
    shutil.copy(pictures / "000.png", pictures / "009.png")
    with pytest.raises(DataError, match="has other pictures or captions; use --overwrite"):
        take(config, rows, pictures)


def test_another_dataset_is_never_replaced(config, rows, pictures, tmp_path):
    for name in (nsd.CAPTIONS[1], nsd.STIMULI):
        path = tmp_path / "nsd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"info": {"year": 2017}}')
        for options in ([], ["--overwrite"]):
            with pytest.raises(DataError, match=r"is of another dataset; set execution\.nsd"):
                take(config, rows, pictures, *options)
        assert path.read_text() == '{"info": {"year": 2017}}'
        path.unlink()


def test_what_is_needed_to_take_is_asked_for(config, rows, pictures):
    with pytest.raises(DataError, match="--take needs --subject: whose are they, of p01, p02"):
        own.main(["--take", str(rows), "--images", str(pictures), "--config", str(config)])
    with pytest.raises(DataError, match="--take needs --images"):
        own.main(["--take", str(rows), "--config", str(config), "--subject", "p01"])
    captions = pd.read_csv(pictures / "captions.csv").drop(index=3)
    captions.to_csv(pictures / "captions.csv", index=False)
    with pytest.raises(DataError, match="has fewer than 2 captions of 1; write more, or lower experiment"):
        take(config, rows, pictures)
    assert not (load(config).nsd).exists()
