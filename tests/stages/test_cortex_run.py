"""The cortex in the run of the smallest miniature: files agree with each other, and what is missing is named."""

import io
import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from smallest import run_here, write_config

from data.nsd_surfaces import read_surfaces, transform_files
from data.surfaces import HEMISPHERES, N_FSAVERAGE5, read_gifti, to_vertices
from evaluation.pictures.cortex import flat_maps
from minddiffuser.store import open_arrays

SCRIPT, SUBJECT = "feature_decoding/27_weight_maps.py", "subj02"


@pytest.fixture
def copied(whole_run, tmp_path):
    shutil.copytree(whole_run / "nsd", tmp_path / "nsd")
    for name in ("prepared.h5", "decoders", "maps"):
        from_, to = (folder / "runs" / "smallest" / SUBJECT / name for folder in (whole_run, tmp_path))
        if from_.is_dir():
            shutil.copytree(from_, to)
        else:
            to.parent.mkdir(parents=True)
            shutil.copy(from_, to)
    return tmp_path


def maps_of(folder):
    return folder / "runs" / "smallest" / SUBJECT / "maps"


def test_maps_on_the_surface_are_those_of_the_volume(whole_run):
    folder = maps_of(whole_run)
    surfaces = read_surfaces(whole_run / "nsd", SUBJECT, "func1pt8mm")
    for side in HEMISPHERES:
        native, there = (read_gifti(folder / f"{side}.{space}.func.gii") for space in ("native", "fsaverage"))
        assert list(native) == list(there) == [*dict.fromkeys(native)]
        assert {"semantic_patterns", "linear_12_weights", "structural_patterns", "noise_ceiling"} <= set(native)
        frames = np.squeeze(nib.load(folder / f"{side}.fsaverage.mgz").dataobj)
        for k, name in enumerate(native):
            volume = np.asarray(nib.load(folder / f"{name}.nii.gz").dataobj, float)
            expected = to_vertices(volume, surfaces[side])
            np.testing.assert_allclose(native[name], expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(there[name], native[name][surfaces[side].nearest])
            np.testing.assert_array_equal(frames[:, k], there[name])
            assert 50 < np.isfinite(native[name]).sum() < len(expected)


def test_labels_on_the_surface_are_of_the_side_and_place_of_their_rois(whole_run):
    folder = maps_of(whole_run)
    surfaces = read_surfaces(whole_run / "nsd", SUBJECT, "func1pt8mm")
    with open_arrays(folder.parent / "prepared.h5", "", SUBJECT) as rows:
        index, shape, roi = rows["voxel_index"][:], rows["volume_shape"][:], rows["roi"][:].astype(str)
    corner = np.stack(np.unravel_index(index, shape), axis=1)
    for side in HEMISPHERES:
        image = nib.load(folder / f"{side}.native_rois.label.gii")
        names, labels = image.labeltable.get_labels_as_dict(), image.darrays[0].data
        places = surfaces[side].places.mean(axis=0)
        for number in np.unique(labels[labels > 0]):
            apart = np.linalg.norm(places[labels == number][:, None] - corner[roi == names[number]], axis=-1)
            assert apart.min(axis=1).max() < 1.5  # voxels
        of_fsaverage = nib.load(folder / f"{side}.fsaverage_rois.label.gii").darrays[0].data
        np.testing.assert_array_equal(of_fsaverage, labels[surfaces[side].nearest])


def test_tables_say_what_the_maps_show(whole_run):
    folder = maps_of(whole_run)
    shares, index = (pd.read_csv(folder / f"{name}.csv") for name in ("shares", "c_against_z"))
    np.testing.assert_allclose(shares.groupby("family")["share"].sum(), 1, atol=2e-3)
    assert set(index["roi"]) == set(shares["roi"])
    rises = json.loads((folder / "hierarchy.json").read_text())
    assert -1 <= rises["r_low"] <= rises["r_high"] <= 1
    assert 0 < rises["p"] <= 1
    for name in ("flat", "inflated", "maps"):
        assert Image.open(folder / f"{name}.png").width > 1000


def test_the_page_has_the_flat_maps_of_the_run(whole_run):
    found = flat_maps(maps_of(whole_run), pd.DataFrame(), {})
    assert [name for name, _ in found.pairs] == [
        "c", "z", *(f"layer {k}" for k in range(2, 13, 2)), "noise ceiling, %", "patterns of c less of z",
    ]  # fmt: skip
    page = (whole_run / "runs" / "smallest" / "evaluation" / "index.html").read_text()
    assert f'data-cortex="{SUBJECT}"' in page
    rois = np.asarray(Image.open(io.BytesIO(found.rois)).convert("L"))
    title, content, low, high, _ = found.pairs[0][1][1]
    grey = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
    assert (title, low) == ("patterns (r)", 0)
    assert (grey[rois < 3] == 0).mean() > 0.9  # data end near where ROIs end
    assert (grey[rois >= 3] > 0).mean() > 0.9
    assert grey.max() == 255
    values = read_gifti(maps_of(whole_run) / "lh.fsaverage.func.gii")["semantic_patterns"][:N_FSAVERAGE5]
    assert high < np.nanmax(values) * 1.5


def test_any_map_of_the_volume_is_drawn(copied):
    config, folder = copied / "smallest.yaml", maps_of(copied)
    write_config(copied)
    done = run_here(SCRIPT, config, "--map", str(folder / "c_minus_z.nii.gz"))
    assert done.returncode == 1
    assert "error: --map: a map is of one subject: give --subject" in done.stderr
    done = run_here(SCRIPT, config, "--subject", SUBJECT, "--map", str(folder / "c_minus_z.nii.gz"), "--fs-lr", "hcp")
    assert done.returncode == 1
    assert "--fs-lr writes the maps of the decoders, which 27 without --map makes: give one of the two" in done.stderr
    image = nib.load(folder / "c_minus_z.nii.gz")
    own, small = copied / "mine.nii.gz", copied / "small.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 5, image.affine), own)
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3)), image.affine), small)
    done = run_here(SCRIPT, config, "--subject", SUBJECT, "--map", str(own))
    assert done.returncode == 0, done.stderr
    for side in HEMISPHERES:
        found = read_gifti(folder / f"{side}.mine.fsaverage.func.gii")["mine"]
        expected = read_gifti(folder / f"{side}.fsaverage.func.gii")["c_minus_z"] + 5
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert Image.open(folder / "mine_flat.png").width > 200
    assert Image.open(folder / "mine_inflated.png").width > 400
    done = run_here(SCRIPT, config, "--subject", SUBJECT, "--map", str(small))
    assert done.returncode == 1
    assert "small.nii.gz cannot be read" in done.stderr
    assert "it has shape (3, 3, 3), and the subject's volume has" in done.stderr


def test_missing_transforms_end_in_one_line_and_are_added_to_an_older_miniature(copied):
    config = write_config(copied)
    files = [copied / "nsd" / file for of_side in transform_files(SUBJECT, "func1pt8mm").values() for file in of_side]
    before = {path: path.read_bytes() for path in files}
    betas = {path: path.stat().st_mtime_ns for path in (copied / "nsd" / "nsddata_betas").rglob("*.*")}
    for path in files:
        path.unlink()
    shutil.rmtree(maps_of(copied))
    done = run_here(SCRIPT, config, "--subject", SUBJECT)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: a transform to the surface is missing: expected {files[0]}")
    assert "make it with: python miniature/01_make_miniature.py" in line
    assert run_here("miniature/01_make_miniature.py", config).returncode == 0
    assert {path: path.read_bytes() for path in files} == before
    assert {path: path.stat().st_mtime_ns for path in betas} == betas
    assert "is there already" in run_here("miniature/01_make_miniature.py", config).stdout
