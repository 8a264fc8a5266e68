"""Read the Natural Scenes Dataset from its own files; the only module that knows their names.

Sizes are read from the files, never assumed, so that the miniature is read by the same code. Ids are 0-based
everywhere in this project ("nsd_id" is a row of the 73,000 stimuli); NSD's design file counts from 1.

Reference: Allen et al. 2022, doi 10.1038/s41593-021-00962-x, and the NSD data manual.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.filebasedimages import ImageFileError
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from minddiffuser.store import DataError

STIMULI = Path("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5")
DESIGN = Path("nsddata/experiments/nsd/nsd_expdesign.mat")
STIMULUS_INFO = Path("nsddata/experiments/nsd/nsd_stim_info_merged.csv")
CAPTIONS = (Path("annotations/captions_train2017.json"), Path("annotations/captions_val2017.json"))
INSTANCES = (Path("annotations/instances_train2017.json"), Path("annotations/instances_val2017.json"))
BETA_SCALE = 300.0  # betas are stored as percent signal change times 300, in int16

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
    path = _require(root / DESIGN, "NSD's experimental design")
    try:
        table = loadmat(path)
        ordering = table["masterordering"].ravel().astype(np.int64) - 1
        lists, shared = table["subjectim"].astype(np.int64) - 1, table["sharedix"].ravel().astype(np.int64) - 1
    except (KeyError, ValueError, OSError, zlib.error, MatReadError) as error:
        raise DataError(f"{path} cannot be read as NSD's experimental design: {error!r}") from error
    row = _subject_number(subject) - 1
    if row >= len(lists):
        raise DataError(f"{path} has {len(lists)} subjects; there is no {subject}")
    stimuli, n_shared = lists[row], len(shared)
    if not np.array_equal(np.sort(stimuli[:n_shared]), np.sort(shared)):
        raise DataError(
            f"{path}: the first {n_shared} stimuli of {subject} (subjectim) are not the shared ones (sharedix)"
        )
    if ordering.min() < 0 or ordering.max() >= len(stimuli):
        raise DataError(
            f"{path}: masterordering goes to {ordering.max() + 1}, but {subject} has {len(stimuli)} stimuli"
        )
    n_stimuli = Stimuli(root).n
    if stimuli.min() < 0 or stimuli.max() >= n_stimuli:
        raise DataError(
            f"{path} and {root / STIMULI} disagree: {subject} saw number {stimuli.max() + 1} of {n_stimuli} stimuli"
        )
    return Design(ordering, stimuli, n_shared)


class Stimuli:
    """The stimuli, read on demand: imgBrick, (n, height, width, 3) uint8."""

    def __init__(self, root: Path) -> None:
        self.path = _require(root / STIMULI, "NSD's stimuli")
        try:
            with h5py.File(self.path, "r", locking=False) as file:
                self.n = len(file["imgBrick"])
        except (OSError, KeyError) as error:
            raise DataError(f"{self.path} is truncated or has no imgBrick: {error}") from error

    def read(self, nsd_ids: np.ndarray) -> np.ndarray:
        """Read the stimuli with these ids, in this order: (n, height, width, 3), uint8."""
        ids = np.asarray(nsd_ids)
        unique, inverse = np.unique(ids, return_inverse=True)  # h5py wants indices in increasing order
        with h5py.File(self.path, "r", locking=False) as file:
            return file["imgBrick"][unique][inverse]


def read_coco_ids(root: Path) -> np.ndarray:
    """COCO id of every stimulus: array of shape (n_stimuli,), indexed by nsd_id."""
    path = _require(root / STIMULUS_INFO, "NSD's table of stimuli")
    try:
        table = pd.read_csv(path, usecols=["cocoId", "nsdId"])
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    ids = table.sort_values("nsdId")
    n_stimuli = Stimuli(root).n
    if not np.array_equal(ids["nsdId"], np.arange(n_stimuli)):
        raise DataError(f"{path} and {root / STIMULI} disagree: {len(table)} rows for {n_stimuli} stimuli")
    return ids["cocoId"].to_numpy()


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
        try:
            annotations = json.loads(path.read_text())["annotations"]
        except (ValueError, KeyError) as error:
            raise DataError(f"{path} is truncated or not COCO's captions: {error!r}") from error
        for annotation in annotations:
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
        try:
            content = json.loads(path.read_bytes(), object_hook=_image_and_category)
            names |= {category["id"]: category["name"] for category in content["categories"]}
            for image, category in content["annotations"]:
                if image in found:
                    found[image].add(category)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is truncated or not COCO's instances: {error!r}") from error
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
    image = _load_nifti(_require(path, "a volume of ROI labels"))
    return np.asarray(image.dataobj).round().astype(np.int16), image.affine


def _load_nifti(path: Path) -> Any:
    """Open a nibabel image; nibabel's own types do not say that it has data."""
    try:
        image: Any = nib.load(path)
        np.asarray(image.dataobj[..., -1:])  # the last values: reading them shows a truncated file
        return image
    except (OSError, EOFError, zlib.error, ImageFileError, ValueError) as error:
        raise DataError(f"{path} is truncated or not a NIfTI file ({error}); fetch it again") from error


def session_path(root: Path, subject: str, space: str, betas: str, session: int) -> Path:
    """Find the beta file of a session (counted from 1): .hdf5 or, where that is absent, .nii.gz."""
    stem = root / "nsddata_betas/ppdata" / subject / space / betas / f"betas_session{session:02d}"
    paths = [stem.with_name(f"{stem.name}{suffix}") for suffix in (".hdf5", ".nii.gz")]
    return next((path for path in paths if path.is_file()), None) or _require(paths[0], f"session {session}")


def _volume_shape(path: Path) -> tuple[int, ...]:
    """(X, Y, Z, trials) of a beta file."""
    if path.suffix != ".hdf5":
        return _load_nifti(path).shape
    try:
        with h5py.File(path, "r", locking=False) as file:
            return tuple(reversed(file["betas"].shape))  # written by MATLAB: h5py sees (trials, Z, Y, X)
    except (OSError, KeyError) as error:
        raise DataError(f"{path} is truncated or has no betas ({error}); fetch it again") from error


def check_session(path: Path, shape: tuple[int, int, int]) -> int:
    """Count the trials in a session's beta file, whose volumes must have the shape (X, Y, Z)."""
    *found, n_trials = _volume_shape(path)
    if tuple(found) != shape:
        raise DataError(f"{path} has volumes of {tuple(found)} voxels, but the ROI volumes have {shape}")
    return n_trials


def read_session(path: Path, voxels: Voxels) -> np.ndarray:
    """Read the betas of one session: (n_trials, n_voxels), float32, percent signal change.

    Reads 50 trials at a time from HDF5; a .nii.gz is decompressed whole (1 GB for a real session).
    """
    n_trials = check_session(path, voxels.shape)
    return np.concatenate(list(_blocks(path, n_trials, voxels))) / np.float32(BETA_SCALE)


def _blocks(path: Path, n_trials: int, voxels: Voxels) -> Iterator[np.ndarray]:
    try:
        if path.suffix == ".hdf5":
            with h5py.File(path, "r", locking=False) as file:
                for start in range(0, n_trials, 50):
                    block = file["betas"][start : start + 50].transpose(0, 3, 2, 1)  # (trials, X, Y, Z)
                    yield block.reshape(len(block), -1)[:, voxels.index].astype(np.float32)
        else:
            volumes = np.asarray(_load_nifti(path).dataobj)  # (X, Y, Z, trials)
            yield volumes.reshape(-1, n_trials)[voxels.index].T.astype(np.float32)
    except OSError as error:
        raise DataError(f"{path} is truncated ({error}); fetch it again") from error


def standardise_session(betas: np.ndarray, voxels: Voxels, path: Path, invalid: str) -> np.ndarray:
    """Scale each voxel to mean 0 and deviation 1 over the trials of a session.

    Parameters
    ----------
    betas : array of shape (n_trials, n_voxels)
    invalid : "error" or "zero"
        What to do with voxels that are constant or not a number in this session: stop, or let them be 0, their
        mean (as styvesg's loader, which the authors used, does).
    """
    bad = ~np.isfinite(betas).all(axis=0) | (np.ptp(np.nan_to_num(betas), axis=0) == 0)
    if bad.any() and invalid == "error":
        rois = ", ".join(
            f"{n} of {roi}" for roi, n in zip(*np.unique(voxels.roi[bad], return_counts=True), strict=True)
        )
        raise DataError(
            f"{path}: {bad.sum()} voxels are constant or not a number ({rois}); fetch the file again, or set "
            "experiment.data.invalid_voxels=zero to use their mean"
        )
    mean, deviation = betas.mean(axis=0, dtype=np.float64), betas.std(axis=0, dtype=np.float64)
    scaled = (betas - mean) / (deviation + 1e-6)
    return np.where(bad, 0, scaled).astype(np.float32)


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
    weighted = mean * n_repetitions[:, None]
    noise = (squares - (mean * weighted).sum(axis=0)) / (n_trials - n_images)
    variance = squares / n_trials - (weighted.sum(axis=0) / n_trials) ** 2
    ratio = np.maximum(variance - noise, 0) / np.maximum(noise, 1e-12)
    return 100 * ratio / (ratio + 1 / 3)


def _subject_number(subject: str) -> int:
    number = subject.removeprefix("subj")
    if not number.isdigit() or int(number) < 1:
        raise DataError(f"subjects are named subj01, subj02, ..., not {subject!r}")
    return int(number)
