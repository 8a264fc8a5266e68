"""Read the Natural Scenes Dataset from its own files; with other modules `nsd_...` what knows their names.

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
_DESIGN_TABLES = ("masterordering", "subjectim", "sharedix")
INSTANCES = (Path("annotations/instances_train2017.json"), Path("annotations/instances_val2017.json"))

# Sizes of the func1pt8mm volumes (X, Y, Z), from NSD's technical notes.
VOLUMES = {
    "subj01": (81, 104, 83), "subj02": (82, 106, 84), "subj03": (81, 106, 82), "subj04": (85, 99, 80),
    "subj05": (79, 97, 78), "subj06": (85, 113, 83), "subj07": (78, 95, 81), "subj08": (80, 103, 78),
}  # fmt: skip
# Sessions that each subject came to. The betas of the last three of each were withheld at first (for the Algonauts
# challenge of 2023), which is why the authors used 37 of 40; they are public now.
SESSIONS = {
    "subj01": 40, "subj02": 40, "subj03": 32, "subj04": 30, "subj05": 40, "subj06": 32, "subj07": 40, "subj08": 30,
}  # fmt: skip


def n_sessions(subject: str, wanted: int) -> int:
    """Give the number of sessions to read of a subject: as many as wanted, or as there are."""
    return min(wanted, SESSIONS.get(subject, wanted))


def require_file(path: Path, what: str) -> Path:
    """Give the path back, or raise DataError that says where the file is to be had."""
    if not path.is_file():
        raise DataError(
            f"{what} is missing: expected {path}",
            "data/00_get_nsd.py fetches it, once you have accepted NSD's terms (https://naturalscenesdataset.org); or "
            "set execution.nsd to the folder that has it",
            path,
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
    path = require_file(root / DESIGN, what)
    with reading(path, what):
        table = _read_design_tables(path)
        orders, lists, shares = (_whole_numbers(table[name], name) - 1 for name in _DESIGN_TABLES)
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


def read_subjects(root: Path) -> tuple[str, ...]:
    """Name the subjects of the experimental design: subj01, subj02, ..."""
    path = require_file(root / DESIGN, "NSD's experimental design")
    with reading(path, "NSD's experimental design"):
        return tuple(f"subj{row + 1:02d}" for row in range(len(_read_design_tables(path)["subjectim"])))


def read_shared(root: Path, subject: str) -> np.ndarray:
    """nsd_ids of the images that all subjects were to see, in the order of NSD's list; empty where it is absent."""
    if not (root / DESIGN).is_file():
        return np.array([], np.int64)
    design = read_design(root, subject)
    return design.stimuli[: design.n_shared]


def _read_design_tables(path: Path) -> dict[str, Any]:
    if h5py.is_hdf5(path):  # MATLAB's version 7.3, which has the axes the other way round
        with h5py.File(path, "r", locking=False) as file:
            return {name: file[name][()].T for name in _DESIGN_TABLES}
    return loadmat(path, variable_names=_DESIGN_TABLES)


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
        self.path = require_file(root / STIMULI, "NSD's stimuli")
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
    path = require_file(root / STIMULUS_INFO, what)
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
        text = f"{path}: {len(np.unique(coco))} different ids of COCO for {n_stimuli} stimuli"
        raise DataError(text, "fetch it again", path)
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
        path = require_file(root / name, "COCO's captions")
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


@contextmanager
def open_nifti(path: Path, what: str, to_its_end: bool = True) -> Iterator[Any]:
    """Open a .nii.gz file as a nibabel image that is decompressed once, as long as slices are taken in order."""
    with reading(path, what):
        kind: Any = type(nib.load(path))  # looks at the header only
        with gzip.open(path) as stream:
            yield kind.from_stream(stream)
            while to_its_end and stream.read(2**20):  # where gzip's checksum is
                pass


def _subject_number(subject: str) -> int:
    number = subject.removeprefix("subj")
    if not number.isdigit() or int(number) < 1:
        raise DataError(f"subjects are named subj01, subj02, ..., not {subject!r}")
    return int(number)
