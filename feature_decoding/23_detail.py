"""Decode the detail target z from voxels (specification section 4).

    python feature_decoding/23_detail.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5` and `features/detail.h5`. Fits `decoders/detail.h5` on the training images and writes
`decoded/detail.h5` of the test images:

    z       (n_test, 4, height, width) float32
    nsd_id  (n_test,)

Peak memory: voxels of the training images twice in float64, z, and a Gram matrix of voxels (1.1 GB at the real size).
"""

from feature_decoding.decoders import decode, fit_decoder, load_voxels
from feature_decoding.ridge import Gram
from minddiffuser.cli import execute, parse
from minddiffuser.store import Artifact, open_arrays


def main(argv: list[str] | None = None) -> None:
    """Fit and apply the decoder of z for each subject."""
    run = parse(__doc__, argv)
    decoding = run.config.experiment.decoding
    fitting = {"alpha": decoding.alpha, "n_voxels": decoding.n_voxels_detail}
    for subject in run.subjects:
        folder = run.config.folder(subject)
        source, decoder_path = folder / "features" / "detail.h5", folder / "decoders" / "detail.h5"
        with open_arrays(source, "feature_extraction/12_detail.py", subject) as features:
            X, X_test = load_voxels(folder, subject, features, decoding.test_scaling)
            gram = Gram(X, run.device)
            z, nsd_id = features["z"][:], features["nsd_id"][:]
        n_test = len(X_test)
        targets = z[n_test:].reshape(len(X), -1)  # (n_train, 4 * height * width)

        artifact = Artifact(decoder_path, subject, fitting, [folder / "prepared.h5", source])
        if not fit_decoder(run, artifact, gram, targets, fitting["n_voxels"]):
            continue
        settings = {"test_scaling": decoding.test_scaling}
        decoded = Artifact(folder / "decoded" / "detail.h5", subject, settings, [decoder_path])
        if decoded.is_done(run.overwrite):
            continue
        latents = decode(decoder_path, subject, X_test).reshape(n_test, *z.shape[1:])
        decoded.write({"z": latents, "nsd_id": nsd_id[:n_test]})
        print(f"wrote {decoded.path}")


if __name__ == "__main__":
    execute(main)
