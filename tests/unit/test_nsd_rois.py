"""Voxels by any labels of NSD's volumes, by whole volumes, and by masks."""

from typing import Any

import nibabel as nib
import numpy as np
import pytest

from data import nsd, nsd_rois, recipes
from minddiffuser.config import ConfigError, load
from minddiffuser.config.method import Data
from minddiffuser.store import DataError
from miniature import nsd as miniature

SPACE = "func1pt8mm"
FOLDER = f"nsddata/ppdata/subj01/{SPACE}/roi"
OLD = Data().rois


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("rois")
    miniature.write_rois(root, 1, 0.03, SPACE, seed=0)
    return root


@pytest.fixture
def root(original, tmp_path):
    (tmp_path / FOLDER).mkdir(parents=True)
    for path in (original / FOLDER).iterdir():
        (tmp_path / FOLDER / path.name).write_bytes(path.read_bytes())
    return tmp_path


def volume(root, name):
    image: Any = nib.load(root / FOLDER / f"{name}.nii.gz")
    return np.asarray(image.dataobj)


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)


def voxels(root, *rois):
    return nsd_rois.read_voxels(root, "subj01", SPACE, rois)


def test_nsdgeneral_is_what_is_1_and_not_what_is_above_minus_1(root):
    labels = volume(root, "nsdgeneral")
    assert set(np.unique(labels)) == {-1, 0, 1}
    found = voxels(root, "nsdgeneral")
    np.testing.assert_array_equal(found.index, np.flatnonzero(labels == 1))
    assert set(found.roi) == {"nsdgeneral"}
    assert (labels != -1).sum() > 1.2 * len(found.index)


@pytest.mark.parametrize(
    ("roi", "name", "label"),
    [
        ("streams/ventral", "streams", 5), ("streams/5", "streams", 5), ("prf-visualrois/V2d", "prf-visualrois", 4),
        ("Kastner2015/TO1", "Kastner2015", 13),
    ],
)  # fmt: skip
def test_a_label_of_a_volume(root, roi, name, label):
    found = voxels(root, roi)
    np.testing.assert_array_equal(found.index, np.flatnonzero(volume(root, name) == label))
    assert set(found.roi) == {roi}


def test_the_authors_regions_have_the_labels_by_name_that_the_table_gives(root):
    """V3ab is V3B and V3A, MT is TO1, and so on, in the atlas of Wang et al."""
    of_atlas = dict(enumerate(nsd_rois.LABELS["Kastner2015"], start=1))
    named = {roi: tuple(of_atlas[label] for label in labels) for roi, labels in nsd_rois.ROI_LABELS.items()}
    assert named["MT"] == ("TO1",)
    assert named["MST"] == ("TO2",)
    assert named["V3ab"] == ("V3B", "V3A")
    assert named["IPS"] == tuple(f"IPS{k}" for k in range(6))
    assert named["V1"] == ("V1v", "V1d")
    assert nsd_rois.LABELS["prf-visualrois"] == nsd_rois.LABELS["Kastner2015"][:7]


def test_a_table_of_nsd_goes_before_ours_and_one_of_fsaverage_is_taken_where_there_is_no_other(root):
    write(root / FOLDER / "HCP_MMP1.nii.gz", np.where(volume(root, "streams") == 3, 23, 0).astype(np.int16))
    with pytest.raises(DataError, match=r"HCP_MMP1 has no label 'MT'.*HCP_MMP1\.mgz\.ctab is absent; give its number"):
        voxels(root, "HCP_MMP1/MT")
    assert len(voxels(root, "HCP_MMP1/23").index)
    table = root / "nsddata/freesurfer/fsaverage/label/HCP_MMP1.mgz.ctab"
    table.parent.mkdir(parents=True)
    table.write_text("0 Unknown\n1 V1\t    \n23 MT\t\n")  # some of NSD's tables have tabs at the ends of lines
    assert len(voxels(root, "HCP_MMP1/MT").index) == (volume(root, "streams") == 3).sum()
    own = root / "nsddata/freesurfer/subj01/label/streams.mgz.ctab"
    own.parent.mkdir(parents=True)
    own.write_text("0 Unknown\n1 late\n2 early\n")
    np.testing.assert_array_equal(voxels(root, "streams/late").index, np.flatnonzero(volume(root, "streams") == 1))
    with pytest.raises(DataError, match=r"streams has no label 'ventral'; there are"):
        voxels(root, "streams/ventral")
    own.write_text("what is this\n")
    with pytest.raises(DataError, match=r"streams\.mgz\.ctab cannot be read as a table of ROI labels"):
        voxels(root, "streams/late")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_mask_is_what_is_not_0_and_has_the_name_of_its_file(root, tmp_path, suffix):
    values = np.zeros(volume(root, "streams").shape, np.float32)
    values[3, 4, 5], values[6, 7, 8], values[1, 2, 3], values[0, 0, 0] = 1, 2, 0.3, np.nan
    path = tmp_path / f"own.v1{suffix}"
    write(path, values)
    found = voxels(root, str(path))
    np.testing.assert_array_equal(found.index, np.flatnonzero(values > 0))
    assert set(found.roi) == {"own.v1"}
    assert found.shape == values.shape


def test_a_mask_of_each_subject_is_named_without_the_subject(root, tmp_path):
    values = np.zeros(volume(root, "streams").shape, np.int16)
    values[3, 4, 5] = 1
    write(tmp_path / "subj01_own.nii.gz", values)
    found = voxels(root, str(tmp_path / "{subject}_own.nii.gz"))
    assert (found.index.tolist(), found.roi.tolist()) == (np.flatnonzero(values).tolist(), ["own"])
    assert Data(rois=("masks/{subject}.nii.gz",)).roi_names == ("mask",)


def test_a_volume_of_nsd_is_no_mask_because_it_is_not_0_outside_the_cortex(root):
    with pytest.raises(DataError, match=r"nsdgeneral\.nii\.gz cannot be read as a mask.*values below 0") as error:
        voxels(root, str(root / FOLDER / "nsdgeneral.nii.gz"))
    assert "\n" not in str(error.value)


def test_a_mask_without_a_voxel_is_named(root, tmp_path):
    write(tmp_path / "own.nii", np.zeros(volume(root, "streams").shape, np.int16))
    with pytest.raises(DataError, match=rf"has no voxel in {tmp_path}/own\.nii; leave it out"):
        voxels(root, str(tmp_path / "own.nii"))


def test_another_mask_under_the_same_name_makes_other_rows(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"name: x\nexperiment: {{data: {{rois: ['{tmp_path}/{{subject}}.nii']}}}}\n")
    config = load(path)
    with pytest.raises(DataError, match=r"the mask of subj01 is missing: expected .*subj01\.nii"):
        recipes.prepared(config, "subj01")
    found = set()
    for value in (1, 2):
        write(tmp_path / "subj01.nii", np.full((2, 2, 2), value, np.int16))
        found.add(recipes.prepared(config, "subj01").fingerprint)
    assert len(found) == 2


def test_a_hemisphere_has_the_labels_of_the_whole_volume(root):
    labels = volume(root, "streams").copy()
    labels[: len(labels) // 2] = -1
    write(root / FOLDER / "lh.streams.nii.gz", labels)
    np.testing.assert_array_equal(voxels(root, "lh.streams/ventral").index, np.flatnonzero(labels == 5))
    assert nsd_rois.roi_files("subj01", SPACE, ("lh.streams/ventral",)) == [
        nsd_rois.Path("nsddata/ppdata/subj01", SPACE, "roi/lh.streams.nii.gz")
    ]


def test_of_entries_that_overlap_the_first_has_the_voxel(root):
    found, v1 = voxels(root, "V1", "nsdgeneral"), voxels(root, "V1")
    assert len(np.unique(found.index)) == len(found.index) == len(voxels(root, "nsdgeneral").index)
    np.testing.assert_array_equal(found.index[found.roi == "V1"], v1.index)
    with pytest.raises(DataError, match="V1 of subj01 has no voxel that an earlier ROI does not have"):
        voxels(root, "nsdgeneral", "V1")


def test_a_mask_of_another_shape_is_named(root, tmp_path):
    write(tmp_path / "other.nii.gz", np.ones((3, 4, 5), np.int16))
    with pytest.raises(DataError, match=r"other\.nii\.gz has shape \(3, 4, 5\), but Kastner2015 of subj01 has"):
        voxels(root, "V1", str(tmp_path / "other.nii.gz"))


@pytest.mark.parametrize(
    ("roi", "said"),
    [
        ("V9", "known are V"), ("nsdgenral", "known are nsdgeneral"), ("streams/ventrall", "there are ventral"),
        ("floc-faces/FFA-2", "FFA-2 of subj01 has no voxel in /"), ("/nowhere/own.nii.gz", "own.nii.gz"),
        ("streams/40", "40 of subj01 has no voxel in /"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named_with_what_is(root, roi, said):
    with pytest.raises(DataError, match=said) as error:
        voxels(root, roi)
    assert "\n" not in str(error.value)


def test_files_that_are_needed_are_each_named_once():
    rois = ("V1", "V2", "nsdgeneral", "streams/early", "HCP_MMP1/MT", "HCP_MMP1/23", "masks/own.nii.gz")
    found = [path.name for path in nsd_rois.roi_files("subj01", SPACE, rois, with_streams=True)]
    assert found == [
        "Kastner2015.nii.gz", "prf-visualrois.nii.gz", "nsdgeneral.nii.gz", "streams.nii.gz", "HCP_MMP1.nii.gz",
        "HCP_MMP1.mgz.ctab",
    ]  # fmt: skip
    assert [path.name for path in nsd_rois.roi_files("subj01", SPACE, OLD)] == found[:2]
    of_thalamus = nsd_rois.roi_files("subj01", SPACE, ("thalamus/LGN",))
    assert [path.as_posix() for path in of_thalamus][1:] == ["nsddata/templates/thalamus.ctab"]


def test_one_name_will_do_in_a_configuration_and_masks_have_names_of_their_own(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("name: x\nexperiment: {data: {rois: nsdgeneral}}\n")
    assert load(path).experiment.data.rois == ("nsdgeneral",)
    path.write_text("name: x\nexperiment: {data: {rois: [V1, a/own.nii.gz, streams/early]}}\n")
    assert load(path).experiment.data.roi_names == ("V1", "own", "streams/early")
    path.write_text("name: x\nexperiment: {data: {rois: [a/own.nii.gz, b/own.nii]}}\n")
    with pytest.raises(ConfigError, match="two have the same name"):
        load(path)


def test_the_miniature_has_tables_as_nsd_and_the_doctor_can_name_labels_without_voxels(original):
    rois = ("V1", "floc-faces", "floc-places/RSC", "HCP_MMP1")
    assert nsd_rois.missing_labels(original, "subj01", SPACE, rois) == [
        "floc-faces/FFA-2", "floc-faces/mTL-faces", "floc-faces/aTL-faces"
    ]  # fmt: skip
    path = original / "nsddata/freesurfer/subj01/label/HCP_MMP1.mgz.ctab"
    assert path.read_text().splitlines()[:3] == ["0 Unknown", "1 V1", "2 MST"]
    found = nsd_rois.read_voxels(original, "subj01", SPACE, ("HCP_MMP1/MT",))
    atlas = volume(original, "Kastner2015")
    assert set(atlas.ravel()[found.index]) == {13}
    for name, labels in nsd_rois.LABELS.items():
        assert tuple(nsd_rois.label_names(original, "subj01", name)) == labels


def test_a_label_of_the_authors_regions_without_a_voxel_is_named(root):
    kastner = volume(root, "Kastner2015").copy()
    kastner[kastner == 15] = 0
    write(root / FOLDER / "Kastner2015.nii.gz", kastner)
    assert len(voxels(root, "LO").index)
    assert nsd_rois.missing_labels(root, "subj01", SPACE, OLD) == ["Kastner2015/LO1"]


def test_no_more_sessions_are_read_than_a_subject_has():
    assert [nsd.n_sessions(f"subj{k:02d}", 37) for k in range(1, 9)] == [37, 37, 32, 30, 37, 32, 37, 30]
    assert nsd.n_sessions("subj03", 5) == 5
    assert nsd.n_sessions("mine", 99) == 99
