"""Trials of Generic Object Decoding, as `data.god` reads them: standardised by run, averaged by image, divided."""

from typing import Literal

import numpy as np
from sklearn.model_selection import train_test_split

from data.god import TYPE_NAMES, unusual_runs
from minddiffuser.store import DataError


def run_groups(data_type: np.ndarray, run: np.ndarray, grouping: Literal["by_type", "as_released"]) -> np.ndarray:
    """Tell which trials are standardised together, by numbering the groups.

    Runs count from 1 inside each data type. Ferrante et al. 2022 (arXiv 2212.06726) take those of equal number
    together: the first group of the real data is the first runs of training, perception and imagery, 50 + 50 + 25
    trials, so that test trials change the training data.

    Parameters
    ----------
    data_type, run : arrays of shape (n_trials,), int
    grouping : "by_type" or "as_released"
        Runs apart from each other; or, as in that paper's code, runs of equal number together.

    Returns
    -------
    array of shape (n_trials,), int64
        From 0.

    Raises
    ------
    DataError
        Runs of equal number are to be taken together, but their numbers do not start again in each data type.
    """
    if grouping == "as_released" and (unusual := unusual_runs(data_type, run)):
        raise DataError(
            f"{unusual}: run_grouping as_released, of the form `original`, takes runs of equal number together, which "
            "would be other trials; leave the form out of experiment.semantic_brain_decoding.forms"
        )
    keys = {"by_type": [data_type, run], "as_released": [run]}[grouping]
    return np.unique(np.stack(keys), axis=1, return_inverse=True)[1].ravel()


def standardise_runs(
    X: np.ndarray, data_type: np.ndarray, run: np.ndarray, grouping: Literal["by_type", "as_released"] = "by_type"
) -> np.ndarray:
    """Scale each voxel to mean 0 and deviation 1 (of the population) over the trials of a run.

    Parameters
    ----------
    X : array of shape (n_trials, n_voxels)
    data_type, run : arrays of shape (n_trials,), int
    grouping : "by_type" or "as_released"
        See `run_groups`.

    Returns
    -------
    array of shape (n_trials, n_voxels), float64
        A voxel that is constant in a run is 0 there.

    Raises
    ------
    DataError
        A run has one trial, of which nothing would be left; see also `run_groups`.
    """
    groups, scaled = run_groups(data_type, run, grouping), np.empty(X.shape)
    for group in range(groups.max() + 1):
        rows = groups == group
        if rows.sum() == 1:
            raise DataError(
                f"run {run[rows][0]} of the {TYPE_NAMES[data_type[rows][0]]} trials has one trial, which cannot be "
                "scaled to deviation 1: the recording's Run is not what it should be"
            )
        trials = X[rows].astype(np.float64)
        constant = np.ptp(trials, axis=0) == 0
        deviation = np.where(constant, 1, trials.std(axis=0))
        scaled[rows] = np.where(constant, 0, (trials - trials.mean(axis=0)) / deviation)
    return scaled


def average(X: np.ndarray, image: np.ndarray, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Average the trials of each image: of `X[data_type == PERCEPTION]`, 35 in the real data, or of IMAGERY, 10.

    Parameters
    ----------
    X : array of shape (n_trials, n_voxels)
    image : array of shape (n_trials,), int
        Row of each trial's image in the list of images.
    n_images : int

    Returns
    -------
    means : array of shape (n_images, n_voxels), float64
    n_repetitions : array of shape (n_images,), int64

    Raises
    ------
    DataError
        An image has no trial.
    """
    n_repetitions = np.bincount(image, minlength=n_images)
    if len(n_repetitions) > n_images or not n_repetitions.all():
        empty = np.flatnonzero(n_repetitions == 0)[:10].tolist()
        raise DataError(f"trials are of {len(n_repetitions)} images, not {n_images}; rows without a trial: {empty}")
    return np.stack([X[image == i].mean(axis=0, dtype=np.float64) for i in range(n_images)]), n_repetitions


def split(n_trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a tenth of the training trials for validation, as Ferrante et al. 2022 do.

    The split is by trial: both parts have images of the same categories, which the test images do not share.

    Returns
    -------
    training, validation : arrays of int64
        Rows, in the order of scikit-learn's `train_test_split(test_size=0.1, random_state=42)`; of 1,200 trials,
        1,080 and 120.
    """
    training, validation = train_test_split(np.arange(n_trials), test_size=0.1, random_state=42)
    return training, validation
