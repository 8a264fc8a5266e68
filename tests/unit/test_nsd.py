"""Reading NSD: the same numbers from both formats, and a clear error for each kind of bad file."""

import gzip
import io
import json
import shutil
import tracemalloc
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

from data import nsd, nsd_betas, nsd_rois
from minddiffuser.config.method import Data
from minddiffuser.config.miniature import Miniature
from minddiffuser.store import DataError, write_arrays
from miniature import nsd as miniature

SIZE = Miniature(n_shared=4, n_own=10, sessions=3, roi_scale=0.02)
SPACE, BETAS = "func1pt8mm", "betas_fithrf_GLMdenoise_RR"
ROIS = Data().rois


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("nsd")
    pictures = miniature.draw_pictures(SIZE.n_shared + 2 * SIZE.n_own, seed=0)
    design = miniature.make_design(SIZE, 2, seed=0)
    miniature.write_stimuli(root, pictures, design, seed=0)
    for subject in (1, 2):
        labels = miniature.write_rois(root, subject, SIZE.roi_scale, SPACE, seed=0)
        folder = f"{SPACE}/{BETAS}"
        miniature.write_betas(root, subject, labels, pictures, design, SIZE, folder, 0, done=lambda: None)
    return root


@pytest.fixture
def root(original, tmp_path):
    return shutil.copytree(original, tmp_path / "nsd")


def voxels_of(root, subject):
    return nsd_rois.read_voxels(root, subject, SPACE, ROIS)


def session(root, subject, number=1):
    return nsd_betas.session_path(root, subject, SPACE, BETAS, number)


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
        expected = np.flatnonzero(np.isin(joined, nsd_rois.ROI_LABELS[roi]))
        np.testing.assert_array_equal(voxels.index[voxels.roi == roi], expected)
    assert (kastner != joined).any()  # the two atlases do disagree, so that the rule is tested


def test_hdf5_and_nifti_give_the_same_betas(root):
    """A session in NSD's HDF5 axis order, written again as NIfTI, is read to the same rows and columns."""
    path, voxels = session(root, "subj01"), voxels_of(root, "subj01")
    expected = nsd_betas.read_session(path, voxels)
    with h5py.File(path) as file:
        volumes = file["betas"][:]  # (trials, Z, Y, X)
    assert volumes.shape[1:] == tuple(reversed(voxels.shape))
    path.unlink()
    nifti = path.with_suffix(".nii.gz")
    nib.save(nib.Nifti1Image(volumes.transpose(3, 2, 1, 0), np.eye(4)), nifti)
    found = nsd_betas.read_session(session(root, "subj01"), voxels)
    np.testing.assert_array_equal(found, expected)
    # A column is the voxel whose index it says, divided by 300.
    x, y, z = np.unravel_index(voxels.index[7], voxels.shape)
    np.testing.assert_allclose(found[:, 7], volumes[:, z, y, x] / 300, rtol=1e-6)


def test_sessions_are_standardised(original):
    path, voxels = session(original, "subj02"), voxels_of(original, "subj02")
    scaled = nsd_betas.standardise_session(nsd_betas.read_session(path, voxels), voxels, path, "error")
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
    ceiling = nsd_betas.noise_ceiling(mean, n_repetitions, (trials**2).sum(axis=0))
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
        nsd_betas.read_session(path, voxels)


def test_a_session_with_volumes_of_another_shape_is_refused(root):
    path, voxels = session(root, "subj01"), voxels_of(root, "subj01")
    with h5py.File(path) as file:
        betas = file["betas"][:]
    write_arrays(path, {"betas": betas.transpose(0, 3, 2, 1)}, {})  # a wrong axis order is a wrong shape
    with pytest.raises(DataError, match="but the ROI volumes have"):
        nsd_betas.read_session(path, voxels)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -7.0])
def test_constant_and_nan_voxels_stop_or_become_their_mean(original, value):
    path, voxels = session(original, "subj01"), voxels_of(original, "subj01")
    betas = nsd_betas.read_session(path, voxels)
    betas[:, 3] = value
    betas[0, 5] = np.nan
    with pytest.raises(DataError, match=r"2 voxels are constant or not a number .*invalid_voxels=zero"):
        nsd_betas.standardise_session(betas, voxels, path, "error")
    scaled = nsd_betas.standardise_session(betas, voxels, path, "zero")
    assert np.isfinite(scaled).all()
    assert np.flatnonzero(~scaled.any(axis=0)).tolist() == [3, 5]
    assert scaled[:, 4].std() == pytest.approx(1, abs=1e-4)


LINE = nsd.Voxels(np.arange(60), np.repeat(["V1", "V2", "LO"], 20), (1, 1, 60), np.eye(4))


def trials_of_line(deviation=300, n_trials=40):
    """Betas as they are stored: whole numbers, 1 % of signal change is 300."""
    return np.round(np.random.default_rng(0).normal(0, deviation, (n_trials, 60))).astype(np.float32) / 300


def test_voxels_without_data_are_counted_by_roi():
    betas = trials_of_line()
    betas[:, [2, 50]] = 0
    betas[7, [3, 4]] = np.nan
    empty = nsd_betas.find_empty(betas, LINE, Path("betas.hdf5"), "zero")
    assert np.flatnonzero(empty).tolist() == [2, 3, 4, 50]
    assert LINE.count(empty) == "3 of V1, 1 of LO"


@pytest.mark.parametrize("invalid", ["error", "zero"])
@pytest.mark.parametrize(
    ("value", "lost"),
    [
        *[(value, slice(*lost)) for value in (np.nan, np.inf, 0.0) for lost in ((60,), (30,), (48, 60), (0, 60, 2))],
        *[(32767 / 300, slice(*lost)) for lost in ((60,), (30,), (48, 60))],
    ],
    ids=str,
)
def test_a_trial_without_data_stops_and_is_numbered(invalid, value, lost):
    """Whole trials, halves of them, the last fifth, and every second voxel."""
    betas = trials_of_line()
    betas[[5, 39], lost] = value
    with pytest.raises(
        DataError, match=r"s02\.hdf5 has no data in 2 of 40 trials .*\(6, 40, counted from 1\).*sessions"
    ):
        nsd_betas.standardise_session(betas, LINE, Path("s02.hdf5"), invalid)


def test_the_first_of_many_trials_without_data_are_listed():
    betas = trials_of_line()
    betas[12:] = 0  # a contiguous file that was only allocated
    with pytest.raises(DataError, match=r"28 of 40 trials .*\(13, 14, 15, 16, 17, \.\.\., counted"):
        nsd_betas.find_empty(betas, LINE, Path("betas.hdf5"), "zero")


@pytest.mark.parametrize("invalid", ["error", "zero"])
@pytest.mark.parametrize("value", [np.nan, 0.0, 5.0])
@pytest.mark.parametrize("lost", [slice(None), slice(36, None), slice(53, None)], ids=str)
def test_a_session_without_data_stops(invalid, value, lost):
    betas = trials_of_line()
    betas[:, lost] = value
    n = len(range(60)[lost])
    with pytest.raises(DataError, match=rf"no data in {n} of 60 voxels .* of LO.*fetch .*data\.sessions.*data\.rois"):
        nsd_betas.standardise_session(betas, LINE, Path("betas.hdf5"), invalid)


def test_zeros_and_equal_neighbours_by_chance_are_data():
    """Voxels of a tenth of the usual deviation, for as many trials as a subject has."""
    assert not nsd_betas.find_empty(trials_of_line(30, 30_000), LINE, Path("betas.hdf5"), "error").any()


def test_standardising_is_done_in_float64():
    betas = trials_of_line() + np.float32(1000)
    mean, deviation = betas.mean(axis=0, dtype=np.float64), betas.std(axis=0, dtype=np.float64)
    expected = ((betas - mean) / (deviation + 1e-6)).astype(np.float32)
    np.testing.assert_array_equal(nsd_betas.standardise_session(betas, LINE, Path("betas.hdf5"), "error"), expected)


SHAPE, N_TRIALS = (9, 11, 7), 23
LAYOUTS = {
    "a chunk for each voxel": {"chunks": (N_TRIALS, 1, 1, 1)},
    "chunks over all axes": {"chunks": (5, 2, 3, 4), "compression": "gzip"},
    "a chunk for each trial": {"chunks": (1, *SHAPE[::-1]), "compression": "gzip"},
    "one chunk": {"chunks": (N_TRIALS, *SHAPE[::-1])},
    "contiguous": {},
}


def scattered_voxels():
    index = np.random.default_rng(1).permutation(np.prod(SHAPE))[:80]
    return nsd.Voxels(index, np.repeat("V1", 80), SHAPE, np.eye(4))


def write_hdf5(path, betas, **layout):
    """Write betas of (trials, X, Y, Z) with NSD's axes."""
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", data=betas.transpose(0, 3, 2, 1), **layout)


@pytest.fixture
def stored():
    return np.random.default_rng(2).normal(0, 300, (N_TRIALS, *SHAPE)).astype(np.int16)


@pytest.mark.parametrize("dtype", ["int16", ">i2", "float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_session_is_read_whatever_its_chunks(tmp_path, monkeypatch, stored, layout, dtype):
    monkeypatch.setattr(nsd_betas, "_BLOCK", 2000)  # so that trials are read in several blocks
    path, voxels = tmp_path / "betas.hdf5", scattered_voxels()
    write_hdf5(path, stored.astype(dtype), **LAYOUTS[layout])
    found = nsd_betas.read_session(path, voxels)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, stored.reshape(N_TRIALS, -1)[:, voxels.index] / np.float32(300))
    nsd_betas.try_session(path, voxels)


class Watched:
    """A dataset that counts, for each of its chunks, how often it is read."""

    def __init__(self, dataset):
        self.dataset, self.chunks, self.shape, self.dtype = dataset, dataset.chunks, dataset.shape, dataset.dtype
        self.reads = np.zeros([-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True)], int)

    def __getitem__(self, box):
        self.reads[tuple(slice(s.start // c, -(-s.stop // c)) for s, c in zip(box, self.chunks, strict=True))] += 1
        return self.dataset[box]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "contiguous"])
def test_each_chunk_with_a_wanted_voxel_is_read_once_and_no_other(tmp_path, monkeypatch, stored, layout):
    monkeypatch.setattr(nsd_betas, "_BLOCK", 2000)
    path, voxels = tmp_path / "betas.hdf5", scattered_voxels()
    write_hdf5(path, stored, **LAYOUTS[layout])
    with h5py.File(path) as file:
        watched = Watched(file["betas"])
        nsd_betas._read_boxes(watched, voxels, 0, N_TRIALS)
    wanted = np.zeros(watched.reads.shape, int)
    z, y, x = np.unravel_index(voxels.index, SHAPE)[::-1]
    _, *sides = watched.chunks
    wanted[:, z // sides[0], y // sides[1], x // sides[2]] = 1
    np.testing.assert_array_equal(watched.reads, wanted)


def write_nifti(path, stored):
    """Write betas of (trials, X, Y, Z) as NIfTI."""
    nib.save(nib.Nifti1Image(np.moveaxis(stored, 0, -1), np.eye(4)), path)


def test_a_nifti_is_decompressed_once_in_blocks(tmp_path, monkeypatch):
    stored = np.random.default_rng(2).normal(0, 300, (2000, *SHAPE)).astype(np.int16)
    path, voxels = tmp_path / "betas.nii.gz", scattered_voxels()
    write_nifti(path, stored)

    class Counting(io.FileIO):
        n_bytes = 0

        def read(self, n=-1):
            content = super().read(n)
            Counting.n_bytes += len(content)
            return content

    monkeypatch.setattr(nsd.gzip, "open", lambda path: gzip.GzipFile(fileobj=Counting(path)))
    monkeypatch.setattr(nsd_betas, "_BLOCK", 10 * stored[0].nbytes)
    nsd_betas.check_session(path, SHAPE)
    assert Counting.n_bytes == 0
    tracemalloc.start()
    found = nsd_betas.read_session(path, voxels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert Counting.n_bytes <= path.stat().st_size
    assert peak < found.nbytes + 0.5 * stored.nbytes
    np.testing.assert_array_equal(found, stored.reshape(2000, -1)[:, voxels.index] / np.float32(300))
    Counting.n_bytes = 0
    nsd_betas.try_session(path, voxels)
    assert Counting.n_bytes < 0.5 * path.stat().st_size


@pytest.mark.parametrize("n_bytes", [1, 4, 8, 5000])
def test_a_nifti_that_lacks_its_last_bytes_is_named(tmp_path, stored, n_bytes):
    path = tmp_path / "betas.nii.gz"
    write_nifti(path, stored)
    path.write_bytes(path.read_bytes()[:-n_bytes])
    assert nsd_betas.check_session(path, SHAPE) == N_TRIALS
    with pytest.raises(DataError, match=r"betas\.nii\.gz cannot be read as the betas of a session: it is truncated"):
        nsd_betas.read_session(path, scattered_voxels())


@pytest.mark.parametrize(
    ("layout", "what"), [("a chunk for each voxel", r"\d+ of \d+ voxels"), ("contiguous", r"\d+ of \d+ trials")]
)
def test_a_session_that_was_only_allocated_is_seen_by_what_is_read_first_and_by_what_reads_it(
    tmp_path, stored, layout, what
):
    path, voxels = tmp_path / "betas.hdf5", scattered_voxels()
    if layout == "contiguous":
        stored[N_TRIALS * 6 // 10 :] = 0
    else:  # chunks lie in the file as they were written: from the bottom of the volume to its top
        stored[..., SHAPE[2] * 6 // 10 :] = 0
    write_hdf5(path, stored, **LAYOUTS[layout])
    with pytest.raises(DataError, match=rf"betas\.hdf5 has no data in {what}"):
        nsd_betas.try_session(path, voxels)
    with pytest.raises(DataError, match=rf"betas\.hdf5 has no data in {what}"):
        nsd_betas.standardise_session(nsd_betas.read_session(path, voxels), voxels, path, "zero")


@pytest.mark.parametrize("value", [0, -1])
def test_an_empty_nifti_is_seen_by_what_is_read_first(tmp_path, stored, value):
    path = tmp_path / "betas.nii.gz"
    write_nifti(path, np.full_like(stored, value))
    with pytest.raises(DataError, match=r"betas\.nii\.gz has no data in 80 of 80 voxels"):
        nsd_betas.try_session(path, scattered_voxels())


BETAS_OF_OTHER_KINDS = {
    "one volume": np.zeros(SHAPE[::-1], np.int16),
    "no trials": np.zeros((0, *SHAPE[::-1]), np.int16),
    "text": np.full((3, *SHAPE[::-1]), b"x"),
    "complex": np.zeros((3, *SHAPE[::-1]), np.complex64),
}


@pytest.mark.parametrize("kind", BETAS_OF_OTHER_KINDS)
def test_betas_of_another_kind_are_refused(tmp_path, kind):
    path = tmp_path / "betas.hdf5"
    write_arrays(path, {"betas": BETAS_OF_OTHER_KINDS[kind]}, {})
    with pytest.raises(DataError, match=r"betas\.hdf5 has betas of .*, not numbers of \(X, Y, Z, trials\)"):
        nsd_betas.check_session(path, SHAPE)


def test_the_miniature_writes_betas_as_nsd_does(original, stored):
    """A chunk for each voxel that holds all trials, the same bytes each time, and voxels of 0 without a chunk."""
    with h5py.File(session(original, "subj01")) as file:
        assert file["betas"].chunks == (len(file["betas"]), 1, 1, 1)
        assert file["betas"].dtype == np.int16
    stored[:, 4:] = 0
    betas = stored.transpose(0, 3, 2, 1)
    content = miniature._hdf5(betas)
    assert content == miniature._hdf5(betas)
    with h5py.File(io.BytesIO(content)) as file:
        np.testing.assert_array_equal(file["betas"][:], betas)
        assert file["betas"].id.get_storage_size() == stored[:, :4].nbytes


def test_roi_volumes_of_different_shapes_are_refused(root):
    path = root / "nsddata/ppdata/subj01/func1pt8mm/roi/prf-visualrois.nii.gz"
    volume = nib.load(path).get_fdata()[1:]
    nib.save(nib.Nifti1Image(volume.astype(np.int16), np.eye(4)), path)
    with pytest.raises(DataError, match="prf-visualrois has shape"):
        voxels_of(root, "subj01")


PAGE = b"<html><head><title>403 Forbidden</title></head></html>"
BROKEN = {"page": PAGE, "JSON": b'{"error": "access denied", "code": 403}', "empty": b"", "zeros": bytes(5000)}


def broken(path, how):
    """What is found in place of a file: half of it, or one of the things that downloads leave."""
    return path.read_bytes()[: path.stat().st_size // 2] if how == "half" else BROKEN[how]


def kastner(root):
    return root / "nsddata/ppdata/subj01/func1pt8mm/roi/Kastner2015.nii.gz"


@pytest.mark.parametrize("how", ["half", *BROKEN])
def test_a_broken_roi_volume_is_named(root, how):
    kastner(root).write_bytes(broken(kastner(root), how))
    with pytest.raises(DataError, match=r"Kastner2015\.nii\.gz cannot be read as a volume of ROI labels"):
        voxels_of(root, "subj01")


@pytest.mark.parametrize("n_bytes", [2, 8])
def test_an_roi_volume_that_lacks_its_last_bytes_is_named(root, n_bytes):
    kastner(root).write_bytes(kastner(root).read_bytes()[:-n_bytes])
    with pytest.raises(DataError, match=r"Kastner2015\.nii\.gz cannot be read .* it is truncated"):
        voxels_of(root, "subj01")


CHANGES = {
    "four axes": lambda labels: np.stack([labels, labels], axis=-1),
    "not a number": lambda labels: np.where(labels == 1, np.nan, labels),
    "between labels": lambda labels: labels * 0.5,
    "too large": lambda labels: labels * 1e6,
    "complex": lambda labels: labels.astype(np.complex64),
}


@pytest.mark.parametrize("change", CHANGES)
def test_roi_volumes_that_hold_something_else_are_refused(root, change):
    labels = CHANGES[change](nib.load(kastner(root)).get_fdata(dtype=np.float32))
    nib.save(nib.Nifti1Image(labels, np.eye(4), dtype=labels.dtype), kastner(root))
    with pytest.raises(DataError, match=r"Kastner2015\.nii\.gz cannot be read as a volume of ROI labels"):
        voxels_of(root, "subj01")


@pytest.mark.parametrize("rois", [("V1", "V9"), ("V1", "FFA")])
def test_an_unknown_roi_is_named(original, rois):
    with pytest.raises(DataError, match=rois[1]):
        nsd_rois.read_voxels(original, "subj01", SPACE, rois)


def test_five_captions_an_image_in_order(original):
    coco_ids = nsd.read_coco_ids(original)
    texts = nsd.read_captions(original, coco_ids[[2, 0]], 5)
    pictures = miniature.draw_pictures(3, seed=0)
    assert texts == [pictures.texts[2], pictures.texts[0]]


def test_missing_captions_are_named(root):
    coco_ids = nsd.read_coco_ids(root)
    for name in nsd.CAPTIONS:
        content = json.loads((root / name).read_text())
        kept = [a for a in content["annotations"] if a["image_id"] != coco_ids[1]]
        (root / name).write_text(json.dumps({**content, "annotations": kept}))
    with pytest.raises(DataError, match=rf"1 images have fewer than 5 captions.*{coco_ids[1]}"):
        nsd.read_captions(root, coco_ids, 5)


OTHER_CAPTIONS = [
    b"[]",
    b'{"annotations": [1]}',
    b'{"annotations": [{"image_id": [1], "caption": "a"}]}',
    b'{"annotations": {"1": "a"}}',
    b'{"annotations": null}',
]


@pytest.mark.parametrize("how", ["half", "page", "empty", "zeros", *OTHER_CAPTIONS])
def test_broken_captions_are_named(root, how):
    path = root / nsd.CAPTIONS[0]
    path.write_bytes(how if isinstance(how, bytes) else broken(path, how))
    with pytest.raises(DataError, match=r"captions_train2017\.json cannot be read as COCO's captions"):
        nsd.read_captions(root, nsd.read_coco_ids(root), 5)


def test_captions_that_are_not_text_are_named(root):
    path = root / nsd.CAPTIONS[0]
    content = json.loads(path.read_text())
    content["annotations"][0]["caption"] = 7
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"captions_train2017\.json cannot be read as COCO's captions"):
        nsd.read_captions(root, nsd.read_coco_ids(root), 5)


def test_categories_are_those_of_the_objects_in_the_order_of_the_file(original):
    pictures, coco_ids = miniature.draw_pictures(8, seed=0), nsd.read_coco_ids(original)
    found = nsd.read_categories(original, coco_ids[[7, 2, 5]])
    assert found is not None
    for row, names in zip((7, 2, 5), found, strict=True):
        seen = zip(pictures.scenes[row].objects, pictures.visible[row], strict=True)
        kinds = {item.kind for item, mask in seen if mask.any()}
        assert names == [kind for kind in miniature.KINDS if kind in kinds]


def test_categories_are_none_where_there_are_no_instances_and_read_from_one_file_where_the_other_is_missing(root):
    coco_ids = nsd.read_coco_ids(root)
    complete = nsd.read_categories(root, coco_ids)
    (root / nsd.INSTANCES[1]).unlink()
    found = nsd.read_categories(root, coco_ids)
    assert all(names in ([], expected) for names, expected in zip(found, complete, strict=True))
    assert any(found)
    (root / nsd.INSTANCES[0]).unlink()
    assert nsd.read_categories(root, coco_ids) is None


OTHER_INSTANCES = [
    b'{"annotations": []}',
    b"[]",
    b'{"annotations": [1], "categories": []}',
    b'{"annotations": [{"image_id": 1, "category_id": 99}], "categories": []}',
]


@pytest.mark.parametrize("how", ["half", "page", "empty", *OTHER_INSTANCES])
def test_broken_instances_are_named(root, how):
    path = root / nsd.INSTANCES[0]
    path.write_bytes(how if isinstance(how, bytes) else broken(path, how))
    with pytest.raises(DataError, match=r"instances_train2017\.json cannot be read as COCO's instances"):
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


def write_design_73(path, design):
    """Write a design as MATLAB's version 7.3 does: HDF5 after a block of text, floats, axes the other way round."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in design.items():
            file.create_dataset(name, data=values.T.astype(np.float64))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def design_of(root):
    return {key: value for key, value in loadmat(root / nsd.DESIGN).items() if not key.startswith("__")}


def test_a_design_of_matlab_73_is_the_same(root):
    expected = nsd.read_design(root, "subj02")
    write_design_73(root / nsd.DESIGN, design_of(root))
    found = nsd.read_design(root, "subj02")
    np.testing.assert_array_equal(found.ordering, expected.ordering)
    np.testing.assert_array_equal(found.stimuli, expected.stimuli)
    assert found.n_shared == expected.n_shared


def test_an_unknown_subject_is_named(root):
    with pytest.raises(DataError, match="no subj03"):
        nsd.read_design(root, "subj03")


@pytest.mark.parametrize("version", [5, 7.3])
@pytest.mark.parametrize("how", ["half", *BROKEN])
def test_a_broken_design_is_named(root, version, how):
    if version == 7.3:
        write_design_73(root / nsd.DESIGN, design_of(root))
    (root / nsd.DESIGN).write_bytes(broken(root / nsd.DESIGN, how))
    with pytest.raises(DataError, match=r"nsd_expdesign\.mat cannot be read as NSD's experimental design"):
        nsd.read_design(root, "subj01")


OTHER_DESIGNS = {
    "masterordering": [lambda v: v + 0.5, lambda v: v.reshape(2, -1), lambda v: v[:, :0], lambda _: "text"],
    "subjectim": [lambda v: v[:, :3], lambda v: v[None], lambda v: np.where(v == v[0, 0], np.nan, v), lambda v: v * 1j],
    "sharedix": [lambda v: np.r_[v, v], lambda v: np.where(v == v[0, 0], np.inf, v), lambda _: {"a": 1}],
}


@pytest.mark.parametrize(("name", "number"), [(name, k) for name, v in OTHER_DESIGNS.items() for k in range(len(v))])
def test_a_design_with_other_values_is_refused(root, name, number):
    design = design_of(root)
    change = OTHER_DESIGNS[name][number]
    savemat(root / nsd.DESIGN, {**design, name: change(design[name].astype(float))})
    with pytest.raises(DataError, match=r"nsd_expdesign\.mat"):
        nsd.read_design(root, "subj01")


def test_a_stimulus_that_a_subject_saw_twice_is_refused(root):
    design = design_of(root)
    design["subjectim"][0, -1] = design["subjectim"][0, -2]
    savemat(root / nsd.DESIGN, design)
    with pytest.raises(DataError, match="twice in the list of subj01"):
        nsd.read_design(root, "subj01")


@pytest.mark.parametrize("how", ["half", *BROKEN])
def test_broken_stimuli_are_named(root, how):
    (root / nsd.STIMULI).write_bytes(broken(root / nsd.STIMULI, how))
    with pytest.raises(DataError, match=r"nsd_stimuli\.hdf5 cannot be read as NSD's stimuli"):
        nsd.Stimuli(root)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((5, 3, 8, 8), np.uint8),
        np.zeros((5, 8, 8), np.uint8),
        np.zeros((5, 8, 8, 3), np.float32),
        np.zeros((0, 8, 8, 3), np.uint8),
    ],
    ids=lambda images: f"{images.dtype} {images.shape}",
)
def test_stimuli_of_another_shape_or_type_are_refused(root, images):
    write_arrays(root / nsd.STIMULI, {"imgBrick": images}, {})
    with pytest.raises(DataError, match=r"nsd_stimuli\.hdf5 .*imgBrick is .*, not uint8 of \(n, height, width, 3\)"):
        nsd.Stimuli(root)


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_table_of_stimuli_is_named(root, how):
    (root / nsd.STIMULUS_INFO).write_bytes(BROKEN[how])
    with pytest.raises(DataError, match=r"nsd_stim_info_merged\.csv cannot be read as NSD's table of stimuli"):
        nsd.read_coco_ids(root)


def swap(column, value):
    def change(table):
        table[column] = table[column].astype(object)
        table.loc[3, column] = value
        return table

    return change


OTHER_TABLES = {
    "no column": (lambda table: table.drop(columns="cocoId"), "cannot be read .*cocoId"),
    "an nsd_id twice": (swap("nsdId", 4), r"disagree: 23 different ids in 24 rows, from 0 to 23, for 24 stimuli"),
    "a COCO id twice": (lambda table: swap("cocoId", table.loc[5, "cocoId"])(table), "23 different ids of COCO"),
    "a COCO id of 0": (swap("cocoId", 0), "ids of COCO"),
    "a gap": (swap("cocoId", None), "cannot be read .*cocoId has values that are not whole"),
    "text": (swap("cocoId", "page"), "cannot be read .*cocoId has no numbers"),
}


@pytest.mark.parametrize("name", OTHER_TABLES)
def test_a_table_of_stimuli_with_other_columns_is_refused(root, name):
    change, message = OTHER_TABLES[name]
    change(pd.read_csv(root / nsd.STIMULUS_INFO)).to_csv(root / nsd.STIMULUS_INFO)
    with pytest.raises(DataError, match=rf"nsd_stim_info_merged\.csv.*{message}"):
        nsd.read_coco_ids(root)


def test_letters_of_another_encoding_in_a_column_that_is_not_used_do_not_stop(root):
    expected, path = nsd.read_coco_ids(root), root / nsd.STIMULUS_INFO
    path.write_bytes(path.read_text().replace("train2017", "entraîné").encode("latin-1"))
    np.testing.assert_array_equal(nsd.read_coco_ids(root), expected)
    path.write_bytes(path.read_text("latin-1").encode("utf-16"))
    with pytest.raises(DataError, match=r"nsd_stim_info_merged\.csv cannot be read"):
        nsd.read_coco_ids(root)


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
