"""Clips have the volumes that respond to them: a recording by the miniature, cut by the reader, is decoded at lag 0."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from baselines.mind_animator.decoding import Rows
from benchmarks import film_timing
from data import cc2017, recordings
from minddiffuser.config.miniature import MiniatureCc2017
from miniature import video_brain
from miniature.cc2017 import recordings_of

SIZE = MiniatureCc2017(n_segments=5, clips=48, n_tests=2, test_clips=48, repetitions=2, test_repetitions=2)
N_VERTICES, N_UNITS = 80, 6


@pytest.fixture(scope="module")
def watched():
    """What films show, shot by shot and clip by clip, and the runs of one who watches them."""
    rng = np.random.default_rng(0)
    brain = video_brain.sample_brain(np.repeat(["V1", "V2"], N_VERTICES // 2), 1.0, rng)
    weights, shots, shown, runs = rng.normal(size=(N_UNITS, N_VERTICES)), {}, {}, {}
    n_shots = 0
    for run in recordings_of("Subject01", SIZE):
        if run.film not in shown:
            of_clip = np.repeat(np.arange(48), rng.integers(1, 6, 48))[:48] + n_shots
            n_shots = of_clip[-1] + 1
            shots |= {cc2017.clip_key(run.film, k + 1): shot for k, shot in enumerate(of_clip)}
            shown[run.film] = np.random.default_rng(1).normal(size=(10_000, N_UNITS))[of_clip]
        seen = shown[run.film]
        drive = np.concatenate([seen[:1], seen, seen[-1:]]) @ weights / np.sqrt(N_UNITS)
        runs[run] = video_brain.record(drive.astype(np.float32), brain, run.start, run.n_volumes, rng)
    return shown, runs, pd.Series(shots, name="shot").rename_axis("stimulus_id")


def rows_of(watched, lag, late=0):
    """Rows at a lag, of recordings that begin `late` volumes later than they should."""
    shown, runs, _ = watched
    X = {name: np.zeros((48, N_VERTICES)) for name in shown}
    for run, volumes in runs.items():
        window = cc2017.volume_window(len(volumes), 48, lag)
        moved = np.roll(volumes, -late, axis=0)
        X[run.film] += recordings.standardise_run(moved[window], 4, "error", Path(run.film))
    ids = np.array([cc2017.clip_key(name, k) for name in shown for k in range(1, 49)])
    validation, training = np.arange(48), np.arange(48, len(ids))
    X = np.concatenate(list(X.values())).astype(np.float32)
    return Rows(X, ids, training[:0], training, validation), np.concatenate(list(shown.values())).astype(np.float32)


def r_at(watched, lag, late=0):
    rows, Y = rows_of(watched, lag, late)
    return film_timing.mean_r(film_timing.decode(rows, Y), Y[rows.training])


def test_lag_0_decodes_best(watched):
    r = {lag: r_at(watched, lag) for lag in film_timing.LAGS}
    assert max(r, key=r.get) == 0
    assert r[0] > 0.5
    assert max(r[-1], r[1]) < 0.95 * r[0]
    assert r[3] < 0.3 * r[0]


@pytest.mark.parametrize("late", [-1, 1])
def test_a_window_that_is_off_by_one_volume_would_be_found(watched, late):
    r = {lag: r_at(watched, lag, late) for lag in (-1, 0, 1)}
    assert max(r, key=r.get) == -late


def test_every_place_in_a_shot_is_decoded_and_first_ones_are_not_two_volumes_early(watched):
    rows, Y = rows_of(watched, 0)
    right, early, late = (
        list(film_timing.r_by_place(film_timing.shifted(rows, shift), Y, watched[2]).values()) for shift in (0, -2, 2)
    )
    assert min(right[1:]) > 0.8 * max(right)
    assert right[0] > 0.4 * max(right)  # the response to what was before the cut is not over
    assert early[0] < 0.1
    assert early[1] < 0.3 * right[1]
    assert late[0] > right[0]
    assert late[3] < 0.4 * right[3]


def test_shifted_rows_stay_in_their_film():
    ids = np.array([1001, 1002, 1003, 2001, 2002, 101001])
    X = np.arange(6, dtype=np.float32)[:, None]
    rows = Rows(X, ids, *[np.array([], int)] * 3)
    assert film_timing.shifted(rows, -2).X[:, 0].tolist() == [0, 0, 0, 3, 3, 5]
    assert film_timing.shifted(rows, 1).X[:, 0].tolist() == [1, 2, 2, 4, 4, 5]
    assert film_timing.places(pd.Series([0, 0, 1, 1, 1, 2], index=ids)).tolist() == [0, 1, 0, 1, 2, 0]
