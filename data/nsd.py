"""Read the Natural Scenes Dataset from its own files; the only module that knows their names.

Sizes are read from the files, never assumed, so that the miniature is read by the same code. Ids are 0-based
everywhere in this project ("nsd_id" is a row of the 73,000 stimuli); NSD's design file counts from 1.

Reference: Allen et al. 2022, doi 10.1038/s41593-021-00962-x, and the NSD data manual.
"""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from scipy.io import loadmat

from minddiffuser.store import DataError, reading

STIMULI = Path("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5")
DESIGN = Path("nsddata/experiments/nsd/nsd_expdesign.mat")
STIMULUS_INFO = Path("nsddata/experiments/nsd/nsd_stim_info_merged.csv")
CAPTIONS = (Path("annotations/captions_train2017.json"), Path("annotations/captions_val2017.json"))
INSTANCES = (Path("annotations/instances_train2017.json"), Path("annotations/instances_val2017.json"))
BETA_SCALE = 300.0  # betas are stored as percent signal change times 300, in int16

# A session, or a trial of it, of which more than this share of the voxels is empty was not fetched or written to its
# end. NSD's files lack data in a few voxels at the edge of the volume, far below 1 %; a file that was only allocated
# lacks all voxels above some height, or all trials from some trial on. In a trial with data some 0.2 % of voxels are
# 0, or like their neighbour, by chance: a deviation of 1 % is stored as whole numbers with a deviation of 300.
EMPTY_SHARE = 0.1
_EMPTY_VOXELS = 10  # a trial in which fewer are empty has data: of some dozens of voxels chance empties one or two
_BLOCK = 2**26  # bytes of betas that are read at a time
_SESSION = "the betas of a session"

# Sizes of the func1pt8mm volumes (X, Y, Z), from NSD's technical notes, and numbers of voxels that MindDiffuser's
# authors had in V1 and in all 11 ROIs; a different release of the ROI volumes differs by up to 1 %.
VOLUMES = {"subj01": (81, 104, 83), "subj02": (82, 106, 84), "subj05": (79, 97, 78), "subj07": (78, 95, 81)}
KNOWN_VOXELS = {"subj01": {"V1": 2392, "all": 11694}}

# Labels of Kastner2015 (Wang et al. 2015); prf-visualrois uses the same 1 to 7.
ROI_LABELS: dict[str, tuple[int, ...]] = {
    "V1": (1, 2),
    "V2": (3, 4),
    "V3": (5, 6),
    "hV4": (7,),
    "VO": (8, 9),
    "PHC": (10, 11),
    "MST": (12,),
    "MT": (13,),
    "LO": (14, 15),
    "V3ab": (16, 17),
    "IPS": (18, 19, 20, 21, 22, 23),
}
# Labels of the volume `streams`, NSD's large regions.
STREAM_LABELS = {
    "early": 1, "midventral": 2, "midlateral": 3, "midparietal": 4, "ventral": 5, "lateral": 6, "parietal": 7,
}  # fmt: skip


def _require(path: Path, what: str) -> Path:
    if not path.is_file():
        raise DataError(
            f"{what} is missing: expected {path}. NSD is available to those who accept its terms at "
            "https://naturalscenesdataset.org (COCO's captions: https://cocodataset.org, annotations of 2017); "
            "set execution.nsd to its folder. The miniature is made by: python data/01_make_miniature.py"
        )
    return path


@dataclass(frozen=True)
class Design:
    """Which subject saw which stimulus in which trial.

    Attributes
    ----------
    ordering : array of shape (n_trials,)
        For each trial, in time, the row of the subject's own list (its "10k index").
    stimuli : array of shape (n_list,)
        For each row of the subject's list, the nsd_id; the first `n_shared` were shown to all subjects.
    n_shared : int
    """

    ordering: np.ndarray
    stimuli: np.ndarray
    n_shared: int


def read_design(root: Path, subject: str) -> Design:
    """Read the experimental design of one subject.

    Raises
    ------
    DataError
        The file is missing or broken, or it disagrees with itself or with the stimuli.
    """
    what = "NSD's experimental design"
    path = _require(root / DESIGN, what)
    names = ("masterordering", "subjectim", "sharedix")
    with reading(path, what):
        if h5py.is_hdf5(path):  # MATLAB's version 7.3, which has the axes the other way round
            with h5py.File(path, "r", locking=False) as file:
                table = {name: file[name][()].T for name in names}
        else:
            table = loadmat(path, variable_names=names)
        orders, lists, shares = (_whole_numbers(table[name], name) - 1 for name in names)
        for name, array in (("masterordering", orders), ("sharedix", shares)):
            if max(array.shape) != array.size:
                raise ValueError(f"{name} has shape {array.shape}, but should be one list")
        if lists.ndim != 2:
            raise ValueError(f"subjectim has shape {lists.shape}, but should have a row for each subject")
    ordering, shared, row = orders.ravel(), shares.ravel(), _subject_number(subject) - 1
    if row >= len(lists):
        raise DataError(f"{path} has {len(lists)} subjects; there is no {subject}")
    stimuli, n_shared = lists[row], len(shared)
    if not np.array_equal(np.sort(stimuli[:n_shared]), np.sort(shared)):
        raise DataError(
            f"{path}: the first {n_shared} stimuli of {subject} (subjectim) are not the shared ones (sharedix)"
        )
    if len(np.unique(stimuli)) != len(stimuli):
        raise DataError(f"{path}: a stimulus is twice in the list of {subject} (subjectim)")
    if ordering.min() < 0 or ordering.max() >= len(stimuli):
        raise DataError(
            f"{path}: masterordering runs from {ordering.min() + 1} to {ordering.max() + 1}, but {subject} has "
            f"{len(stimuli)} stimuli"
        )
    n_stimuli = Stimuli(root).n
    if stimuli.min() < 0 or stimuli.max() >= n_stimuli:
        raise DataError(
            f"{path} and {root / STIMULI} disagree: {subject} saw the numbers {stimuli.min() + 1} to "
            f"{stimuli.max() + 1} of {n_stimuli} stimuli"
        )
    return Design(ordering, stimuli, n_shared)


def _whole_numbers(values: Any, name: str) -> np.ndarray:
    """Take an array of whole numbers, which MATLAB stores as floats; raise ValueError if it is something else."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or not array.size:
        raise ValueError(f"{name} has no numbers")
    if not (np.isfinite(array) & (array == np.round(array)) & (np.abs(array) < 2**53)).all():
        raise ValueError(f"{name} has values that are not whole numbers")
    return array.astype(np.int64)


class Stimuli:
    """The stimuli, read on demand: imgBrick, (n, height, width, 3) uint8."""

    def __init__(self, root: Path) -> None:
        self.path = _require(root / STIMULI, "NSD's stimuli")
        with reading(self.path, "NSD's stimuli"), h5py.File(self.path, "r", locking=False) as file:
            shape, dtype = file["imgBrick"].shape, file["imgBrick"].dtype
            if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8 or not shape[0]:
                raise ValueError(f"imgBrick is {dtype} of shape {shape}, not uint8 of (n, height, width, 3)")
            self.n = shape[0]

    def read(self, nsd_ids: np.ndarray) -> np.ndarray:
        """Read the stimuli with these ids, in this order: (n, height, width, 3), uint8."""
        ids = np.asarray(nsd_ids)
        unique, inverse = np.unique(ids, return_inverse=True)  # h5py wants indices in increasing order
        with reading(self.path, "NSD's stimuli"), h5py.File(self.path, "r", locking=False) as file:
            return file["imgBrick"][unique][inverse]


def read_coco_ids(root: Path) -> np.ndarray:
    """COCO id of every stimulus: array of shape (n_stimuli,), indexed by nsd_id."""
    what = "NSD's table of stimuli"
    path = _require(root / STIMULUS_INFO, what)
    with reading(path, what):
        # The two columns are numbers; no letter elsewhere, in whatever encoding, is a reason to stop.
        table = pd.read_csv(path, usecols=["cocoId", "nsdId"], encoding_errors="replace")
        coco, own = (_whole_numbers(table[name], name) for name in ("cocoId", "nsdId"))
    n_stimuli = Stimuli(root).n
    if not np.array_equal(np.sort(own), np.arange(n_stimuli)):
        raise DataError(
            f"{path} and {root / STIMULI} disagree: {len(np.unique(own))} different ids in {len(own)} rows, from "
            f"{own.min()} to {own.max()}, for {n_stimuli} stimuli"
        )
    if coco.min() < 1 or len(np.unique(coco)) != n_stimuli:
        raise DataError(f"{path}: {len(np.unique(coco))} different ids of COCO for {n_stimuli} stimuli; fetch it again")
    return coco[np.argsort(own)]


def read_captions(root: Path, coco_ids: np.ndarray, n_captions: int) -> list[list[str]]:
    """First `n_captions` captions of each image, from COCO's training file or else its validation file.

    Raises
    ------
    DataError
        An image has fewer captions than that; the message lists the ids.
    """
    found: dict[int, list[str]] = {int(i): [] for i in coco_ids}
    for name in CAPTIONS:
        path = _require(root / name, "COCO's captions")
        with reading(path, "COCO's captions"):
            for annotation in json.loads(path.read_bytes())["annotations"]:
                if annotation["image_id"] in found:
                    found[annotation["image_id"]].append(annotation["caption"].strip())
    short = [i for i, texts in found.items() if len(texts) < n_captions]
    if short:
        raise DataError(
            f"{len(short)} images have fewer than {n_captions} captions in {root / CAPTIONS[0].parent}: COCO ids "
            f"{short[:10]}; complete the files or lower experiment.semantic.n_captions"
        )
    return [found[int(i)][:n_captions] for i in coco_ids]


def read_categories(root: Path, coco_ids: np.ndarray) -> list[list[str]] | None:
    """Names of the categories of the objects in each image, in COCO's order; None where COCO's instances are absent.

    Peak memory: about three times the larger file, which has 0.45 GB.

    Raises
    ------
    DataError
        A file is broken.
    """
    paths = [root / name for name in INSTANCES if (root / name).is_file()]
    if not paths:
        return None
    found: dict[int, set[int]] = {int(i): set() for i in coco_ids}
    names: dict[int, str] = {}
    for path in paths:
        with reading(path, "COCO's instances"):
            content = json.loads(path.read_bytes(), object_hook=_image_and_category)
            names |= {category["id"]: category["name"] for category in content["categories"]}
            for image, category in content["annotations"]:
                if category not in names:
                    raise ValueError(f"there is no category {category}")
                if image in found:
                    found[image].add(category)
    return [[name for key, name in names.items() if key in found[int(i)]] for i in coco_ids]


def _image_and_category(value: dict[str, Any]) -> Any:
    """Of an annotation keep what is needed, while the file is read: outlines would take gigabytes."""
    return (value["image_id"], value["category_id"]) if "category_id" in value else value


@dataclass(frozen=True)
class Voxels:
    """The voxels of a subject that are used, in column order.

    Attributes
    ----------
    index : array of shape (n_voxels,)
        Position in the C-order of the (X, Y, Z) volume.
    roi : array of shape (n_voxels,), str
    shape : tuple of three int
    affine : array of shape (4, 4)
    """

    index: np.ndarray
    roi: np.ndarray
    shape: tuple[int, int, int]
    affine: np.ndarray

    def count(self, chosen: np.ndarray) -> str:
        """Say how many voxels of which ROI are chosen by an array of bool: "3 of V1, 1 of LO"."""
        names = self.roi[chosen].tolist()
        return ", ".join(f"{names.count(name)} of {name}" for name in dict.fromkeys(names))


def read_voxels(root: Path, subject: str, space: str, rois: tuple[str, ...]) -> Voxels:
    """Find the voxels of the ROIs: Kastner2015, overwritten where prf-visualrois has a label.

    Columns are ordered by ROI, in the order asked for, and inside one in the C-order of the volume.
    """
    folder = root / "nsddata/ppdata" / subject / space / "roi"
    kastner, affine = _read_labels(folder / "Kastner2015.nii.gz")
    prf, _ = _read_labels(folder / "prf-visualrois.nii.gz")
    if prf.shape != kastner.shape:
        raise DataError(f"{folder}: prf-visualrois has shape {prf.shape}, but Kastner2015 {kastner.shape}")
    joined = np.where(prf > 0, prf, kastner).ravel()
    unknown = set(rois) - set(ROI_LABELS)
    if unknown:
        raise DataError(f"experiment.data.rois: unknown {sorted(unknown)}; known are {', '.join(ROI_LABELS)}")
    columns = [np.flatnonzero(np.isin(joined, ROI_LABELS[roi])) for roi in rois]
    empty = [roi for roi, column in zip(rois, columns, strict=True) if not len(column)]
    if empty:
        raise DataError(f"{folder} has no voxel of {', '.join(empty)}; leave them out of experiment.data.rois")
    names = np.repeat(np.array(rois), [len(column) for column in columns])
    return Voxels(np.concatenate(columns), names, kastner.shape, affine)


def read_streams(root: Path, subject: str, space: str, streams: tuple[str, ...]) -> Voxels:
    """Find the voxels of NSD's streams, ordered as asked for, and inside one in the C-order of the volume."""
    path = root / "nsddata/ppdata" / subject / space / "roi" / "streams.nii.gz"
    labels, affine = _read_labels(path)
    columns = [np.flatnonzero(labels.ravel() == STREAM_LABELS[stream]) for stream in streams]
    if empty := [stream for stream, column in zip(streams, columns, strict=True) if not len(column)]:
        raise DataError(f"{path} has no voxel of {', '.join(empty)}")
    names = np.repeat(np.array(streams), [len(column) for column in columns])
    return Voxels(np.concatenate(columns), names, labels.shape, affine)


def _read_labels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    what = "a volume of ROI labels"
    with _open_nifti(_require(path, what), what) as image:
        values = np.asarray(image.dataobj)
        if values.ndim != 3 or values.dtype.kind not in "iuf" or not values.size:
            raise ValueError(f"it is {values.dtype} of shape {values.shape}, not numbers of (X, Y, Z)")
        labels = np.round(values)
        if not (np.isfinite(labels) & (np.abs(values - labels) < 1e-3) & (np.abs(labels) < 2**15)).all():
            raise ValueError("its values are not whole numbers")
        return labels.astype(np.int16), image.affine


@contextmanager
def _open_nifti(path: Path, what: str, to_its_end: bool = True) -> Iterator[Any]:
    """Open a .nii.gz file as a nibabel image that is decompressed once, as long as slices are taken in order."""
    with reading(path, what):
        kind: Any = type(nib.load(path))  # looks at the header only
        with gzip.open(path) as stream:
            yield kind.from_stream(stream)
            while to_its_end and stream.read(2**20):  # where gzip's checksum is
                pass


def session_path(root: Path, subject: str, space: str, betas: str, session: int) -> Path:
    """Find the beta file of a session (counted from 1): .hdf5 or, where that is absent, .nii.gz."""
    stem = root / "nsddata_betas/ppdata" / subject / space / betas / f"betas_session{session:02d}"
    paths = [stem.with_name(f"{stem.name}{suffix}") for suffix in (".hdf5", ".nii.gz")]
    return next((path for path in paths if path.is_file()), None) or _require(paths[0], f"session {session}")


def check_session(path: Path, shape: tuple[int, int, int]) -> int:
    """Count the trials in a session's beta file, whose volumes must have the shape (X, Y, Z); reads its header only."""
    if path.suffix == ".hdf5":
        with _open_hdf5(path) as dataset:
            found, dtype = tuple(reversed(dataset.shape)), dataset.dtype
    else:
        with reading(path, _SESSION):
            image: Any = nib.load(path)
            found, dtype = image.shape, image.get_data_dtype()
    if len(found) != 4 or dtype.kind not in "iuf" or not found[3]:
        raise DataError(f"{path} has betas of {dtype} and shape {found}, not numbers of (X, Y, Z, trials)")
    if found[:3] != shape:
        raise DataError(f"{path} has volumes of {found[:3]} voxels, but the ROI volumes have {shape}")
    return found[3]


def read_session(path: Path, voxels: Voxels) -> np.ndarray:
    """Read the betas of one session: (n_trials, n_voxels), float32, percent signal change.

    Each chunk of an HDF5 file that has a wanted voxel is read once, and a .nii.gz is decompressed once. Peak memory:
    the result, half as much again for HDF5, and 64 MB or one chunk or volume, whichever is larger.
    """
    n_trials = check_session(path, voxels.shape)
    if path.suffix == ".hdf5":
        with _open_hdf5(path) as dataset:
            return _read_boxes(dataset, voxels, 0, n_trials)
    with _open_nifti(path, _SESSION) as image:
        return _read_volumes(image, voxels, n_trials)


def try_session(path: Path, voxels: Voxels, n_voxels: int = 64) -> None:
    """Read a little of a session; raise DataError if it cannot be read, or has no data.

    Of HDF5 in long chunks these are some voxels from the bottom of the volume to its top, in all trials; otherwise the
    first and the last trial, and of a .nii.gz, which would have to be decompressed to its end, the first two.
    """
    n_trials = check_session(path, voxels.shape)
    trials = np.arange(n_trials)
    if path.suffix != ".hdf5":
        trials = trials[:2]
        with _open_nifti(path, _SESSION, to_its_end=False) as image:
            betas = _read_volumes(image, voxels, len(trials))
    else:
        with _open_hdf5(path) as dataset:
            per_trial, *box = dataset.chunks or (1, *dataset.shape[1:])
            if n_voxels * n_trials * np.prod(box) < 2 * per_trial * np.prod(voxels.shape):
                upwards = np.argsort(np.unravel_index(voxels.index, voxels.shape)[2], kind="stable")
                some = upwards[np.unique(np.linspace(0, len(upwards) - 1, n_voxels).astype(int))]
                voxels = Voxels(voxels.index[some], voxels.roi[some], voxels.shape, voxels.affine)
                betas = _read_boxes(dataset, voxels, 0, n_trials)
            else:
                trials = np.unique(trials[[0, -1]])
                betas = np.concatenate([_read_boxes(dataset, voxels, t, t + 1) for t in trials.tolist()])
    find_empty(betas, voxels, path, "zero", trials)


@contextmanager
def _open_hdf5(path: Path) -> Iterator[h5py.Dataset]:
    """Open the betas of an HDF5 file: written by MATLAB, they are seen as (trials, Z, Y, X)."""
    with reading(path, _SESSION), h5py.File(path, "r", locking=False) as file:
        yield file["betas"]


def _read_boxes(dataset: h5py.Dataset, voxels: Voxels, start: int, stop: int) -> np.ndarray:
    """Read trials `start` to `stop`: (n_trials, n_voxels), float32, percent signal change.

    NSD's files have a chunk for each voxel, so that a volume touches 700,000 of them; others have chunks of volumes, or
    none. From each chunk that has wanted voxels the smallest box around these is read, in as many trials as fit.
    """
    per_trial, *sides = dataset.chunks or (1, *dataset.shape[1:])
    place = np.stack(np.unravel_index(voxels.index, voxels.shape)[::-1])  # (3, n_voxels): z, y, x
    chunk = place // np.array(sides)[:, None]
    order = np.lexsort((*place[::-1], *chunk[::-1]))
    place, chunk = place[:, order], chunk[:, order]
    first = np.flatnonzero(np.r_[True, (chunk[:, 1:] != chunk[:, :-1]).any(axis=0)])  # voxel of each chunk
    end = np.r_[first[1:], len(order)]
    low, high = np.minimum.reduceat(place, first, axis=1), np.maximum.reduceat(place, first, axis=1) + 1
    (z, y, x), (_, height, width) = place - np.repeat(low, end - first, 1), np.repeat(high - low, end - first, 1)
    within = (z * height + y) * width + x  # position in its box
    fit = _BLOCK // ((high - low).prod(axis=0) * dataset.dtype.itemsize) // per_trial * per_trial
    step = np.clip(fit, per_trial, stop - start)
    values = np.empty((len(order), stop - start), dataset.dtype)
    for (z0, y0, x0), (z1, y1, x1), a, b, n in zip(*(v.T.tolist() for v in (low, high, first, end, step)), strict=True):
        for t in range(start, stop, n):
            box = dataset[t : min(t + n, stop), z0:z1, y0:y1, x0:x1]
            box = box.reshape(len(box), -1).T
            values[a:b, t - start : t - start + n] = box if len(box) == b - a else box[within[a:b]]
    betas, back = np.empty(values.shape[::-1], np.float32), np.argsort(order)
    for first_column in range(0, len(back), 256):  # few enough for the processor's cache
        columns = slice(first_column, first_column + 256)
        np.divide(values[back[columns]].T, np.float32(BETA_SCALE), out=betas[:, columns], casting="same_kind")
    return betas


def _read_volumes(image: Any, voxels: Voxels, n_trials: int) -> np.ndarray:
    """Read the first trials of a NIfTI image of (X, Y, Z, trials): (n_trials, n_voxels), percent signal change."""
    index = np.ravel_multi_index(np.unravel_index(voxels.index, voxels.shape), voxels.shape, order="F")
    step = max(_BLOCK // (int(np.prod(voxels.shape)) * image.get_data_dtype().itemsize), 1)
    betas = np.empty((n_trials, len(index)), np.float32)
    for start in range(0, n_trials, step):
        block = np.asarray(image.dataobj[..., start : min(start + step, n_trials)])  # in the file's order, X first
        betas[start : start + step] = block.reshape(-1, block.shape[3], order="F").T[:, index]
    betas /= np.float32(BETA_SCALE)
    return betas


def find_empty(
    betas: np.ndarray, voxels: Voxels, path: Path, invalid: str, trials: np.ndarray | None = None
) -> np.ndarray:
    """Find the voxels without data: constant over the trials of a session, or not finite in one of them.

    Parameters
    ----------
    betas : array of shape (n_trials, n_voxels)
    voxels : Voxels
    path : Path
        Where they are from.
    invalid : "error" or "zero"
        Whether such a voxel stops the run.
    trials : array of shape (n_trials,)
        Which trials of the file these are, counted from 0; by default all.

    Returns
    -------
    array of shape (n_voxels,), bool

    Raises
    ------
    DataError
        There are such voxels, and `invalid` is "error". Or they are more than `EMPTY_SHARE` of the voxels: the file has
        no data. Or a trial has no data: more than `EMPTY_SHARE` of the voxels that have some are not finite, 0, or like
        the voxel before.
    """
    finite = np.isfinite(betas)
    constant = ~(np.fmax.reduce(betas, axis=0) > np.fmin.reduce(betas, axis=0))  # of what is a number
    _stop_if_file_is_empty(constant, voxels, path)
    missing = (betas == 0) | ~finite
    missing[:, 1:] |= betas[:, 1:] == betas[:, :-1]
    n_missing, n_used = (missing & ~constant).sum(axis=1), int((~constant).sum())
    empty_trials = np.flatnonzero((n_missing > EMPTY_SHARE * n_used) & (n_missing >= min(_EMPTY_VOXELS, n_used)))
    if len(empty_trials):
        numbers = (np.arange(len(betas)) if trials is None else trials)[empty_trials] + 1
        listed = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
        raise DataError(
            f"{path} has no data in {len(numbers)} of {len(betas)} trials that were read ({listed}, counted from 1): "
            f"up to {n_missing.max()} of {n_used} voxels are not a number, 0, or like their neighbour; fetch the file "
            "again, or use only the sessions before it (experiment.data.sessions)"
        )
    empty = constant | ~finite.all(axis=0)
    _stop_if_file_is_empty(empty, voxels, path)
    if empty.any() and invalid == "error":
        raise DataError(
            f"{path}: {empty.sum()} voxels are constant or not a number ({voxels.count(empty)}); fetch the file again, "
            "or set experiment.data.invalid_voxels=zero to use their mean"
        )
    return empty


def _stop_if_file_is_empty(empty: np.ndarray, voxels: Voxels, path: Path) -> None:
    if empty.mean() > EMPTY_SHARE:
        raise DataError(
            f"{path} has no data in {empty.sum()} of {len(empty)} voxels that were read ({voxels.count(empty)}), which "
            "are constant or not a number: it was not fetched or written to its end; fetch the file again, or use only "
            "the sessions before it (experiment.data.sessions), or ROIs that it has (experiment.data.rois)"
        )


def standardise_session(betas: np.ndarray, voxels: Voxels, path: Path, invalid: str) -> np.ndarray:
    """Scale each voxel to mean 0 and deviation 1 over the trials of a session.

    Parameters
    ----------
    betas : array of shape (n_trials, n_voxels)
    voxels : Voxels
    path : Path
        Where they are from.
    invalid : "error" or "zero"
        What to do with voxels without data (`find_empty`): stop, or let them be 0 in all trials, their mean (as
        styvesg's loader, which the authors used, does). No other voxel is 0 in all trials.
    """
    empty = find_empty(betas, voxels, path, invalid)
    scaled = np.zeros(betas.shape, np.float32)
    for start in range(0, betas.shape[1], 256):  # few enough in float64 for the processor's cache
        columns = slice(start, start + 256)
        part = betas[:, columns].astype(np.float64)
        part[:, empty[columns]] = 0
        part -= part.mean(axis=0)
        part /= np.sqrt((part**2).mean(axis=0)) + 1e-6
        scaled[:, columns] = part
    return scaled


def noise_ceiling(mean: np.ndarray, n_repetitions: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Noise ceiling of each voxel with three trials, in percent of variance (NSD data manual).

    The noise variance is what repetitions of one image differ by; the signal variance is the rest;
    ceiling = 100 * s / (s + 1/3) with s = signal variance / noise variance.

    Parameters
    ----------
    mean : array of shape (n_images, n_voxels)
        Mean over the repetitions of an image of session-wise z-scores.
    n_repetitions : array of shape (n_images,)
    squares : array of shape (n_voxels,)
        Sum over all trials of the squared z-scores.
    """
    n_trials, n_images = n_repetitions.sum(), len(n_repetitions)
    if n_trials == n_images:
        return np.full(mean.shape[1], np.nan)  # no image was repeated
    weights = n_repetitions.astype(np.float64)
    noise = (squares - np.einsum("i,ij,ij->j", weights, mean, mean)) / (n_trials - n_images)
    variance = squares / n_trials - (np.einsum("i,ij->j", weights, mean) / n_trials) ** 2
    ratio = np.maximum(variance - noise, 0) / np.maximum(noise, 1e-12)
    return 100 * ratio / (ratio + 1 / 3)


def _subject_number(subject: str) -> int:
    number = subject.removeprefix("subj")
    if not number.isdigit() or int(number) < 1:
        raise DataError(f"subjects are named subj01, subj02, ..., not {subject!r}")
    return int(number)
