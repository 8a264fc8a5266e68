"""Read the betas of NSD's sessions: check them, standardise them, and the noise ceiling of what is standardised.

Reference: Allen et al. 2022, doi 10.1038/s41593-021-00962-x, and the NSD data manual.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np

from data.nsd import Voxels, open_nifti, require_file
from minddiffuser.store import DataError, reading

BETA_SCALE = 300.0  # betas are stored as percent signal change times 300, in int16

# A session, or a trial of it, of which more than this share of the voxels is empty was not fetched or written to its
# end. NSD's files lack data in a few voxels at the edge of the volume, far below 1 %; a file that was only allocated
# lacks all voxels above some height, or all trials from some trial on. In a trial with data some 0.2 % of voxels are
# 0, or like their neighbour, by chance: a deviation of 1 % is stored as whole numbers with a deviation of 300.
EMPTY_SHARE = 0.1
_EMPTY_VOXELS = 10  # a trial in which fewer are empty has data: of some dozens of voxels chance empties one or two
_BLOCK = 2**26  # bytes of betas that are read at a time
_SESSION = "the betas of a session"


def session_file(subject: str, space: str, betas: str, session: int) -> Path:
    """Name the beta file of a session (counted from 1) in NSD's folder."""
    return Path("nsddata_betas/ppdata", subject, space, betas, f"betas_session{session:02d}.hdf5")


def session_path(root: Path, subject: str, space: str, betas: str, session: int) -> Path:
    """Find the beta file of a session (counted from 1): .hdf5 or, where that is absent, .nii.gz."""
    path = root / session_file(subject, space, betas, session)
    paths = [path, path.with_suffix(".nii.gz")]
    return next((path for path in paths if path.is_file()), None) or require_file(paths[0], f"session {session}")


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
    with open_nifti(path, _SESSION) as image:
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
        with open_nifti(path, _SESSION, to_its_end=False) as image:
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
