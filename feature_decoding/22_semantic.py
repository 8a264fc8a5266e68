"""Decode the semantic target c from voxels (specification section 4).

    python feature_decoding/22_semantic.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5` and `features/semantic.h5`. Fits `decoders/semantic.h5` on the training images and writes
`decoded/semantic.h5` of the test images:

    c       (n_test, 15, width) float32  token 0 is the same for every caption: its training mean, not decoded
    nsd_id  (n_test,)

Peak memory: 3.6 GB at the real size: voxels of the training images twice in float64, c, and a Gram matrix of voxels.
"""

from feature_decoding import recipes
from feature_decoding.decoders import decode, fit_decoder, load_voxels, with_first_token
from feature_decoding.ridge import Gram
from feature_extraction.recipes import features
from minddiffuser.cli import execute, parse
from minddiffuser.store import Artifact, open_made


def main(argv: list[str] | None = None) -> None:
    """Fit and apply the decoder of c for each subject."""
    run = parse(__doc__, argv)
    decoding = run.config.experiment.decoding
    for subject in run.subjects:
        decoder = Artifact(recipes.decoder(run.config, subject, "semantic"))
        decoded = Artifact(recipes.decoded(run.config, subject, "semantic"))
        if decoder.is_done(run.overwrite) and decoded.is_done(run.overwrite):
            print(f"{decoded.path} is there already")
            continue
        X, X_test = load_voxels(run.config, subject, decoding.test_scaling)
        with open_made(features(run.config, subject, "semantic")) as file:
            n_test = len(X_test)
            nsd_id, first, c = file["nsd_id"][:n_test], file["c"][n_test:, :1], file["c"][n_test:, 1:]
        targets = c.reshape(len(X), -1)  # (n_train, 14 * width), token-major
        if not fit_decoder(run, decoder, Gram(X, run.device), targets, decoding.n_voxels_semantic):
            continue
        if not decoded.is_done(run.overwrite):
            tokens = decode(decoder.recipe, X_test)
            decoded.write({"c": with_first_token(tokens, first), "nsd_id": nsd_id})
        print(f"{decoded.path}: {n_test} test images")


if __name__ == "__main__":
    execute(main)
