"""Decode the semantic target c from voxels (specification section 4).

    python feature_decoding/22_semantic.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5` and `features/semantic.h5`. Fits `decoders/semantic.h5` on the training images and writes
`decoded/semantic.h5` of the test images:

    c       (n_test, 15, width) float32  token 0 is the same for every caption: its training mean, not decoded
    nsd_id  (n_test,)

Peak memory: voxels of the training images twice in float64, c, and a Gram matrix of voxels (1.1 GB at the real size).
"""

from feature_decoding.decoders import decode, fit_decoder, load_voxels, with_first_token
from feature_decoding.ridge import Gram
from minddiffuser.cli import execute, parse
from minddiffuser.store import Artifact, open_arrays


def main(argv: list[str] | None = None) -> None:
    """Fit and apply the decoder of c for each subject."""
    run = parse(__doc__, argv)
    decoding = run.config.experiment.decoding
    fitting = {"alpha": decoding.alpha, "n_voxels": decoding.n_voxels_semantic}
    for subject in run.subjects:
        folder = run.config.folder(subject)
        source, decoder_path = folder / "features" / "semantic.h5", folder / "decoders" / "semantic.h5"
        with open_arrays(source, "feature_extraction/11_semantic.py", subject) as features:
            X, X_test = load_voxels(folder, subject, features, decoding.test_scaling)
            gram = Gram(X, run.device)
            c, nsd_id = features["c"][:], features["nsd_id"][:]
        n_test = len(X_test)
        targets = c[n_test:, 1:].reshape(len(X), -1)  # (n_train, 14 * width), token-major

        artifact = Artifact(decoder_path, subject, fitting, [folder / "prepared.h5", source])
        if not fit_decoder(run, artifact, gram, targets, fitting["n_voxels"]):
            continue
        settings = {"test_scaling": decoding.test_scaling}
        decoded = Artifact(folder / "decoded" / "semantic.h5", subject, settings, [decoder_path])
        if decoded.is_done(run.overwrite):
            continue
        tokens = decode(decoder_path, subject, X_test)
        decoded.write({"c": with_first_token(tokens, c[n_test:]), "nsd_id": nsd_id[:n_test]})
        print(f"wrote {decoded.path}")


if __name__ == "__main__":
    execute(main)
