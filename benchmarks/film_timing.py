"""Are volumes paired with the right clips? Decoding by lag and by place in the shot, and reliability by area.

    python benchmarks/film_timing.py       # the miniature: about two minutes on two cores
    python benchmarks/film_timing.py --config configs/cc2017_subject01.yaml

Needs the films, and their targets by baselines/mind_animator/11_features.py. No test clip is used. Latents of the first
frame are decoded by ridge regression, training clips in five folds of neighbouring ones while they are held out, and
r is the correlation over clips, mean of the units.

Lags are volumes on top of the 4 s that the pairing has (`voxels.extra_lag`). If the pairing is right, r at lag 0 is the
best of all, or has .9 of it. A second look does not need other volumes: r of a clip by its place in its shot, of shots
of four clips or more. With the right lag every place is decoded, the first somewhat less, for the response to what was
there before the cut is not over. Where volumes come too early, the first clips of a shot are decoded as what was there
before; where they come too late, the last ones as what comes after. Shots are found in the films (data/shots.py).
Reliability is that of data/05_prepare_films.py; vertices of no visual area must be few among those that are selected.

The last line is JSON: best_lag, share_of_best (r at lag 0), by_place and by_place_early (two volumes), by_place_late,
silent_share (of the selected), by subject.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from baselines.mind_animator import recipes
from baselines.mind_animator.decoding import Rows, held_out, load_rows
from data import cc2017
from data.cortex import OTHER
from data.film_averaging import reliability_by_area
from data.film_recipes import prepared
from data.shots import shots_of
from minddiffuser.config import REPOSITORY, Config, load
from minddiffuser.correlation import correlate_pairs
from minddiffuser.store import DataError, check_same_images, open_made

LAGS = (-1, 0, 1, 2, 3)
WRONG = 2  # volumes by which clips are paired too early or too late, for the look by place
PLACES = ("first", "second", "third", "later")
FORM, LEAST_SHOT, CPU = "corrected", 4, torch.device("cpu")


def main() -> None:
    """Look at each subject, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=REPOSITORY / "configs" / "miniature.yaml")
    path = parser.parse_args().config
    found: dict[str, dict[str, object]] = {}
    try:
        for subject in recipes.settings_of(load(path)).subjects:
            for name, value in look(path, subject).items():
                found.setdefault(name, {})[subject] = value
    except DataError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(found))


def look(path: Path, subject: str) -> dict[str, object]:
    """Measure a subject, and print its tables."""
    config = load(path)
    films = cc2017.films(config.cc2017).values()
    shots = shots_of([film for film in films if not film.is_test], recipes.settings_of(config).clips)
    r, by_place, silent = {}, {}, float("nan")
    for lag in LAGS:
        with TemporaryDirectory() as folder:
            changed = prepare(path, subject, lag, folder)
            rows = load_rows(changed, subject, FORM)
            Y = targets(config, rows)
            r[lag] = mean_r(decode(rows, Y), Y[rows.training])
            if lag == 0:
                for name, shift in (("right", 0), ("early", -WRONG), ("late", WRONG)):
                    by_place[name] = r_by_place(shifted(rows, shift), Y, shots)
                silent = print_reliability(changed, subject)
    best = max(r, key=lambda lag: r[lag])
    table = pd.DataFrame({"extra_lag": LAGS, "r": [r[lag] for lag in LAGS]})
    print(f"\n{subject}: latents of the first frame, training clips held out, by lag")
    print(table.round(3).to_string(index=False))
    print(f"{subject}: r of a clip by its place in its shot")
    print(pd.DataFrame(by_place).T.round(3).to_string(), flush=True)
    return {
        "best_lag": best,
        "share_of_best": round(r[0] / r[best], 3),
        "by_place": rounded(by_place["right"]),
        "by_place_early": rounded(by_place["early"]),
        "by_place_late": rounded(by_place["late"]),
        "silent_share": round(silent, 4),
    }


def prepare(path: Path, subject: str, lag: int, folder: str) -> Config:
    """Make rows with another lag in a folder of their own; give the configuration that they were made with."""
    changes = [f"execution.runs={folder}", f"experiment.mind_animator.voxels.extra_lag={lag}"]
    options = [word for change in changes for word in ("--set", change)]
    script = REPOSITORY / "data" / "05_prepare_films.py"
    command = [sys.executable, str(script), "--config", str(path), "--subject", subject, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return load(path, changes)


def targets(config: Config, rows: Rows) -> np.ndarray:
    """Read the latents of the first frames, (n_clips, n_units)."""
    with open_made(recipes.clips(config)) as file:
        check_same_images(rows.ids, file["stimulus_id"][:], "prepared.h5", file.filename)
        return file["z_mean"][:, 0].astype(np.float32).reshape(len(rows.ids), -1)


def decode(rows: Rows, Y: np.ndarray) -> np.ndarray:
    """Decode training clips while they are held out: (n_training, n_units)."""
    return held_out(rows, Y, CPU)


def mean_r(decoded: np.ndarray, true: np.ndarray) -> float:
    """Correlate over clips; the mean of the units that vary."""
    varies = np.ptp(true, axis=0) > 0
    return float(correlate_pairs(decoded[:, varies].T, true[:, varies].T).mean())


def shifted(rows: Rows, shift: int) -> Rows:
    """Pair each clip with the vertices of the one that is `shift` later in its film; at its ends with the nearest."""
    row = pd.Series(np.arange(len(rows.ids)))
    of_film = row.groupby(rows.ids // 1000)
    return rows._replace(X=rows.X[(row + shift).clip(of_film.transform("min"), of_film.transform("max"))])


def r_by_place(rows: Rows, Y: np.ndarray, shots: pd.Series) -> dict[str, float]:
    """Correlate each held-out clip over units, the mean of training clips taken off, and average by place in its shot.

    Parameters
    ----------
    rows : Rows
    Y : array of shape (n_clips, n_units)
    shots : Series of int
        By `stimulus_id`.
    """
    mean = Y[rows.training].mean(axis=0)
    r = correlate_pairs(decode(rows, Y) - mean, Y[rows.training] - mean)
    ids = rows.ids[rows.training]
    place = places(shots)[ids].to_numpy()
    is_long = shots.groupby(shots).transform("size")[ids].to_numpy() >= LEAST_SHOT
    last = len(PLACES) - 1
    return {name: float(r[is_long & (np.minimum(place, last) == k)].mean()) for k, name in enumerate(PLACES)}


def places(shots: pd.Series) -> pd.Series:
    """Give each clip its place in its shot, from 0, by `stimulus_id`."""
    return shots.groupby(shots).cumcount()


def print_reliability(config: Config, subject: str) -> float:
    """Print reliability by area; give the share of the selected vertices that are in no visual area."""
    with open_made(prepared(config, subject)) as file:
        table = reliability_by_area(file)
    print(f"\n{subject}: reliability (r of repetitions of a training film), and vertices that each form takes")
    print(table.to_string(index=False))
    return float(table.loc[table["area"] == OTHER, FORM].sum() / table[FORM].sum())


def rounded(values: dict[str, float]) -> list[float]:
    """Round to what is printed."""
    return [round(value, 3) for value in values.values()]


if __name__ == "__main__":
    main()
