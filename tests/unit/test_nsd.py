"""Reading NSD: the same numbers from both formats, and a clear error for each kind of bad file."""

import gzip
import json
import shutil

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

from data import nsd
from data.miniature import dataset
from minddiffuser.config import Data, Miniature
from minddiffuser.store import DataError, write_arrays

SIZE = Miniature(n_shared=4, n_own=10, sessions=3, roi_scale=0.02)
SPACE, BETAS = "func1pt8mm", "betas_fithrf_GLMdenoise_RR"
ROIS = Data().rois


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("nsd")
    pictures = dataset.draw_pictures(SIZE.n_shared + 2 * SIZE.n_own, seed=0)
    design = dataset.make_design(SIZE, 2, seed=0)
    dataset.write_stimuli(root, pictures, design, seed=0)
    for subject in (1, 2):
        labels = dataset.write_rois(root, subject, SIZE.roi_scale, SPACE, seed=0)
        folder = f"{SPACE}/{BETAS}"
        dataset.write_betas(root, subject, labels, pictures, design, SIZE, folder, 0, progress=iter)
    return root


@pytest.fixture
def root(original, tmp_path):
    return shutil.copytree(original, tmp_path / "nsd")


def voxels_of(root, subject):
    return nsd.read_voxels(root, subject, SPACE, ROIS)


def session(root, subject, number=1):
    return nsd.session_path(root, subject, SPACE, BETAS, number)


def test_design_counts_from_zero_and_shares_the_first_images(original):
    a, b = (nsd.read_design(original, subject) for subject in ("subj01", "subj02"))
    assert a.n_shared == 4
    np.testing.assert_array_equal(a.stimuli[:4], b.stimuli[:4])
    assert not set(a.stimuli[4:]) & set(b.stimuli[4:])
    assert a.ordering.min() == 0
    assert np.bincount(a.ordering).max() <= 3


def test_stimuli_come_in_the_order_asked_for(original):
    stimuli = nsd.Stimuli(original)
    ids = np.array([5, 0, 5, 3])
    with h5py.File(original / nsd.STIMULI) as file:
        expected = file["imgBrick"][:][ids]
    np.testing.assert_array_equal(stimuli.read(ids), expected)


def test_joined_atlas_columns_are_by_roi_and_in_c_order(original):
    voxels = voxels_of(original, "subj01")
    folder = original / "nsddata/ppdata/subj01/func1pt8mm/roi"
    kastner, prf = (nib.load(folder / f"{n}.nii.gz").get_fdata().ravel() for n in ("Kastner2015", "prf-visualrois"))
    joined = kastner.copy()
    joined[prf > 0] = prf[prf > 0]
    assert list(dict.fromkeys(voxels.roi)) == list(ROIS)
    for roi in ROIS:
        expected = np.flatnonzero(np.isin(joined, nsd.ROI_LABELS[roi]))
        np.testing.assert_array_equal(voxels.index[voxels.roi == roi], expected)
    assert (kastner != joined).any()  # the two atlases do disagree, so that the rule is tested


def test_hdf5_and_nifti_give_the_same_betas(root):
    """A session in NSD's HDF5 axis order, written again as NIfTI, is read to the same rows and columns."""
    path, voxels = session(root, "subj01"), voxels_of(root, "subj01")
    expected = nsd.read_session(path, voxels)
    with h5py.File(path) as file:
        volumes = file["betas"][:]  # (trials, Z, Y, X)
    assert volumes.shape[1:] == tuple(reversed(voxels.shape))
    path.unlink()
    nifti = path.with_suffix(".nii.gz")
    nib.save(nib.Nifti1Image(volumes.transpose(3, 2, 1, 0), np.eye(4)), nifti)
    found = nsd.read_session(session(root, "subj01"), voxels)
    np.testing.assert_array_equal(found, expected)
    # A column is the voxel whose index it says, divided by 300.
    x, y, z = np.unravel_index(voxels.index[7], voxels.shape)
    np.testing.assert_allclose(found[:, 7], volumes[:, z, y, x] / 300, rtol=1e-6)


def test_sessions_are_standardised(original):
    path, voxels = session(original, "subj02"), voxels_of(original, "subj02")
    scaled = nsd.standardise_session(nsd.read_session(path, voxels), voxels, path, "error")
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("planted", [10.0, 36.0, 80.0])
def test_noise_ceiling_recovers_what_was_planted(planted):
    rng = np.random.default_rng(0)
    ratio = planted / 100 / (3 * (1 - planted / 100))
    signal, n_repetitions = rng.normal(size=(800, 30)), rng.integers(1, 4, 800)
    trials = np.repeat(signal, n_repetitions, axis=0) + rng.normal(size=(n_repetitions.sum(), 30)) / np.sqrt(ratio)
    rows = np.repeat(np.arange(800), n_repetitions)
    mean = np.stack([trials[rows == i].mean(axis=0) for i in range(800)])
    ceiling = nsd.noise_ceiling(mean, n_repetitions, (trials**2).sum(axis=0))
    assert ceiling.mean() == pytest.approx(planted, abs=3)


@pytest.mark.parametrize("subject", ["subj01", "subj02"])
def test_a_missing_session_is_named(root, subject):
    path = session(root, subject, 2)
    path.unlink()
    with pytest.raises(DataError, match=r"session 2 is missing: expected .*betas_session02"):
        session(root, subject, 2)


@pytest.mark.parametrize("subject", ["subj01", "subj02"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_session_is_named(root, subject, share):
    path, voxels = session(root, subject), voxels_of(root, subject)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=rf"{path.name}.* truncated"):
        nsd.read_session(path, voxels)


def test_a_session_with_volumes_of_another_shape_is_refused(root):
    path, voxels = session(root, "subj01"), voxels_of(root, "subj01")
    with h5py.File(path) as file:
        betas = file["betas"][:]
    write_arrays(path, {"betas": betas.transpose(0, 3, 2, 1)}, {})  # a wrong axis order is a wrong shape
    with pytest.raises(DataError, match="but the ROI volumes have"):
        nsd.read_session(path, voxels)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_constant_and_nan_voxels_stop_or_become_their_mean(original, value):
    path, voxels = session(original, "subj01"), voxels_of(original, "subj01")
    betas = nsd.read_session(path, voxels)
    betas[:, 3] = value
    betas[0, 5] = np.nan
    with pytest.raises(DataError, match=r"2 voxels are constant or not a number .*invalid_voxels=zero"):
        nsd.standardise_session(betas, voxels, path, "error")
    scaled = nsd.standardise_session(betas, voxels, path, "zero")
    assert np.isfinite(scaled).all()
    assert (scaled[:, [3, 5]] == 0).all()
    assert scaled[:, 4].std() == pytest.approx(1, abs=1e-4)


def test_roi_volumes_of_different_shapes_are_refused(root):
    path = root / "nsddata/ppdata/subj01/func1pt8mm/roi/prf-visualrois.nii.gz"
    volume = nib.load(path).get_fdata()[1:]
    nib.save(nib.Nifti1Image(volume.astype(np.int16), np.eye(4)), path)
    with pytest.raises(DataError, match="prf-visualrois has shape"):
        voxels_of(root, "subj01")


def test_a_truncated_roi_volume_is_named(root):
    path = root / "nsddata/ppdata/subj01/func1pt8mm/roi/Kastner2015.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:1000]))
    with pytest.raises(DataError, match=r"Kastner2015\.nii\.gz is truncated"):
        voxels_of(root, "subj01")


@pytest.mark.parametrize("rois", [("V1", "V9"), ("V1", "FFA")])
def test_an_unknown_roi_is_named(original, rois):
    with pytest.raises(DataError, match=rois[1]):
        nsd.read_voxels(original, "subj01", SPACE, rois)


def test_five_captions_an_image_in_order(original):
    coco_ids = nsd.read_coco_ids(original)
    texts = nsd.read_captions(original, coco_ids[[2, 0]], 5)
    pictures = dataset.draw_pictures(3, seed=0)
    assert texts == [pictures.texts[2], pictures.texts[0]]


def test_missing_captions_are_named(root):
    coco_ids = nsd.read_coco_ids(root)
    for name in nsd.CAPTIONS:
        content = json.loads((root / name).read_text())
        kept = [a for a in content["annotations"] if a["image_id"] != coco_ids[1]]
        (root / name).write_text(json.dumps({**content, "annotations": kept}))
    with pytest.raises(DataError, match=rf"1 images have fewer than 5 captions.*{coco_ids[1]}"):
        nsd.read_captions(root, coco_ids, 5)


def test_truncated_captions_are_named(root):
    path = root / nsd.CAPTIONS[0]
    path.write_text(path.read_text()[:500])
    with pytest.raises(DataError, match=r"captions_train2017\.json is truncated"):
        nsd.read_captions(root, nsd.read_coco_ids(root), 5)


def test_categories_are_those_of_the_objects_in_the_order_of_the_file(original):
    pictures, coco_ids = dataset.draw_pictures(8, seed=0), nsd.read_coco_ids(original)
    found = nsd.read_categories(original, coco_ids[[7, 2, 5]])
    assert found is not None
    for row, names in zip((7, 2, 5), found, strict=True):
        seen = zip(pictures.scenes[row].objects, pictures.visible[row], strict=True)
        kinds = {item.kind for item, mask in seen if mask.any()}
        assert names == [kind for kind in dataset.KINDS if kind in kinds]


def test_categories_are_none_where_there_are_no_instances_and_read_from_one_file_where_the_other_is_missing(root):
    coco_ids = nsd.read_coco_ids(root)
    complete = nsd.read_categories(root, coco_ids)
    (root / nsd.INSTANCES[1]).unlink()
    found = nsd.read_categories(root, coco_ids)
    assert all(names in ([], expected) for names, expected in zip(found, complete, strict=True))
    assert any(found)
    (root / nsd.INSTANCES[0]).unlink()
    assert nsd.read_categories(root, coco_ids) is None


@pytest.mark.parametrize("content", ['{"annotations": [{"image', '{"annotations": []}', "[]", '{"annotations": [1]}'])
def test_broken_instances_are_named(root, content):
    (root / nsd.INSTANCES[0]).write_text(content)
    with pytest.raises(DataError, match=r"instances_train2017\.json is truncated or not COCO's"):
        nsd.read_categories(root, nsd.read_coco_ids(root))


def nsd_list(root, subject):
    return loadmat(root / nsd.DESIGN)["subjectim"][int(subject[-1]) - 1]


def test_stimuli_and_design_that_disagree_are_refused(root):
    with h5py.File(root / nsd.STIMULI) as file:
        images = file["imgBrick"][:-5]
    write_arrays(root / nsd.STIMULI, {"imgBrick": images}, {})
    last = len(images) + 5
    subject = next(s for s in ("subj01", "subj02") if nsd_list(root, s).max() == last)
    with pytest.raises(DataError, match=r"nsd_expdesign\.mat and .*nsd_stimuli\.hdf5 disagree"):
        nsd.read_design(root, subject)
    with pytest.raises(DataError, match=r"nsd_stim_info_merged\.csv and .*nsd_stimuli\.hdf5 disagree"):
        nsd.read_coco_ids(root)


def test_a_design_that_disagrees_with_itself_is_refused(root):
    design = {key: value for key, value in loadmat(root / nsd.DESIGN).items() if not key.startswith("__")}
    savemat(root / nsd.DESIGN, {**design, "sharedix": design["sharedix"][:, ::2]})
    with pytest.raises(DataError, match="sharedix"):
        nsd.read_design(root, "subj01")
    savemat(root / nsd.DESIGN, {**design, "masterordering": design["masterordering"] + 5})
    with pytest.raises(DataError, match="masterordering"):
        nsd.read_design(root, "subj01")


def test_a_broken_design_and_an_unknown_subject_are_named(root):
    with pytest.raises(DataError, match="no subj03"):
        nsd.read_design(root, "subj03")
    (root / nsd.DESIGN).write_bytes(b"not a matrix")
    with pytest.raises(DataError, match=r"nsd_expdesign\.mat cannot be read"):
        nsd.read_design(root, "subj01")


def test_missing_nsd_says_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"expected .*nsd_expdesign\.mat.*naturalscenesdataset\.org"):
        nsd.read_design(tmp_path, "subj01")


def test_coco_ids_are_those_the_authors_ship(tmp_path, test_data):
    """NSD's tables, rebuilt around the authors' lists, are read back to those lists: same order, first 1000 shared."""
    lists = [np.load(test_data / "minddiffuser_s1" / f"cocoId_correct_sub{s}.npy") for s in (1, 2, 5, 7)]
    assert all(np.array_equal(ids[:1000], lists[0][:1000]) for ids in lists)
    assert lists[0][3] == 524646
    unique = np.unique(np.concatenate(lists))
    nsd_id_of = dict(zip(unique, np.random.default_rng(0).permutation(len(unique)), strict=True))
    stimuli = np.array([[nsd_id_of[i] + 1 for i in ids] for ids in lists])
    write_arrays(tmp_path / nsd.STIMULI, {"imgBrick": np.zeros((len(unique), 1, 1, 3), np.uint8)}, {})
    (tmp_path / nsd.DESIGN).parent.mkdir(parents=True)
    ordering = np.random.default_rng(1).integers(1, 10001, size=(1, 30000))
    savemat(
        tmp_path / nsd.DESIGN,
        {"masterordering": ordering, "subjectim": stimuli, "sharedix": np.sort(stimuli[:1, :1000])},
    )
    table = pd.DataFrame({"cocoId": unique, "nsdId": [nsd_id_of[i] for i in unique]})
    table.to_csv(tmp_path / nsd.STIMULUS_INFO)
    coco_ids = nsd.read_coco_ids(tmp_path)
    for number, expected in enumerate(lists, start=1):
        design = nsd.read_design(tmp_path, f"subj{number:02d}")
        assert design.n_shared == 1000
        np.testing.assert_array_equal(coco_ids[design.stimuli], expected)
