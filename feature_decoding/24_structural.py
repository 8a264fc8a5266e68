"""Decode the structural target Z_CLIP from voxels, at the selected units (specification section 4).

    python feature_decoding/24_structural.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5`, `features/structural.h5` and `decoders/units.h5`. Fits `decoders/linear_02.h5` ... on the
training images and writes `decoded/structural.h5` of the test images:

    linear_02 ... linear_12  (n_test, n_kept) float32  at the units of `decoders/units.h5`
    linear_02_units ...      (n_kept,)                 those units, into the flattened layer
    embedding                (n_test, dimensions)      decoded only where experiment.guidance.embedding_weight > 0
    nsd_id                   (n_test,)

Peak memory: 3.8 GB at the real size: voxels of the training images twice in float64, a quarter of one layer, and a
Gram matrix of voxels.
"""

import numpy as np

from feature_decoding import recipes
from feature_decoding.decoders import decode, fit_decoder, load_voxels, read_units
from feature_decoding.ridge import Gram
from feature_extraction.recipes import features
from minddiffuser.cli import execute, parse
from minddiffuser.config.method import EMBEDDING
from minddiffuser.store import Artifact, open_made


def main(argv: list[str] | None = None) -> None:
    """Fit and apply the decoders of the CLIP layers for each subject."""
    run = parse(__doc__, argv)
    config, decoding = run.config, run.config.experiment.decoding
    names = recipes.names_of(config, "structural")
    for subject in run.subjects:
        decoders = {name: Artifact(recipes.decoder(config, subject, name)) for name in names}
        decoded = Artifact(recipes.decoded(config, subject, "structural"))
        done = [decoder.is_done(run.overwrite) for decoder in decoders.values()]
        if all(done) and decoded.is_done(run.overwrite):
            print(f"{decoded.path} is there already")
            continue
        X, X_test = load_voxels(config, subject, decoding.test_scaling)
        gram, train = Gram(X, run.device), slice(len(X_test), None)  # test images come first in every file
        with (
            open_made(features(config, subject, "structural")) as file,
            open_made(recipes.units(config, subject)) as selection,
        ):
            arrays = {"nsd_id": file["nsd_id"][: len(X_test)]}
            for name in names:
                units = np.arange(file[name].shape[1]) if name == EMBEDDING else selection[f"{name}_units"][:]
                arrays[f"{name}_units"] = units
                if not decoders[name].path.exists():
                    targets, n_voxels = read_units(file[name], train, units), recipes.n_voxels(config)[name][1]
                    fit_decoder(run, decoders[name], gram, targets, n_voxels)
        if not all(decoder.path.exists() for decoder in decoders.values()):
            continue
        if not decoded.is_done(run.overwrite):
            decoded.write({**arrays, **{name: decode(decoders[name].recipe, X_test) for name in names}})
        print(f"{decoded.path}: {len(X_test)} test images")


if __name__ == "__main__":
    execute(main)
