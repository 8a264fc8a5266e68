"""Decode the semantic target c from voxels (c = f_c(X) in the paper's algorithm 1).

    python feature_decoding/22_semantic.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5` and `features/semantic.h5`. Fits `decoders/semantic.h5` on the training images and writes
`decoded/semantic.h5` of the test images:

    c       (n_test, 15, width) float32  token 0 is the same for every caption: its training mean, not decoded
    stimulus_id  (n_test,)

With `decoding.restore_variance: train` it also writes `decoders/spread/semantic.h5`, the spread of cross-validated
predictions, and `decoded/restored/semantic.h5`, the same with its variance restored (variance.py).

Peak memory: 3.6 GB at the real size: voxels of the training images twice in float64, c, and a Gram matrix of voxels.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

from feature_decoding import recipes
from feature_decoding.decoders import decode_family, load_voxels, restore_family
from feature_decoding.ridge import Gram
from minddiffuser.cli import execute, parse
from minddiffuser.store import Artifact


def main(argv: list[str] | None = None) -> None:
    """Fit and apply the decoder of c for each subject."""
    run = parse(__doc__, argv)
    decoding = run.config.experiment.decoding
    for subject in run.subjects:
        decoder = Artifact(recipes.decoder(run.config, subject, "semantic"))
        decoded = Artifact(recipes.decoded(run.config, subject, "semantic"))
        wanted = [decoder, decoded]
        if decoding.restore_variance == "train":
            wanted += [Artifact(of(run.config, subject, "semantic")) for of in (recipes.spread, recipes.restored)]
        done = [artifact.is_done(run.overwrite) for artifact in wanted]  # all: --overwrite deletes what is asked
        if all(done):
            print(f"{decoded.path} is there already")
            continue
        X, X_test = load_voxels(run.config, subject, decoding.test_scaling)
        c = decode_family(run, "semantic", decoder, Gram(X, run.device), X_test, decoding.n_voxels_semantic)
        if c is not None:
            if not decoded.is_done():
                decoded.write(c)
            print(f"{decoded.path}: {len(X_test)} test images")
        if decoding.restore_variance == "train":
            restore_family(run, subject, "semantic", X, X_test)


if __name__ == "__main__":
    execute(main)
