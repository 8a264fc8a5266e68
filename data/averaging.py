"""From sessions of single trials to images: means over repetitions, means of halves of them, and the noise ceiling."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import h5py
import numpy as np
import pandas as pd
from tqdm import tqdm

from data import nsd, nsd_betas
from minddiffuser.cli import Run
from minddiffuser.progress import progress
from minddiffuser.store import Artifact, DataError

VOXELS_AT_ONCE = 2048  # some 0.5 GB at NSD's number of images


@dataclass(frozen=True)
class Rows:
    """Which image each trial showed, and which images are kept, in which order.

    Attributes
    ----------
    of_trial : array of shape (n_trials,)
        Number of the image, below n_seen.
    n_repetitions : array of shape (n_seen,)
    kept : array of shape (n_images,)
        Numbers of the images that are kept, test images first.
    n_test : int
    """

    of_trial: np.ndarray
    n_repetitions: np.ndarray
    kept: np.ndarray
    n_test: int


def remaining_sessions(
    run: Run, artifact: Artifact, voxels: nsd.Voxels, standardise: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """Read the sessions that are still to be made parts of an artifact, by this shard, one by one.

    How many voxels have no data in a session, and are 0 in it, is printed.

    Parameters
    ----------
    run : Run
    artifact : Artifact
        Each session is a part of it.
    voxels : Voxels
    standardise : bool
        Whether betas are scaled to mean 0 and deviation 1 over the trials of their session.

    Yields
    ------
    session : int
        Counted from 0: its trials are session * n_trials, ... of the design.
    betas : array of shape (n_trials, n_voxels), float32
        z-scores, or percent signal change.

    Raises
    ------
    DataError
        A file is missing or broken, or has another number of trials than the first; or a session or a trial has no
        data, or a voxel has none in a session and `data.invalid_voxels` is "error".
    """
    subject, data = artifact.recipe.subject, run.config.experiment.data
    n_sessions = nsd.n_sessions(subject, data.sessions)
    paths = [nsd_betas.session_path(run.config.nsd, subject, data.space, data.betas, s + 1) for s in range(n_sessions)]
    n_trials = nsd_betas.check_session(paths[0], voxels.shape)
    for session, _ in progress(artifact.parts_to_do(n_sessions, 1, run.shard), desc=f"{subject} sessions"):
        path = paths[session]
        betas = nsd_betas.read_session(path, voxels)
        if len(betas) != n_trials:
            raise DataError(f"{path} has {len(betas)} trials, but {paths[0]} has {n_trials}")
        if standardise:
            betas = nsd_betas.standardise_session(betas, voxels, path, data.invalid_voxels)
            empty = np.all(betas == 0, axis=0)
        else:
            empty = nsd_betas.find_empty(betas, voxels, path, data.invalid_voxels)
            betas[:, empty] = 0
        if empty.any():
            value = "their mean" if standardise else "0"
            tqdm.write(f"{path.name}: set to {value} for want of data: {voxels.count(empty)}")
        yield session, betas


def choose_rows(ordering: np.ndarray, n_shared: int, validation_rows: int) -> tuple[np.ndarray, Rows]:
    """Choose the rows of a subject from the order of its trials.

    Parameters
    ----------
    ordering : array of shape (n_trials,)
        For each trial the place of its image in the subject's list.
    n_shared : int
        Images before that place are test images.
    validation_rows : int
        Where above 0, the real test images are left out, and that many training images, the last, stand in for them.

    Returns
    -------
    seen : array of shape (n_seen,)
        Places of the images that were shown, in increasing order.
    rows : Rows
    """
    seen, of_trial, n_repetitions = np.unique(ordering, return_inverse=True, return_counts=True)
    kept, n_test = np.arange(len(seen)), int((seen < n_shared).sum())
    if validation_rows:
        training = kept[n_test:]
        kept, n_test = np.r_[training[-validation_rows:], training[:-validation_rows]], validation_rows
    return seen, Rows(of_trial, n_repetitions, kept, n_test)


def average(
    read_sessions: Callable[[], Iterator[h5py.File]], n_trials: int, n_voxels: int, rows: Rows
) -> dict[str, np.ndarray]:
    """Average the repetitions of each image, and separate what repeats from what does not.

    Peak memory: the result, and some 2,000 voxels of all images, three times in float64.

    Parameters
    ----------
    read_sessions : callable
        Opens the sessions one after the other: files with `betas` (n_trials, n_voxels), z-scored.
    n_trials : int
        Of a session.
    n_voxels : int
    rows : Rows

    Returns
    -------
    dict
        `betas` (n_images, n_voxels) and `betas_halves` (n_test, 2, n_voxels), float32, and `noise_ceiling` (n_voxels,);
        see data/02_prepare_subject.py.
    """
    betas = np.empty((len(rows.kept), n_voxels), np.float32)
    halves = np.empty((rows.n_test, 2, n_voxels), np.float32)
    ceiling = np.empty(n_voxels)
    half = rows.n_repetitions // 2  # trials in each
    place = np.full(len(rows.n_repetitions), -1)  # row in `halves`
    place[rows.kept[: rows.n_test]] = np.arange(rows.n_test)
    repetition = repetition_of(rows.of_trial)
    for start in range(0, n_voxels, VOXELS_AT_ONCE):
        here = slice(start, min(start + VOXELS_AT_ONCE, n_voxels))
        total = np.zeros((len(rows.n_repetitions), here.stop - start))
        squares = np.zeros(here.stop - start)
        total_halves = np.zeros((rows.n_test, 2, here.stop - start))
        row_of, half_of = list(total), list(total_halves.reshape(2 * rows.n_test, -1))
        for session, file in enumerate(read_sessions()):
            trials = slice(session * n_trials, (session + 1) * n_trials)
            row, number, values = rows.of_trial[trials], repetition[trials], file["betas"][:, here]
            # Row by row, which is faster than `np.add.at` with its copies in float64.
            for image, trial in zip(row.tolist(), values, strict=True):
                np.add(row_of[image], trial, out=row_of[image])
            used = (place[row] >= 0) & (number < 2 * half[row])
            which = 2 * place[row[used]] + number[used] // half[row[used]]
            for image, trial in zip(which.tolist(), values[used], strict=True):
                np.add(half_of[image], trial, out=half_of[image])
            squares += np.einsum("ij,ij->j", values, values, dtype=np.float64)
        total /= rows.n_repetitions[:, None]
        ceiling[here] = nsd_betas.noise_ceiling(total, rows.n_repetitions, squares)
        betas[:, here] = total[rows.kept]
        with np.errstate(invalid="ignore"):
            halves[:, :, here] = total_halves / half[rows.kept[: rows.n_test], None, None]
    return {"betas": betas, "betas_halves": halves, "noise_ceiling": ceiling}


def repetition_of(row_of_trial: np.ndarray) -> np.ndarray:
    """Count, for each trial, the earlier trials of its image: array of shape (n_trials,)."""
    order = np.argsort(row_of_trial, kind="stable")
    counts = np.bincount(row_of_trial)
    number = np.empty_like(order)
    number[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return number


def ceiling_by_roi(voxels: pd.DataFrame) -> pd.DataFrame:
    """Summarise the noise ceiling by ROI, in the order of the columns.

    Parameters
    ----------
    voxels : DataFrame
        Columns roi and noise_ceiling, a row a voxel.

    Returns
    -------
    DataFrame
        Columns roi, n_voxels, median, mean; percent of variance with three trials.
    """
    table = voxels.groupby("roi", sort=False)["noise_ceiling"]
    return table.agg(n_voxels="size", median="median", mean="mean").round(1).reset_index()
