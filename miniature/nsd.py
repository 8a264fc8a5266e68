"""Write a simulated NSD in NSD's own on-disk layout (Allen et al. 2022; NSD data manual)."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from scipy.io import savemat

from data.nsd import CAPTIONS, DESIGN, STIMULI, STIMULUS_INFO
from data.nsd_betas import BETA_SCALE
from data.nsd_rois import LABELS, ROI_LABELS
from minddiffuser.config.miniature import Miniature
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import write_arrays, write_atomically
from miniature.brain import AREAS, noise_deviation, simulate_signal, simulate_trials
from miniature.scenes import KINDS, SUPERCATEGORY, Scene, captions, render, sample_scene

REPETITIONS = 3
_AFFINE = np.diag([1.8, 1.8, 1.8, 1.0])
# How the two subjects differ: ROI sizes, signal quality, and the file format of their betas.
_SUBJECTS = {1: (1.0, 1.0, ".hdf5"), 2: (0.85, 0.85, ".nii.gz")}
# Where the labels of other volumes lie: by label of Kastner2015 the name in the volume. Some names have no voxel, as in
# NSD, whose localisers did not find every region in every subject.
_PLACES = {
    "floc-faces": {15: "OFA", 9: "FFA-1"},
    "floc-bodies": {14: "EBA"},
    "floc-places": {16: "OPA", 10: "PPA", 11: "PPA"},
    "floc-words": {8: "VWFA-1"},
    "HCP_MMP1": {
        1: "V1", 2: "V1", 3: "V2", 4: "V2", 5: "V3", 6: "V3", 7: "V4", 8: "V8", 9: "V8", 10: "PHA1", 11: "PHA1",
        12: "MST", 13: "MT", 14: "LO2", 15: "LO1", 16: "V3B", 17: "V3A", **dict.fromkeys(range(18, 24), "IPS1"),
    },
}  # fmt: skip
# The labels of the 180 of HCP_MMP1 that the miniature has.
_HCP = {
    "V1": 1, "MST": 2, "V2": 4, "V3": 5, "V4": 6, "V8": 7, "V3A": 13, "IPS1": 17, "V3B": 19, "LO1": 20, "LO2": 21,
    "MT": 23, "PHA1": 126,
}  # fmt: skip


@dataclass(frozen=True)
class Pictures:
    """All stimuli, indexed by nsd_id."""

    scenes: list[Scene]
    images: np.ndarray  # (n, 64, 64, 3), uint8
    visible: list[np.ndarray]  # of (n_objects, 64, 64), bool
    texts: list[list[str]]


def draw_pictures(n_pictures: int, seed: int) -> Pictures:
    """Draw the stimuli; each has its own generator, so that more of them do not change the first."""
    scenes, images, visible, texts = [], [], [], []
    for nsd_id in range(n_pictures):
        rng = numpy_generator(seed, "stimulus", nsd_id)
        scenes.append(sample_scene(rng))
        image, seen = render(scenes[-1])
        images.append(image)
        visible.append(seen)
        texts.append(captions(scenes[-1], rng))
    return Pictures(scenes, np.stack(images), visible, texts)


def make_design(size: Miniature, n_subjects: int, seed: int) -> dict[str, np.ndarray]:
    """NSD's design file: `masterordering`, `subjectim` and `sharedix`, counted from 1.

    As in NSD the presentations of an image cluster in time, so that leaving out the last sessions leaves out a
    few images altogether, and the order of trials is the same for all subjects.
    """
    rng = numpy_generator(seed, "design")
    n_list = size.n_shared + size.n_own
    n_stimuli = size.n_shared + size.n_own * n_subjects
    ids = rng.permutation(n_stimuli) + 1
    shared = np.sort(ids[: size.n_shared])
    own = np.split(ids[size.n_shared :], n_subjects)
    onset = rng.uniform(0, 1, n_list)
    times = onset[:, None] + np.cumsum(rng.exponential(0.06, (n_list, REPETITIONS)), axis=1)
    order = np.argsort(times.ravel(), kind="stable") // REPETITIONS
    n_trials = len(order) // size.sessions * size.sessions
    return {
        "masterordering": order[None, :n_trials] + 1,
        "subjectim": np.stack([np.r_[shared, np.sort(part)] for part in own]),
        "sharedix": shared[None],
        "basiccnt": np.bincount(order[:n_trials], minlength=n_list)[None],
    }


def write_stimuli(root: Path, pictures: Pictures, design: dict[str, np.ndarray], seed: int) -> None:
    """Write stimuli, design, table of stimuli, COCO captions and COCO instances."""
    n = len(pictures.images)
    write_arrays(root / STIMULI, {"imgBrick": pictures.images}, {})
    matrix = BytesIO()
    savemat(matrix, design)
    # The header has the date and the platform; NSD's reader skips it, and equal inputs should give equal bytes.
    write_atomically(
        root / DESIGN, b"MATLAB 5.0 MAT-file, NSD experimental design".ljust(116) + matrix.getvalue()[116:]
    )

    rng = numpy_generator(seed, "coco")
    coco_ids = np.sort(rng.choice(np.arange(1, 581_929), size=n, replace=False))
    rng.shuffle(coco_ids)
    is_validation = rng.uniform(size=n) < 0.05  # a few of NSD's images are of COCO's validation split
    table = pd.DataFrame({"cocoId": coco_ids, "cocoSplit": np.where(is_validation, "val2017", "train2017")})
    table["cropBox"] = "(0.0, 0.0, 0.0, 0.0)"
    table["nsdId"] = np.arange(n)
    table["shared1000"] = np.isin(np.arange(n) + 1, design["sharedix"])
    for number, stimuli in enumerate(design["subjectim"], start=1):
        table[f"subject{number}"] = np.isin(np.arange(n) + 1, stimuli)
        trials = np.zeros((n, REPETITIONS), np.int64)
        for trial, row in enumerate(design["masterordering"][0] - 1, start=1):
            seen = trials[stimuli[row] - 1]
            seen[np.count_nonzero(seen)] = trial
        for repetition in range(REPETITIONS):
            table[f"subject{number}_rep{repetition}"] = trials[:, repetition]
    write_atomically(root / STIMULUS_INFO, table.to_csv())

    for path, rows in zip(CAPTIONS, (np.flatnonzero(~is_validation), np.flatnonzero(is_validation)), strict=True):
        listed = [(int(coco_ids[row]), text) for row in rows for text in pictures.texts[row]]
        annotations = [{"image_id": i, "id": k, "caption": text} for k, (i, text) in enumerate(listed, start=1)]
        images = [{"id": int(coco_ids[row])} for row in rows]
        write_atomically(root / path, json.dumps({"images": images, "annotations": annotations}))
        _write_instances(root / str(path).replace("captions", "instances"), pictures, coco_ids, rows)


def _write_instances(path: Path, pictures: Pictures, coco_ids: np.ndarray, rows: np.ndarray) -> None:
    annotations = []
    for row in rows:
        for item, seen in zip(pictures.scenes[row].objects, pictures.visible[row], strict=True):
            y, x = np.nonzero(seen)
            if len(x):
                box = [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1]
                category = KINDS.index(item.kind) + 1
                entry = {"image_id": int(coco_ids[row]), "category_id": category, "bbox": box, "area": len(x)}
                annotations.append({"id": len(annotations) + 1, "iscrowd": 0, **entry})
    categories = [{"id": k + 1, "name": kind, "supercategory": SUPERCATEGORY[kind]} for k, kind in enumerate(KINDS)]
    write_atomically(path, json.dumps({"annotations": annotations, "categories": categories}))


def write_rois(root: Path, subject: int, scale: float, space: str, seed: int) -> np.ndarray:
    """Write the ROI volumes of a subject; return the joined labels, of shape (X, Y, Z).

    The cortex is a shell; its voxels are sorted from back to front and cut into ROIs. Kastner2015 and
    prf-visualrois are drawn apart, and disagree at their borders, as NSD's do.
    """
    rng = numpy_generator(seed, "rois", subject)
    share = scale * _SUBJECTS[subject][0]
    per_label = {
        label: max(round(AREAS[roi].n_voxels * share * rng.uniform(0.9, 1.1) / len(labels)), 2)
        for roi, labels in ROI_LABELS.items()
        for label in labels
    }
    side = int(np.ceil((sum(per_label.values()) * 4) ** (1 / 3)))
    shape = (side + 2, side + 7, side + 3 + subject)  # three different lengths, so that a wrong axis order shows
    centred = (np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2) / (np.array(shape) / 2)
    radius = np.linalg.norm(centred, axis=-1)
    shell = np.flatnonzero((radius < 1.0).ravel() & (radius > 0.45).ravel())
    back_to_front = centred[..., 1].ravel()[shell] + 0.3 * np.abs(centred[..., 0].ravel()[shell])
    voxels = shell[np.argsort(back_to_front, kind="stable")]

    labels = np.zeros(np.prod(shape), np.int16)
    start = 0
    for label in sorted(per_label):
        labels[voxels[start : start + per_label[label]]] = label
        start += per_label[label]
    kastner, prf = labels.copy(), np.where((labels >= 1) & (labels <= 7), labels, 0)
    borders = rng.choice(np.flatnonzero(prf), size=max(int(0.05 * np.count_nonzero(prf)), 1), replace=False)
    kastner[borders] = 0  # the retinotopic map is wider than the atlas
    cortex = np.isin(np.arange(len(labels)), shell)
    general = np.where(labels > 0, 1, 0)
    stream_of = {
        **dict.fromkeys(range(1, 7), 1),
        7: 2,
        8: 5,
        9: 5,
        10: 5,
        11: 5,
        12: 6,
        13: 6,
        14: 3,
        15: 3,
        16: 4,
        17: 4,
    }
    streams = np.array([stream_of.get(int(label), 7 if label else 0) for label in labels])
    volumes = {"Kastner2015": kastner, "prf-visualrois": prf, "nsdgeneral": general, "streams": streams}
    numbers = {name: {label: k for k, label in enumerate(labels, 1)} for name, labels in LABELS.items()}
    numbers["HCP_MMP1"] = _HCP
    for name, place in _PLACES.items():
        volumes[name] = np.array([numbers[name].get(place.get(int(label), ""), 0) for label in labels])
    folder = root / "nsddata/ppdata" / f"subj{subject:02d}" / space / "roi"
    tables = root / "nsddata/freesurfer" / f"subj{subject:02d}" / "label"
    for name, values in volumes.items():
        rows = ["0 Unknown", *(f"{number} {label}" for label, number in numbers[name].items())]
        write_atomically(tables / f"{name}.mgz.ctab", "\n".join(rows) + "\n")
        volume = np.where(cortex, values, -1).astype(np.int16).reshape(shape)
        write_atomically(folder / f"{name}.nii.gz", _nifti(volume))
    return np.where(prf > 0, prf, kastner).reshape(shape)


def _nifti(volume: np.ndarray) -> bytes:
    """Compressed NIfTI-1 with the same bytes for the same volume."""
    return gzip.compress(nib.Nifti1Image(volume, _AFFINE).to_bytes(), compresslevel=1, mtime=0)


def _hdf5(betas: np.ndarray) -> bytes:
    """HDF5 file of betas (trials, Z, Y, X), as NSD's: a chunk for each voxel, which holds all its trials.

    A voxel that is 0 in all trials needs no chunk, and is read as 0. Each chunk is handed over as it is: slices of
    h5py's dataset would take ten times as long.
    """
    voxels = np.ascontiguousarray(betas.reshape(len(betas), -1).T)
    used = np.flatnonzero(voxels.any(axis=1))
    with h5py.File("betas", "w", driver="core", backing_store=False) as file:  # in memory
        dataset = file.create_dataset("betas", betas.shape, betas.dtype, chunks=(len(betas), 1, 1, 1))
        for values, place in zip(voxels[used], np.argwhere(betas.any(axis=0)).tolist(), strict=True):
            dataset.id.write_direct_chunk((0, *place), values)
        file.flush()
        return file.id.get_file_image()


def write_betas(
    root: Path,
    subject: int,
    labels: np.ndarray,
    pictures: Pictures,
    design: dict[str, np.ndarray],
    size: Miniature,
    folder: str,
    seed: int,
    done: Callable[[], object],
) -> None:
    """Write the beta files of a subject, and call `done` after each; files that are there already are left."""
    roi_of = {label: roi for roi, members in ROI_LABELS.items() for label in members}
    flat = labels.ravel()
    inside = np.flatnonzero(flat > 0)
    rois = np.array([roi_of[label] for label in flat[inside]])
    rng = numpy_generator(seed, "brain", subject)
    stimuli = design["subjectim"][subject - 1] - 1
    signal = simulate_signal(
        pictures.images[stimuli],
        [pictures.scenes[i] for i in stimuli],
        [pictures.visible[i] for i in stimuli],
        rois,
        rng,
    )
    noise = noise_deviation(rois, _SUBJECTS[subject][1] * size.quality, rng)
    shared = rng.normal(size=(5, len(inside))) / np.sqrt(5)
    sessions = design["masterordering"][0].reshape(size.sessions, -1) - 1
    base = root / "nsddata_betas/ppdata" / f"subj{subject:02d}" / folder
    for session in range(1, size.sessions + 1):
        path = base / f"betas_session{session:02d}{_SUBJECTS[subject][2]}"
        if path.exists():
            done()
            continue
        draw = numpy_generator(seed, "session", subject, session)
        trials = simulate_trials(signal[sessions[session - 1]], noise, shared, draw)
        volumes = np.zeros((len(trials), flat.size), np.int16)
        outside = np.flatnonzero(flat == 0)[::3]  # the rest of the brain is noise; a third of it will do
        volumes[:, outside] = draw.normal(0, 300, (len(trials), len(outside)))
        volumes[:, inside] = np.clip(np.round(trials * BETA_SCALE), -32768, 32767)
        grid = volumes.reshape(len(trials), *labels.shape)
        if path.suffix == ".hdf5":
            write_atomically(path, _hdf5(grid.transpose(0, 3, 2, 1)))  # as MATLAB writes it
        else:
            write_atomically(path, _nifti(np.moveaxis(grid, 0, -1)))
        done()
