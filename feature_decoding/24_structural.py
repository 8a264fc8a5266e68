"""Decode the structural target Z_CLIP from voxels, at the selected units (Z_CLIP in algorithm 1).

    python feature_decoding/24_structural.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5`, `features/structural.h5` and `decoders/units.h5`. Fits `decoders/linear_02.h5` ... on the
training images and writes `decoded/structural.h5` of the test images:

    linear_02 ... linear_12  (n_test, n_kept) float32  at the units of `decoders/units.h5`
    linear_02_units ...      (n_kept,)                 those units, into the flattened layer
    embedding                (n_test, dimensions)      decoded only where experiment.guidance.embedding_weight > 0
    stimulus_id              (n_test,)

With `decoding.restore_variance: train` also `decoders/spread/`, the spread of cross-validated predictions, and
`decoded/restored/structural.h5`: the layers with their variance restored (feature_decoding/variance.py), and
<layer>_mean and <layer>_std (n_kept,) of the training images, the units in which `guidance.loss: variance_restored`
measures.

Peak memory: 3.8 GB at the real size: voxels of the training images twice in float64, a quarter of one layer, and a
Gram matrix of voxels.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools

import h5py
import numpy as np

from feature_decoding import recipes
from feature_decoding.decoders import decode, fit_decoder, load_voxels, read_units
from feature_decoding.ridge import Gram
from feature_decoding.spread import measure_spread
from feature_extraction.recipes import features
from minddiffuser.cli import execute, parse
from minddiffuser.config.method import EMBEDDING
from minddiffuser.store import Artifact, open_made


def main(argv: list[str] | None = None) -> None:
    """Fit and apply the decoders of the CLIP layers for each subject."""
    run = parse(__doc__, argv)
    config, decoding = run.config, run.config.experiment.decoding
    names = recipes.names_of(config, "structural")
    restores = decoding.restore_variance == "train"
    for subject in run.subjects:
        decoders = {name: Artifact(recipes.decoder(config, subject, name)) for name in names}
        spreads = {name: Artifact(recipes.spread(config, subject, name)) for name in names if name != EMBEDDING}
        decoded = Artifact(recipes.decoded(config, subject, "structural"))
        restored = Artifact(recipes.restored(config, subject, "structural"))
        wanted = [*decoders.values(), decoded, *([*spreads.values(), restored] if restores else [])]
        done = [artifact.is_done(run.overwrite) for artifact in wanted]  # all: --overwrite deletes what is asked
        if all(done):
            print(f"{decoded.path} is there already")
            continue
        X, X_test = load_voxels(config, subject, decoding.test_scaling)
        gram, train = Gram(X, run.device), slice(len(X_test), None)  # test images come first in every file
        with (
            open_made(features(config, subject, "structural")) as file,
            open_made(recipes.units(config, subject)) as selection,
        ):
            constants = {"stimulus_id": file["stimulus_id"][: len(X_test)]}
            for name in names:
                units = np.arange(file[name].shape[1]) if name == EMBEDDING else selection[f"{name}_units"][:]
                constants[f"{name}_units"] = units
                if not decoders[name].path.exists():
                    targets, n_voxels = read_units(file[name], train, units), recipes.n_voxels(config)[name][1]
                    fit_decoder(run, decoders[name], gram, targets, n_voxels)
            del gram  # before the folds have theirs
            if restores:
                missing = {name: spread for name, spread in spreads.items() if not spread.path.exists()}
                n_voxels = {name: recipes.n_voxels(config)[name][1] for name in missing}
                read = functools.partial(read_layer, file, train, constants)
                if missing:
                    measure_spread(run, missing, X, read, n_voxels)
        if not all(decoder.path.exists() for decoder in decoders.values()):
            continue
        if not decoded.is_done():
            decoded.write({**constants, **{name: decode(decoders[name].recipe, X_test) for name in names}})
        print(f"{decoded.path}: {len(X_test)} test images")
        if restores and all(spread.path.exists() for spread in spreads.values()) and not restored.is_done():
            restored.write(constants | restore(decoders, spreads, X_test, decoding.restore_strength))


def read_layer(file: h5py.File, train: slice, units: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Read a layer of the training images at its selected units."""
    return read_units(file[name], train, units[f"{name}_units"])


def restore(
    decoders: dict[str, Artifact], spreads: dict[str, Artifact], X_test: np.ndarray, strength: float
) -> dict[str, np.ndarray]:
    """Decode the layers with their variance restored; with them go the statistics of the training targets."""
    arrays = {}
    for name, spread in spreads.items():
        arrays[name] = decode(decoders[name].recipe, X_test, spread.recipe, strength)
        with open_made(decoders[name].recipe) as file:
            arrays |= {f"{name}_{statistic}": file[statistic][:] for statistic in ("mean", "std")}
    return arrays


if __name__ == "__main__":
    execute(main)
