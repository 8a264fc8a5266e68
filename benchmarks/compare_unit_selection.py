"""Compare two ways of selecting the units of a CLIP layer: ridge regression, and early stopping (as released).

    python benchmarks/compare_unit_selection.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5` and `features/structural.h5`, training images only, and scores every unit by both. Prints, for each
layer: rank correlation of the two scores over all units; overlap, the share of the units that one keeps and the other
keeps too (`units.keep`, .25, is what chance gives); and the mean score, |r| of held-out images, of what each keeps.
"""

from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from tqdm import tqdm

from feature_decoding.decoders import load_voxels
from feature_decoding.units import best_units, cross_validated_correlation, early_stopping, ridge
from feature_extraction.recipes import features as features_recipe
from minddiffuser.cli import execute, parse
from minddiffuser.config.method import layer_name
from minddiffuser.store import open_made

UNITS_PER_BLOCK = 2048


def main() -> None:
    """Score and compare for each subject."""
    run = parse(__doc__, None)
    experiment = run.config.experiment
    methods = {"ridge": partial(ridge, alpha=experiment.units.alpha), "early_stopping": early_stopping}
    for subject in run.subjects:
        rows = []
        with open_made(features_recipe(run.config, subject, "structural")) as features:
            X, X_test = load_voxels(run.config, subject, "train")
            for number in tqdm(experiment.structural.layers, desc=subject):
                layer = features[layer_name(number)][len(X_test) :].reshape(len(X), -1)
                blocks = np.array_split(layer, -(-layer.shape[1] // UNITS_PER_BLOCK), axis=1)
                scores, kept = {}, {}
                for name, make in methods.items():
                    parts = cross_validated_correlation(
                        X, (block.astype(np.float64) for block in blocks), experiment.units.n_folds, make
                    )
                    scores[name] = np.concatenate(list(parts))
                    kept[name] = best_units(scores[name], experiment.units.keep)
                a, b = scores.values()
                overlap = len(np.intersect1d(*kept.values())) / len(kept["ridge"])
                means = {f"{name} keeps r": scores[name][kept[name]].mean() for name in methods}
                rows.append(
                    {"layer": layer_name(number), "rank r": spearmanr(a, b).statistic, "overlap": overlap, **means}
                )
        print(f"{subject}\n{pd.DataFrame(rows).round(3).to_string(index=False)}\n")


if __name__ == "__main__":
    execute(main)
