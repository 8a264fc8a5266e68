"""How well each target is decoded: by unit and by image, from all voxels and from each ROI alone.

    python feature_decoding/25_accuracy.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5`, `features/`, `decoders/` and `decoded/`. Writes `decoded/accuracy.csv`, which the page of
`evaluation/43_report.py` draws:

    target, roi, measure, r, floor, n, ...  measure "unit": correlation over test images, mean over n units;
                                  measure "image": correlation over standardised units, mean over n test images;
                                  roi "all" is what reconstruction uses; the others are ridge regressions on all voxels
                                  of one ROI, with the penalty of unit selection; floor: the 95th percentile of
                                  r over 200 permutations of the test images
    deviation, error              of standardised decoded targets, in the rows of roi "all" and measure "unit": their
                                  deviation over test images, mean over units (the true ones have about 1; what is
                                  shrunk has less), and the mean squared error
    restored_deviation, restored_error  the same of `decoded/restored/`, where `decoding.restore_variance` is "train"
    target "voxels"               the square root of the ROI's median noise ceiling: the correlation that a perfect
                                  prediction of a voxel would have with the mean of three trials

Peak memory: 3 GB at the real size, for the regressions of 11 ROIs and one target of the training images.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pandas as pd

from data.recipes import prepared
from feature_decoding import recipes
from feature_decoding.accuracy import correlation_and_floor, ridge_operator
from feature_decoding.decoders import read_units
from feature_decoding.ridge import Scaler
from feature_extraction.recipes import features
from minddiffuser.cli import execute, parse
from minddiffuser.config import Config
from minddiffuser.config.method import EMBEDDING
from minddiffuser.progress import progress
from minddiffuser.store import Files, open_made

UNITS_AT_ONCE = 1024
SPREADS = ("deviation", "error", "restored_deviation", "restored_error")


def main(argv: list[str] | None = None) -> None:
    """Measure the accuracy of each subject's decoders."""
    run = parse(__doc__, argv, divides=False)
    for subject in run.subjects:
        output = Files(recipes.accuracy(run.config, subject))
        if output.is_done(run.overwrite):
            print(f"{output.recipe.path.with_suffix('.csv')} is there already")
            continue
        rois = list(run.config.experiment.data.roi_names)
        with open_made(prepared(run.config, subject)) as file:
            roi_of, ceiling = file["roi"][:].astype(str), file["noise_ceiling"][:]
        rows = [
            ("voxels", r, "unit", np.sqrt(np.median(ceiling[roi_of == r]) / 100), np.nan, sum(roi_of == r))
            for r in rois
        ]
        operators = open_operators(run.config, subject, roi_of)
        restores = run.config.experiment.decoding.restore_variance == "train"
        spreads = {}
        for name, Y, Y_test, decoded, restored in read_targets(run.config, subject, restores):
            scaler = Scaler.of(Y)
            true = scaler.apply(Y_test)
            spreads[name] = [*deviation_and_error(scaler.apply(decoded), true)]
            spreads[name] += deviation_and_error(scaler.apply(restored), true) if restored is not None else [np.nan] * 2
            for roi in progress(["all", *rois], desc=f"{subject} {name}"):
                predicted = scaler.apply(decoded) if roi == "all" else predict(operators[roi], scaler, Y)
                rows.append((name, roi, "unit", *correlation_and_floor(predicted, true, axis=0), Y.shape[1]))
                rows.append((name, roi, "image", *correlation_and_floor(predicted, true, axis=1), len(true)))
            del Y  # before the next target is read
        table = pd.DataFrame(rows, columns=["target", "roi", "measure", "r", "floor", "n"])
        joined = (table["roi"] == "all") & (table["measure"] == "unit")
        for k, column in enumerate(SPREADS):
            table.loc[joined, column] = [values[k] for values in spreads.values()]
        text = table.to_csv(index=False, float_format="%.4f")
        output.write({"accuracy.csv": text})
        joint = table[table["roi"] == "all"].pivot_table(
            index="target", columns="measure", values=["r", "floor"], sort=False
        )
        print(f"{subject}: mean correlation of decoded and true test targets, from all ROIs\n{joint.round(3)}\n")
        spread = table[joined].set_index("target")[list(SPREADS)].dropna(axis=1).round(3)
        print(
            f"{subject}: deviation (of true targets about 1) and squared error of standardised decoded ones\n{spread}\n"
        )


def open_operators(config: Config, subject: str, roi_of: np.ndarray) -> dict[str, np.ndarray]:
    """Regressions on the voxels of each ROI alone, from training to test images: (n_test, n_train) each."""
    with open_made(prepared(config, subject)) as file:
        is_test, found = file["is_test"][:], {}
        for roi in config.experiment.data.roi_names:
            columns = np.flatnonzero(roi_of == roi)
            first, last = columns[0], columns[-1]  # between them columns of other ROIs may lie, in data of one's own
            block = file["betas"][:, first : last + 1]
            train, test = (block[np.ix_(rows, columns - first)] for rows in (~is_test, is_test))
            scaler = Scaler.of(train)
            found[roi] = ridge_operator(scaler.apply(train), scaler.apply(test), config.experiment.units.alpha)
    return found


def predict(operator: np.ndarray, scaler: Scaler, Y: np.ndarray) -> np.ndarray:
    """Predict standardised targets of the test images from those of the training images, some units at a time."""
    found = np.empty((len(operator), Y.shape[1]))
    for start in range(0, Y.shape[1], UNITS_AT_ONCE):
        here = slice(start, start + UNITS_AT_ONCE)
        found[:, here] = operator @ Scaler(scaler.mean[here], scaler.std[here]).apply(Y[:, here])
    return found


def deviation_and_error(decoded: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Deviation over images, mean over units, and mean squared error, of standardised targets (n_images, n_units)."""
    return float(decoded.std(axis=0).mean()), float(np.mean((decoded - true) ** 2))


def read_targets(
    config: Config, subject: str, restores: bool
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Yield the name, the true targets of training and test images, the decoded and the restored ones (rows flat)."""
    for family in recipes.SCRIPTS:
        keys = [recipes.FAMILIES[family]] if family in recipes.FAMILIES else recipes.names_of(config, family)
        with ExitStack() as stack:
            true = stack.enter_context(open_made(features(config, subject, family)))
            decoded = stack.enter_context(open_made(recipes.decoded(config, subject, family)))
            restored = stack.enter_context(open_made(recipes.restored(config, subject, family))) if restores else None
            for key in keys:
                if key == EMBEDDING:
                    continue
                n_test, units = len(decoded[key]), np.arange(int(np.prod(true[key].shape[1:])))
                predicted = [file[key][:].reshape(n_test, -1) for file in (decoded, restored) if file]
                if key == "c":  # begin of text is not decoded
                    first = true[key].shape[2]
                    units, predicted = units[first:], [values[:, first:] for values in predicted]
                if family == "structural":
                    units = decoded[f"{key}_units"][:]
                Y_test = read_units(true[key], slice(n_test), units)
                Y = read_units(true[key], slice(n_test, None), units)
                yield key, Y, Y_test, predicted[0], predicted[1] if restores else None


if __name__ == "__main__":
    execute(main)
