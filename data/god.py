"""Read the Generic Object Decoding dataset from its own files; the only module that knows their format.

Five subjects saw 1,200 training images of 150 categories once (24 runs of 50 trials), 50 test images of 50 other
categories 35 times (35 runs of 50), and imagined those 50 categories 10 times (20 runs of 25). Numbers of trials, runs
and repetitions are read from the files, never assumed, so that the miniature is read by the same code.

A folder holds `Subject1.h5` (or the same as `Subject1.mat`), `imageID_training.csv` and `imageID_test.csv`. A subject
is called what its file is called. Values are one row a trial, motion-corrected (SPM), averaged over the trial's
volumes, in units like percent signal change, and not standardised.

Reference: Horikawa & Kamitani 2017, doi 10.1038/ncomms15037; the file layout is that of bdpy's BData
(https://github.com/KamitaniLab/bdpy).
"""

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data.bdata import find_column, read_bdata
from minddiffuser.store import DataError, reading

TRAINING, PERCEPTION, IMAGERY = 1, 2, 3  # values of the column DataType
TYPE_NAMES = {TRAINING: "training", PERCEPTION: "perception test", IMAGERY: "imagery test"}
TRAINING_IMAGES, TEST_IMAGES = "imageID_training.csv", "imageID_test.csv"
N_TRIALS = 1200 + 1750 + 500  # of a subject of the real experiment

# Voxels in ROI_VC. What is read here is the release preprocessed with SPM. The one preprocessed with fMRIPrep has
# other voxels, and files of other names (Subject1_ImageNetTraining.h5 ...).
SPM_VOXELS = {"Subject1": 4466, "Subject2": 4404, "Subject3": 4643, "Subject4": 4133, "Subject5": 4370}
UNCONFIRMED = ("Subject2", "Subject4")  # counts of SPM_VOXELS for which there is no source
FMRIPREP_VOXELS = {"Subject1": 3444, "Subject2": 4979, "Subject3": 5355, "Subject4": 4656, "Subject5": 6237}

_WHERE = "download it from https://figshare.com/articles/dataset/Generic_Object_Decoding/7387130 (Subject1.h5 ...)"
_WHERE_IMAGES = "it is in the folder data of https://github.com/KamitaniLab/GenericObjectDecoding"


@dataclass(frozen=True)
class Images:
    """A list of images, in the order of its file.

    Attributes
    ----------
    ids : array of shape (n_images,), int64
        WordNet offset times 10**6 plus number of the image: 1518878010042 is n01518878_10042.
    names : tuple of str
        File names, such as n01518878_10042.JPEG.
    wnids : tuple of str
        WordNet ids of the categories, such as n01518878.
    """

    ids: np.ndarray
    names: tuple[str, ...]
    wnids: tuple[str, ...]


@dataclass(frozen=True)
class Recording:
    """The trials of one subject, in the order of the file: the order of presentation.

    Attributes
    ----------
    X : array of shape (n_trials, n_voxels), float64
        Voxels of one ROI, not standardised.
    data_type : array of shape (n_trials,), int64
        TRAINING, PERCEPTION or IMAGERY.
    run : array of shape (n_trials,), int64
        From 1, inside each data type.
    image : array of shape (n_trials,), int64
        Row of the trial's image in `training_images`, or, for both kinds of test, in `test_images`.
    training_images, test_images : Images
    rois : dict of str to array of shape (n_voxels,), bool
        For each ROI of the file, which of these voxels belong to it. ROIs overlap.
    release : "SPM" or "unknown"
        What the number of voxels in ROI_VC says; the miniature is unknown.
    """

    X: np.ndarray
    data_type: np.ndarray
    run: np.ndarray
    image: np.ndarray
    training_images: Images
    test_images: Images
    rois: dict[str, np.ndarray]
    release: str


def fingerprint(folder: Path, subject: str) -> str:
    """Hash a subject's recording and the lists of images, so that what is made of them knows when they change."""
    digest = hashlib.sha256()
    for path in (_recording(folder, subject), folder / TRAINING_IMAGES, folder / TEST_IMAGES):
        if path.is_file():  # read_subject tells what is missing
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def read_subject(folder: Path, subject: str, roi: str = "ROI_VC") -> Recording:
    """Read the trials of one subject, each joined with its image by the image's id.

    Columns are found by their metadata keys. `category_index` and `image_index` are not used: they were wrong in
    releases before July 2020. Where there is no `stimulus_id`, as in old releases, `Label` is the column of ids.
    Peak memory: twice the file, which has 124 MB.

    Parameters
    ----------
    folder : Path
        Where `Subject1.h5` or `Subject1.mat` and the two lists of images are.
    subject : str
        Name of the file without its suffix.
    roi : str
        Whose voxels to read: ROI_VC (all visual cortex), ROI_LVC, ROI_HVC, ROI_V1, ... ROI_V4, ROI_LOC, ROI_FFA or
        ROI_PPA.

    Raises
    ------
    DataError
        A file is missing, broken, of another release or another subject; a key is missing or marks the wrong columns;
        the ROI is unknown; trials, or most voxels, have no data; images of the trials are not those of the lists.

    Warns
    -----
    UserWarning
        The file has the trials of the real experiment, but a number of voxels that is not known; some voxels have no
        data, and are 0; runs do not count from 1 inside each data type, which only one way of scaling needs.
    """
    path = _recording(folder, subject)
    data, metadata = read_bdata(path, _WHERE)
    release = _check_release(path, subject, metadata, len(data))
    known = [key for key in metadata if key.startswith("ROI_")]
    if roi not in known:
        raise DataError(f"{path} has no ROI {roi}; known are {', '.join(known) or 'none'}")
    columns = metadata[roi] == 1
    if not columns.any() or (columns & (metadata.get("VoxelData", metadata[roi]) != 1)).any():
        raise DataError(f"{path}: {roi} marks no column, or one that is not of VoxelData", _WHERE, path)
    id_key = "stimulus_id" if "stimulus_id" in metadata else "Label"
    data_type, run, ids = (find_column(path, data, metadata, key, _WHERE) for key in ("DataType", "Run", id_key))
    data_type, run = _as_whole(path, "DataType", data_type), _as_whole(path, "Run", run)
    X, rois = data[:, columns], {key: metadata[key][columns] == 1 for key in known}
    for kind in (TRAINING, PERCEPTION):
        if kind not in data_type:
            raise DataError(f"{path} has no {TYPE_NAMES[kind]} trials (DataType {kind})", _WHERE, path)
    _zero_empty_voxels(path, X, rois, roi)
    if unusual := unusual_runs(data_type, run):
        warnings.warn(f"{path}: {unusual}", stacklevel=2)
    training_images, test_images = read_images(folder / TRAINING_IMAGES), read_images(folder / TEST_IMAGES)
    image = np.empty(len(X), np.int64)
    for kind in TYPE_NAMES:
        images, name = (training_images, TRAINING_IMAGES) if kind == TRAINING else (test_images, TEST_IMAGES)
        rows = data_type == kind
        if rows.any():
            image[rows] = _join(f"{path}, {id_key} of {TYPE_NAMES[kind]}", ids[rows], images, folder / name)
    return Recording(X, data_type, run, image, training_images, test_images, rois, release)


def read_images(path: Path) -> Images:
    """Read a list of images: lines such as `1518878.010042,"n01518878_10042.JPEG"`, without a header.

    Raises
    ------
    DataError
        The file is missing; a line is something else, or its id is not that of its file name; an image is there twice.
    """
    if not path.is_file():
        raise DataError(f"a list of images is missing: expected {path}", _WHERE_IMAGES, path)
    keys, names, wnids = [], [], []
    with reading(path, "a list of images", _WHERE_IMAGES):
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            found = re.fullmatch(r'(\d+\.\d{1,6}),("?)((n\d{8})_(\d{1,6})\.\w+)\2', line.strip())
            key = int(found[4][1:]) * 10**6 + int(found[5]) if found else -1
            if found is None or round(float(found[1]) * 1e6) != key:
                raise ValueError(
                    f"line {number}, {line[:80]!r}, is not an id and the file name of that id, such as "
                    '1518878.010042,"n01518878_10042.JPEG"'
                )
            keys.append(key)
            names.append(found[3])
            wnids.append(found[4])
    ids = np.array(keys, np.int64)
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) != len(ids) or not len(ids):
        text = f"{path} is empty, or has images more than once: {_list(unique[counts > 1])}"
        raise DataError(text, _WHERE_IMAGES, path)
    return Images(ids, tuple(names), tuple(wnids))


def read_pictures(folder: Path, names: Sequence[str]) -> np.ndarray:
    """Read stimuli, which are squares of 500 pixels, from `images/training` or `images/test` of the dataset's folder.

    Returns
    -------
    array of shape (n_images, height, width, 3), uint8

    Raises
    ------
    DataError
        Pictures are missing, unreadable, or of different sizes; the message lists them.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        some = ", ".join(missing[:10])
        raise DataError(
            f"{folder} lacks {len(missing)} of {len(names)} stimuli: {some}{' ...' if missing[10:] else ''}",
            "their authors give them on request",
            folder,
        )
    pictures = []
    for name in names:
        with reading(folder / name, "a picture"), Image.open(folder / name) as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    if len(sizes := {picture.shape for picture in pictures}) > 1:
        raise DataError(f"pictures in {folder} differ in size: {sorted(sizes)}")
    return np.stack(pictures)


def picture_key(name: str) -> int:
    """Make an integer of the name of a picture, as ImageNet has it: n01518878_10042.JPEG becomes 1518878010042.

    The suffix may be left out.

    Raises
    ------
    DataError
        The name is another one.
    """
    found = re.fullmatch(r"n(\d{8})_(\d{1,6})(\.\w+)?", name)
    if found is None:
        raise DataError(f"{name} is not named as ImageNet's pictures are, such as n01518878_10042.JPEG")
    return int(found[1]) * 10**6 + int(found[2])


def image_keys(ids: np.ndarray) -> np.ndarray:
    """Make integers of ids that are stored as numbers: 1518878.010042 becomes 1518878010042.

    The part before the point is the WordNet offset, the six digits after it are the number of the image. What is
    not within .01 of an integer, more than float64 can be off by, is no id.

    Parameters
    ----------
    ids : array, float64

    Returns
    -------
    array of the same shape, int64

    Raises
    ------
    ValueError
        A number is no id; the message lists them.
    """
    scaled = np.asarray(ids, np.float64) * 1e6
    wrong = ~np.isfinite(scaled) | (scaled < 0) | (scaled >= 1e14)
    wrong |= np.abs(np.where(wrong, 0, scaled) - np.round(np.where(wrong, 0, scaled))) > 0.01
    if wrong.any():
        found = np.unique(np.asarray(ids)[wrong])
        raise ValueError(f"{wrong.sum()} numbers are no ids of images: {', '.join(map(repr, found[:10].tolist()))}")
    return np.round(scaled).astype(np.int64)


def unusual_runs(data_type: np.ndarray, run: np.ndarray) -> str:
    """Say which data type's runs are not numbered from 1, as the dataset's are; nothing where all are."""
    for kind, name in TYPE_NAMES.items():
        runs = np.unique(run[data_type == kind])
        if not np.array_equal(runs, np.arange(1, len(runs) + 1)):
            return (
                f"runs of the {name} trials are numbered {_span(runs)}, not from 1 as in the dataset, where Run starts "
                "again in each data type"
            )
    return ""


def _recording(folder: Path, subject: str) -> Path:
    path = folder / f"{subject}.h5"
    return path.with_suffix(".mat") if not path.is_file() and path.with_suffix(".mat").is_file() else path


def _as_whole(path: Path, key: str, column: np.ndarray) -> np.ndarray:
    largest = max(TYPE_NAMES) if key == "DataType" else len(column)  # there are no more runs than trials
    wrong = ~((column >= 1) & (column <= largest) & (column == np.round(column)))
    if wrong.any():
        text = f"{path}: {key} has {np.unique(column[wrong])[:10].tolist()} in {wrong.sum()} trials"
        raise DataError(text, _WHERE, path)
    return column.astype(np.int64)


def _check_release(path: Path, subject: str, metadata: Mapping[str, np.ndarray], n_trials: int) -> str:
    n_voxels = int((metadata.get("ROI_VC", np.zeros(0)) == 1).sum())
    if n_voxels == SPM_VOXELS.get(subject):
        return "SPM"
    tables = (("fMRIPrep", FMRIPREP_VOXELS), ("SPM", SPM_VOXELS))
    match = next(((r, name) for r, table in tables for name, n in table.items() if n == n_voxels), None)
    seen = f"{path} has {n_voxels} voxels in ROI_VC"
    expected = f"{SPM_VOXELS.get(subject, 'an unknown number')} of {subject} in the release preprocessed with SPM"
    if subject in UNCONFIRMED:
        expected += " (a number without a source)"
    if match and not (match[0] == "SPM" and match[1] in UNCONFIRMED):
        raise DataError(f"{seen}, as {match[1]} in the {match[0]} release, not {expected}", _WHERE, path)
    if n_trials == N_TRIALS:
        also = f", as {match[1]} in the SPM release (a number without a source)" if match else ""
        warnings.warn(f"{seen}{also}, not {expected}: check where it is from; {_WHERE}", stacklevel=3)
    return "unknown"


def _zero_empty_voxels(path: Path, X: np.ndarray, rois: Mapping[str, np.ndarray], roi: str) -> None:
    """Set voxels without data to 0, in place, and say so; a trial, or a recording, without data is refused.

    A voxel has no data if it is the same in all trials, or not a number in some; a trial has none if most of the other
    voxels are 0 or not a number in it, or all are the same; a recording, if most of its voxels have none.
    """
    n_voxels, finite = X.shape[1], np.isfinite(X)
    X[~finite] = 0
    empty = np.ptp(X, axis=0) == 0
    n_others = n_voxels - empty.sum()
    if n_others:
        lowest = X.min(axis=1, where=~empty, initial=np.inf)
        bad = 2 * (X == 0).sum(axis=1, where=~empty) > n_others
        bad |= (n_others > 1) & (lowest == X.max(axis=1, where=~empty, initial=-np.inf))
        if bad.any():
            raise DataError(
                f"{path}: {bad.sum()} of {len(X)} trials have no data in {roi}: in most voxels they are 0, not a "
                f"number, or all the same; rows {np.flatnonzero(bad)[:10].tolist()}, counted from 0",
                _WHERE,
                path,
            )
    empty |= ~finite.all(axis=0)
    if 2 * empty.sum() > n_voxels:
        raise DataError(f"{path} has no data in {empty.sum()} of {n_voxels} voxels of {roi}", _WHERE, path)
    if empty.any():
        counts = ", ".join(f"{mask[empty].sum()} in {name}" for name, mask in rois.items() if mask[empty].any())
        said = "have no data (the same in all trials, or not a number in some) and are set to 0"
        warnings.warn(f"{path}: {empty.sum()} of {n_voxels} voxels of {roi} {said}: {counts}", stacklevel=3)
    X[:, empty] = 0


def _span(runs: np.ndarray) -> str:
    return ", ".join(map(str, runs)) if len(runs) < 12 else f"{runs[0]} ... {runs[-1]} ({len(runs)} of them)"


def _join(what: str, ids: np.ndarray, images: Images, list_path: Path) -> np.ndarray:
    """Find the row of each trial's image in the list: (n_trials,)."""
    try:
        keys = image_keys(ids)
    except ValueError as error:
        raise DataError(f"{what}: {error}", _WHERE, list_path) from error
    unknown, unseen = np.setdiff1d(keys, images.ids), np.setdiff1d(images.ids, keys)
    if len(unknown) or len(unseen):
        raise DataError(
            f"{what}, and {list_path} are of different images: {len(unknown)} only in the recording"
            f"{_list(unknown, ': ')}; {len(unseen)} only in the list{_list(unseen, ': ')}",
            "fetch both again",
            list_path,
        )
    order = np.argsort(images.ids)
    return order[np.searchsorted(images.ids, keys, sorter=order)]


def _list(keys: np.ndarray, before: str = "") -> str:
    """Name the first ten images."""
    if not len(keys):
        return ""
    names = ", ".join(f"n{key // 10**6:08d}_{key % 10**6}" for key in keys[:10].tolist())
    return f"{before}{names}{' ...' if len(keys) > 10 else ''}"
