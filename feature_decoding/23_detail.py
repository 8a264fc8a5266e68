"""Decode the detail target z from voxels (z = f_z(X) in the paper's algorithm 1).

    python feature_decoding/23_detail.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5` and `features/detail.h5`. Fits `decoders/detail.h5` on the training images and writes
`decoded/detail.h5` of the test images:

    z       (n_test, 4, height, width) float32
    stimulus_id  (n_test,)

With `decoding.restore_variance: train` it also writes `decoders/spread/detail.h5`, the spread of cross-validated
predictions, and `decoded/restored/detail.h5`, the same with its variance restored (variance.py).

Peak memory: 4.1 GB at the real size: voxels of the training images twice in float64, z, and a Gram matrix of voxels.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

from feature_decoding import recipes
from feature_decoding.decoders import decode_family, load_voxels, restore_family
from feature_decoding.ridge import Gram
from minddiffuser.cli import execute, parse
from minddiffuser.store import Artifact


def main(argv: list[str] | None = None) -> None:
    """Fit and apply the decoder of z for each subject."""
    run = parse(__doc__, argv)
    decoding = run.config.experiment.decoding
    for subject in run.subjects:
        decoder = Artifact(recipes.decoder(run.config, subject, "detail"))
        decoded = Artifact(recipes.decoded(run.config, subject, "detail"))
        wanted = [decoder, decoded]
        if decoding.restore_variance == "train":
            wanted += [Artifact(of(run.config, subject, "detail")) for of in (recipes.spread, recipes.restored)]
        done = [artifact.is_done(run.overwrite) for artifact in wanted]  # all: --overwrite deletes what is asked
        if all(done):
            print(f"{decoded.path} is there already")
            continue
        X, X_test = load_voxels(run.config, subject, decoding.test_scaling)
        z = decode_family(run, "detail", decoder, Gram(X, run.device), X_test, decoding.n_voxels_detail)
        if z is not None:
            if not decoded.is_done():
                decoded.write(z)
            print(f"{decoded.path}: {len(X_test)} test images")
        if decoding.restore_variance == "train":
            restore_family(run, subject, "detail", X, X_test)


if __name__ == "__main__":
    execute(main)
