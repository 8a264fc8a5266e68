"""How well each target is decoded: by unit and by image, from all voxels and from each ROI alone.

    python feature_decoding/25_accuracy.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5`, `features/`, `decoders/` and `decoded/`. Writes `decoded/accuracy.csv` and `decoded/accuracy.png`:

    target, roi, measure, r, floor, n  measure "unit": correlation over test images, mean over n units;
                                  measure "image": correlation over standardised units, mean over n test images;
                                  roi "all" is what reconstruction uses; the others are ridge regressions on all voxels
                                  of one ROI, with the penalty of unit selection; floor: the 95th percentile of
                                  r over 200 permutations of the test images
    target "voxels"               the square root of the ROI's median noise ceiling: the correlation that a perfect
                                  prediction of a voxel would have with the mean of three trials

Peak memory: one target of all images, in float64 (2.7 GB for a CLIP layer at the real size).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sklearn.linear_model import Ridge
from tqdm import tqdm

from feature_decoding.accuracy import correlation_and_floor
from feature_decoding.decoders import load_voxels
from feature_decoding.ridge import Scaler
from minddiffuser.cli import execute, parse
from minddiffuser.config import layer_name
from minddiffuser.figures import save_figure
from minddiffuser.store import open_arrays, write_atomically


def main(argv: list[str] | None = None) -> None:
    """Measure and draw the accuracy of each subject's decoders."""
    run = parse(__doc__, argv)
    experiment = run.config.experiment
    for subject in run.subjects:
        folder = run.config.folder(subject)
        with open_arrays(folder / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
            roi_of, ceiling = prepared["roi"][:].astype(str), prepared["noise_ceiling"][:]
        rois = list(experiment.data.rois)
        rows = [
            ("voxels", r, "unit", np.sqrt(np.median(ceiling[roi_of == r]) / 100), np.nan, sum(roi_of == r))
            for r in rois
        ]
        layers = [layer_name(number) for number in experiment.structural.layers]
        targets = list(read_targets(folder, subject, layers, experiment.decoding.test_scaling))
        for name, X, X_test, Y, Y_test, decoded in tqdm(targets, desc=f"{subject} accuracy"):
            scaler = Scaler.of(Y)
            Y, Y_test = scaler.apply(Y), scaler.apply(Y_test)
            predictions = {"all": scaler.apply(decoded)}
            for roi in rois:
                ridge = Ridge(alpha=experiment.units.alpha).fit(X[:, roi_of == roi], Y)
                predictions[roi] = ridge.predict(X_test[:, roi_of == roi])
            for roi, predicted in predictions.items():
                rows.append((name, roi, "unit", *correlation_and_floor(predicted, Y_test, axis=0), Y.shape[1]))
                rows.append((name, roi, "image", *correlation_and_floor(predicted, Y_test, axis=1), len(Y_test)))
        table = pd.DataFrame(rows, columns=["target", "roi", "measure", "r", "floor", "n"])
        write_atomically(folder / "decoded" / "accuracy.csv", table.to_csv(index=False, float_format="%.4f"))
        draw(table, subject, folder / "decoded" / "accuracy.png")
        joint = table[table["roi"] == "all"].pivot_table(
            index="target", columns="measure", values=["r", "floor"], sort=False
        )
        print(f"{subject}: mean correlation of decoded and true test targets, from all ROIs\n{joint.round(3)}\n")


def read_targets(folder: Path, subject: str, layers: list[str], test_scaling: str) -> Iterator[tuple]:
    """Yield name, training and test voxels, true training and test targets, and decoded test targets (rows flat)."""
    for name, extractor, decoder in (
        ("semantic", "feature_extraction/11_semantic.py", "feature_decoding/22_semantic.py"),
        ("detail", "feature_extraction/12_detail.py", "feature_decoding/23_detail.py"),
        ("structural", "feature_extraction/13_structural.py", "feature_decoding/24_structural.py"),
    ):
        with (
            open_arrays(folder / "features" / f"{name}.h5", extractor, subject) as features,
            open_arrays(folder / "decoded" / f"{name}.h5", decoder, subject) as decoded,
        ):
            X, X_test = load_voxels(folder, subject, features, test_scaling)
            for key in {"semantic": ["c"], "detail": ["z"], "structural": layers}[name]:
                true, predicted = features[key][:], decoded[key][:]
                if key == "c":
                    true, predicted = true[:, 1:], predicted[:, 1:]  # begin of text is not decoded
                true, predicted = true.reshape(len(true), -1), predicted.reshape(len(predicted), -1)
                if key in layers:
                    true = true[:, decoded[f"{key}_units"][:]]
                true = true.astype(np.float64)
                yield key, X, X_test, true[len(X_test) :], true[: len(X_test)], predicted


def draw(table: pd.DataFrame, subject: str, path: Path) -> None:
    """Draw bars by ROI for each target, the joint decoder first, with the ceiling of the ROI's voxels."""
    targets = [name for name in table["target"].unique() if name != "voxels"]
    rois = list(table["roi"][table["target"] == targets[0]].unique())
    figure, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
    colours = [plt.get_cmap("viridis")(x) for x in np.linspace(0, 0.92, len(targets))]
    for axis, measure, title in zip(
        axes, ("unit", "image"), ("by unit, across test images", "by image, across units"), strict=True
    ):
        for k, (name, colour) in enumerate(zip(targets, colours, strict=True)):
            part = table[(table["target"] == name) & (table["measure"] == measure)].set_index("roi")["r"]
            axis.bar(
                np.arange(len(rois)) + (k - len(targets) / 2 + 0.5) / 10, part[rois], 0.1, color=colour, label=name
            )
        voxels = table[table["target"] == "voxels"].set_index("roi")["r"]
        if measure == "unit":
            axis.plot(
                np.arange(1, len(rois)), voxels[rois[1:]], "_", color="crimson", ms=22, label="voxels' noise ceiling"
            )
        axis.set(ylabel="correlation", title=f"{subject}: {title}")
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].set_xticks(range(len(rois)), ["all ROIs", *rois[1:]])
    axes[0].legend(ncols=1, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    save_figure(figure, path)


if __name__ == "__main__":
    execute(main)
