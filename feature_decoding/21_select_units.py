"""Choose the quarter of each CLIP layer's units that is decoded (as in the authors' released code).

    python feature_decoding/21_select_units.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5` and `features/structural.h5`, training images only. Writes `decoders/units.h5`, for each layer:

    linear_02_units   (n_kept,)   sorted indices into the flattened layer, token-major
    linear_02_scores  (n_units,)  cross-validated |r| of every unit

Peak memory: 4.8 GB at the real size: voxels of the training images, a fold's twice more, Gram matrices of images, and
2,048 units.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

from functools import partial

import numpy as np

from feature_decoding import recipes
from feature_decoding.decoders import load_voxels
from feature_decoding.units import best_units, cross_validated_correlation, early_stopping, ridge
from feature_extraction.recipes import features
from minddiffuser.cli import execute, parse
from minddiffuser.config.method import layer_name
from minddiffuser.progress import progress
from minddiffuser.store import Artifact, open_made

UNITS_PER_BLOCK = 2048


def main(argv: list[str] | None = None) -> None:
    """Select units for each subject."""
    run = parse(__doc__, argv, divides=False)
    experiment = run.config.experiment
    units = experiment.units
    make = partial(ridge, alpha=units.alpha) if units.method == "ridge" else early_stopping
    for subject in run.subjects:
        artifact = Artifact(recipes.units(run.config, subject))
        if artifact.is_done(run.overwrite):
            print(f"{artifact.path} is there already")
            continue
        selected = {}
        with open_made(features(run.config, subject, "structural")) as file:
            X, X_test = load_voxels(run.config, subject, "train")
            train = slice(len(X_test), None)  # test images come first in every file
            for number in experiment.structural.layers:
                name = layer_name(number)
                n_units = int(np.prod(file[name].shape[1:]))
                token_width = file[name].shape[2]
                tokens_per_block = max(UNITS_PER_BLOCK // token_width, 1)
                starts = range(0, n_units // token_width, tokens_per_block)
                blocks = (
                    file[name][train, s : s + tokens_per_block].reshape(len(X), -1).astype(np.float64)
                    for s in progress(starts, desc=f"{subject} {name}")
                )
                scores = np.concatenate(list(cross_validated_correlation(X, blocks, units.n_folds, make)))
                selected[f"{name}_units"] = best_units(scores, units.keep)
                selected[f"{name}_scores"] = scores
        artifact.write(selected)
        print(f"wrote {artifact.path}")


if __name__ == "__main__":
    execute(main)
