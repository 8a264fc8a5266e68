"""Which voxels are used: any labels of NSD's ROI volumes, or of a mask; with `nsd` what knows the names of their files.

An entry of `experiment.data.rois` is one of

    V1, V2, ... (`ROI_LABELS`)         a region of MindDiffuser's authors: of prf-visualrois where it has
                                       a label, else of Kastner2015
    nsdgeneral, floc-faces, ...        all voxels of the volume of that name whose label is above 0
    streams/ventral, HCP_MMP1/MT, ...  a label of a volume, by its name or number
    masks/{subject}_own.nii.gz         the voxels of a mask (.nii, .nii.gz) that are not 0, relative to the repository;
                                       {subject} stands for subj01 and so on

Names of labels are those of NSD's own tables (`nsddata/freesurfer/<subject>/label/<volume>.mgz.ctab`, or fsaverage's;
of MTL and thalamus `nsddata/templates/<volume>.ctab`), and where these are absent, of `LABELS`. A volume of one
hemisphere (`lh.streams`) has the names of the whole one. Of entries that overlap the first has the voxel.

Reference: Allen et al. 2022, doi 10.1038/s41593-021-00962-x, and the NSD data manual.
"""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from data.nsd import Voxels, open_nifti, require_file
from minddiffuser.config.method import is_mask, mask_path, roi_name
from minddiffuser.store import DataError, reading

# Numbers of voxels of the authors' regions, in all and in V1; other releases of the volumes differ by up to 1 %.
KNOWN_VOXELS = {"subj01": {"V1": 2392, "all": 11694}}
# Voxels of nsdgeneral at 1.8 mm.
NSDGENERAL = {
    "subj01": 15724, "subj02": 14278, "subj03": 15226, "subj04": 13153,
    "subj05": 13039, "subj06": 17907, "subj07": 12682, "subj08": 14386,
}  # fmt: skip

# The regions of MindDiffuser's authors by labels of Kastner2015 (Wang et al. 2015); prf-visualrois has the same 1 to 7.
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
_EARLY = ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4")
# Labels of volumes by name, from 1 on. Those of HCP_MMP1 (Glasser et al. 2016) are in its table alone.
LABELS: dict[str, tuple[str, ...]] = {
    "nsdgeneral": ("nsdgeneral",),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
    "prf-visualrois": _EARLY,
    "prf-eccrois": ("ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+"),
    "Kastner2015": (
        *_EARLY, "VO1", "VO2", "PHC1", "PHC2", "TO2", "TO1", "LO2", "LO1", "V3B", "V3A",
        "IPS0", "IPS1", "IPS2", "IPS3", "IPS4", "IPS5", "SPL1", "FEF",
    ),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
}  # fmt: skip
_KASTNER, _PRF, _STREAMS = "Kastner2015", "prf-visualrois", "streams"
_DRAWN_IN_VOLUMES = ("MTL", "thalamus")  # the others were drawn on surfaces


def roi_files(subject: str, space: str, rois: Sequence[str], with_streams: bool = False) -> list[Path]:
    """Name the files in NSD's folder that the voxels of some ROIs are found by, and with Takagi's the streams."""
    found = []
    for roi in rois:
        if roi in ROI_LABELS:
            found += [_volume(subject, space, _KASTNER), _volume(subject, space, _PRF)]
        elif not is_mask(roi):
            name, _, label = roi.partition("/")
            found.append(_volume(subject, space, name))
            if label and not label.isdecimal() and _whole_brain(name) not in LABELS:
                found.append(_tables(subject, name)[0])
    return list(dict.fromkeys([*found, *([_volume(subject, space, _STREAMS)] if with_streams else [])]))


def read_voxels(root: Path, subject: str, space: str, rois: Sequence[str]) -> Voxels:
    """Find the voxels of ROIs.

    Columns are ordered by ROI, in the order asked for, and inside one in the C-order of the volume. A mask is named by
    its file.

    Raises
    ------
    DataError
        A volume is missing or broken, or has another shape than the others; there is no such ROI or label; or an ROI
        has no voxel that an earlier one does not have.
    """
    known: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    columns, is_taken, first = [], np.zeros(0, bool), ""

    def labels_of(name: str) -> np.ndarray:
        nonlocal is_taken, first
        if name not in known:
            if is_mask(name):
                known[name] = _read_mask(mask_path(name, subject))
            else:
                known[name] = _read_labels(_path(root, subject, space, name, rois))
            shape = known[name][0].shape
            if len(known) == 1:
                is_taken, first = np.zeros(shape, bool), name
            elif shape != is_taken.shape:
                raise DataError(f"{name} has shape {shape}, but {first} of {subject} has {is_taken.shape}")
        return known[name][0]

    for roi in rois:
        labelled = _chosen(root, subject, roi, labels_of)
        chosen = labelled & ~is_taken
        if not chosen.any():
            place = mask_path(roi, subject) if is_mask(roi) else (root / _volume(subject, space, _KASTNER)).parent
            why = "that an earlier ROI does not have" if labelled.any() else f"in {place}"
            raise DataError(f"{roi} of {subject} has no voxel {why}; leave it out of experiment.data.rois")
        is_taken |= chosen
        columns.append(np.flatnonzero(chosen.ravel()))
    names = np.repeat([roi_name(roi) for roi in rois], [len(column) for column in columns])
    shape: Any = is_taken.shape  # (X, Y, Z)
    return Voxels(np.concatenate(columns), names, shape, known[first][1])


def read_streams(root: Path, subject: str, space: str, streams: Sequence[str]) -> Voxels:
    """Find the voxels of NSD's streams, ordered as asked for, and named without their volume."""
    voxels = read_voxels(root, subject, space, [f"{_STREAMS}/{stream}" for stream in streams])
    names = np.array([name.partition("/")[2] for name in voxels.roi])
    return Voxels(voxels.index, names, voxels.shape, voxels.affine)


def label_names(root: Path, subject: str, volume: str) -> dict[str, int]:
    """Give the labels of a volume by name, of NSD's own table where it is there; empty where they are not known.

    Raises
    ------
    DataError
        The table is broken.
    """
    if (path := _found_table(root, subject, volume)) is not None:
        with reading(path, "a table of ROI labels", "fetch it again"):
            lines = [line.split(maxsplit=1) for line in path.read_text().splitlines() if line.strip()]
            return {name.strip(): int(number) for number, name in lines if int(number) > 0}
    return {name: number for number, name in enumerate(LABELS.get(_whole_brain(volume), ()), start=1)}


def missing_labels(root: Path, subject: str, space: str, rois: Sequence[str]) -> list[str]:
    """Name the labels of the authors' regions, and of whole volumes, of which a subject has no voxel.

    NSD's localisers did not find every region in every subject, so that this need not be a fault.
    """
    missing = []
    for roi in rois:
        if roi in ROI_LABELS:
            (kastner, _), (prf, _) = (_read_labels(root / _volume(subject, space, name)) for name in (_KASTNER, _PRF))
            there, names = np.unique(np.where(prf > 0, prf, kastner)), LABELS[_KASTNER]
            missing += [f"{_KASTNER}/{names[label - 1]}" for label in ROI_LABELS[roi] if label not in there]
        elif not is_mask(roi) and "/" not in roi:
            there = np.unique(_read_labels(root / _volume(subject, space, roi))[0])
            labels = label_names(root, subject, roi)
            missing += [f"{roi}/{name}" for name, label in labels.items() if label not in there]
    return missing


def _chosen(root: Path, subject: str, roi: str, labels_of: Callable[[str], np.ndarray]) -> np.ndarray:
    """Tell which voxels of the volume an ROI has."""
    if roi in ROI_LABELS:
        kastner, prf = labels_of(_KASTNER), labels_of(_PRF)
        return np.isin(np.where(prf > 0, prf, kastner), ROI_LABELS[roi])
    if is_mask(roi):
        return labels_of(roi)
    name, _, label = roi.partition("/")
    labels = labels_of(name)
    if not label:
        return labels > 0
    if label.isdecimal():
        return labels == int(label)
    known = label_names(root, subject, name)
    if label not in known:
        near = difflib.get_close_matches(label, known, 3, 0.4) or list(known)[:8]
        table = _found_table(root, subject, name)
        hint = f"; there are {', '.join(near)}" if near else ""
        if table is not None:
            hint += f" in {table}"
        elif not near:
            hint = f": {_tables(subject, name)[0]} is absent; give its number"
        raise DataError(f"experiment.data.rois: {name} has no label {label!r}{hint}")
    return labels == known[label]


def _path(root: Path, subject: str, space: str, name: str, rois: Sequence[str]) -> Path:
    """Find a volume; say which names there are where it is none."""
    path = root / _volume(subject, space, name)
    if path.is_file() or _whole_brain(name) in LABELS:
        return require_file(path, f"the ROI volume {name}")
    volumes = [file.name.removesuffix(".nii.gz") for file in sorted(path.parent.glob("*.nii.gz"))]
    known = [*ROI_LABELS, *LABELS, *volumes]
    near = difflib.get_close_matches(name, known, 3, 0.5) or list(dict.fromkeys(known))
    text = f"{', '.join(rois)} of experiment.data.rois: {name} is neither a region nor a volume in {path.parent}"
    raise DataError(f"{text}; known are {', '.join(near)}")


def _volume(subject: str, space: str, name: str) -> Path:
    return Path("nsddata/ppdata", subject, space, "roi", f"{name}.nii.gz")


def _tables(subject: str, volume: str) -> list[Path]:
    """Name the tables that a volume's labels may be named by, the first one first."""
    name = _whole_brain(volume)
    if name in _DRAWN_IN_VOLUMES:
        return [Path("nsddata/templates", f"{name}.ctab")]
    return [Path("nsddata/freesurfer", folder, "label", f"{name}.mgz.ctab") for folder in (subject, "fsaverage")]


def _whole_brain(volume: str) -> str:
    """Name a volume without its hemisphere."""
    return volume.removeprefix("lh.").removeprefix("rh.")


def _found_table(root: Path, subject: str, name: str) -> Path | None:
    return next((root / table for table in _tables(subject, name) if (root / table).is_file()), None)


def _read_labels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    what = "a volume of ROI labels"
    with open_nifti(require_file(path, what), what) as image:
        return _whole(_numbers(image)), image.affine


def _read_mask(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read which voxels of a mask are not 0.

    Values below 0 are refused: NSD's own volumes have them outside the cortex, so that all of these voxels would count.
    """
    what, advice = "a mask", "write it again, of 0 and 1"
    if not path.is_file():
        raise DataError(f"{what} is missing: expected {path}", "correct experiment.data.rois", path)
    with reading(path, what, advice):
        image: Any = nib.load(path)
        values = np.nan_to_num(_numbers(image))
        if (values < 0).any():
            raise ValueError("it has values below 0, as NSD's volumes of labels have; those are named without a path")
        return values != 0, image.affine


def _numbers(image: Any) -> np.ndarray:
    values = np.asarray(image.dataobj)
    if values.ndim != 3 or values.dtype.kind not in "iuf" or not values.size:
        raise ValueError(f"it is {values.dtype} of shape {values.shape}, not numbers of (X, Y, Z)")
    return values


def _whole(values: np.ndarray) -> np.ndarray:
    labels = np.round(values)
    if not (np.isfinite(labels) & (np.abs(values - labels) < 1e-3) & (np.abs(labels) < 2**15)).all():
        raise ValueError("its values are not whole numbers")
    return labels.astype(np.int16)
