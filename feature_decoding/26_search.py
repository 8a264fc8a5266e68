"""Choose the number of voxels and the penalty by cross-validation on the training images (optional).

    python feature_decoding/26_search.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5`, `features/` and `decoders/units.h5`; test images are not used. Folds are contiguous sets of images,
the grid is `experiment.search`, and of each target `n_units` random outputs are decoded. Writes

    decoders/search.csv  target, n_voxels, alpha, measure, r, ci_low, ci_high: correlation of decoded and true targets
                         on held-out images, with a 95 % interval over folds; measure "unit" across images, measure
                         "image" across units
    decoders/search.png  the curves

and prints the best of each target, and the best settings with one penalty for all targets, as they are written in the
configuration; nothing is changed by itself. The time goes into points with many voxels: 10 minutes a subject for the
miniature, about three hours for NSD's (by count of operations).

Peak memory: 4 GB at the real size: a fold's voxels in float64 and their Gram matrix.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import itertools
import json

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from feature_decoding import recipes
from feature_decoding.decoders import read_training_targets
from feature_decoding.search import best_settings, cross_validate
from minddiffuser import terminal
from minddiffuser.cli import execute, parse
from minddiffuser.figures import as_png
from minddiffuser.store import Files


def main(argv: list[str] | None = None) -> None:
    """Search each subject's grid."""
    run = parse(__doc__, argv, divides=False)
    search = run.config.experiment.search
    for subject in run.subjects:
        output = Files(recipes.search(run.config, subject))
        path = output.recipe.path.with_suffix(".csv")
        if output.is_done(run.overwrite):
            print(f"{path} is there already")
        else:
            betas, targets = read_training_targets(run.config, subject, search.n_units)
            table = cross_validate(betas, targets, search.alphas, search.n_voxels, search.n_folds, run.device)
            text = table.to_csv(index=False, float_format="%.4f")
            output.write({"search.csv": text, "search.png": draw(table, subject)})
        table = pd.read_csv(path)
        by_image = table[table["measure"] == "image"]
        best = by_image.loc[by_image.groupby("target", sort=False)["r"].idxmax()]
        print(f"{subject}: the best of each target")
        print(best.round(3).to_string(index=False, line_width=terminal.width()))
        kept = {"restore_variance": run.config.experiment.decoding.restore_variance}
        print(f"{subject}: the best with one penalty for all targets; in place of `decoding` in the configuration:")
        print(f"  decoding: {json.dumps(kept | best_settings(table))}\n".replace('"', ""))


def draw(table: pd.DataFrame, subject: str) -> bytes:
    """Draw r against the number of voxels, one line for each penalty, one panel for each target."""
    targets = list(table["target"].unique())
    figure, axes = plt.subplots(2, -(-len(targets) // 2), figsize=(13, 6), layout="constrained", sharex=True)
    for axis, target in itertools.zip_longest(axes.ravel(), targets):
        if target is None:
            axis.axis("off")
            continue
        part = table[(table["target"] == target) & (table["measure"] == "image")]
        alphas, sizes = part["alpha"].unique(), part["n_voxels"].unique()
        for colour, alpha in zip(plt.get_cmap("viridis")(np.linspace(0, 0.9, len(alphas))), alphas, strict=True):
            line = part[part["alpha"] == alpha]
            axis.plot(line["n_voxels"], line["r"], "o-", color=colour, label=f"{alpha:g}")
            axis.fill_between(line["n_voxels"], line["ci_low"], line["ci_high"], color=colour, alpha=0.15)
        axis.set(title=target, xscale="log", xlabel="voxels an output", ylabel="r by image")
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=7)
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(title="penalty", fontsize=7)
    figure.suptitle(f"{subject}: cross-validation on training images")
    return as_png(figure)


if __name__ == "__main__":
    execute(main)
