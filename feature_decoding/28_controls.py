"""Controls of the decoders: fitted to permuted images, from half of the trials, and tried on kinds they never saw.

    python feature_decoding/28_controls.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5`, `features/`, `decoders/` and `decoded/`. Writes

    decoded/permuted/  semantic.h5 (c) and detail.h5 (z) as `decoded/` has them, by decoders that were fitted to
                       voxels paired with other training images: what the method makes without the brain
    decoded/halves/    semantic.h5 and detail.h5, c and z of shape (n_test, 2, n_units), standardised, from each half
                       of an image's trials (NaN for images with one trial): what of the decoded features repeats
    decoded/splits.h5  <target>/<split>/<metric> (n_train,): cross-validation on training images, in random folds
                       ("naive_split") and in folds of whole k-means clusters of captions ("held_out_clusters");
                       cluster (n_train,)

What is decoded only because its like was seen in training is lost in the last (Shirakawa et al., arXiv 2405.10078).
Shards share the fitting of permuted decoders; the first does the rest. Peak memory: that of 22 and 23.
"""

from pathlib import Path

import numpy as np

from feature_decoding.decoders import decode, fit_decoder, load_voxels, read_training_targets, with_first_token
from feature_decoding.ridge import Gram, Scaler
from feature_decoding.splits import held_out_scores
from minddiffuser.cli import Run, execute, parse
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import Artifact, DataError, open_arrays


def main(argv: list[str] | None = None) -> None:
    """Make the controls of each subject's decoders."""
    run = parse(__doc__, argv)
    decoding = run.config.experiment.decoding
    for subject in run.subjects:
        for family, key, n_voxels, script in (
            ("semantic", "c", decoding.n_voxels_semantic, "11_semantic.py"),
            ("detail", "z", decoding.n_voxels_detail, "12_detail.py"),
        ):
            if run.shard.k == 1:
                halves(run, subject, family, key)
            permuted(run, subject, family, key, n_voxels, script)
        if run.shard.k == 1:
            splits(run, subject)


def permuted(run: Run, subject: str, family: str, key: str, n_voxels: int, script: str) -> None:
    """Fit decoders to permuted training images, and decode the test images with them."""
    experiment, folder = run.config.experiment, run.config.folder(subject)
    source, decoder_path = folder / "features" / f"{family}.h5", folder / "decoders" / "permuted" / f"{family}.h5"
    fitting = {"alpha": experiment.decoding.alpha, "n_voxels": n_voxels, "permuted": experiment.seed}
    artifact = Artifact(decoder_path, subject, fitting, [folder / "prepared.h5", source])
    settings = {"test_scaling": experiment.decoding.test_scaling}
    if not artifact.is_done(run.overwrite):
        with open_arrays(source, f"feature_extraction/{script}", subject) as features:
            X, _ = load_voxels(folder, subject, features, experiment.decoding.test_scaling)
            Y = features[key][len(features[key]) - len(X) :]
        order = numpy_generator(experiment.seed, "permuted decoders").permutation(len(X))
        Y = (Y[:, 1:] if key == "c" else Y).reshape(len(X), -1)[order]
        if not fit_decoder(run, artifact, Gram(X, run.device), Y, n_voxels):
            return
    decoded = Artifact(folder / "decoded" / "permuted" / f"{family}.h5", subject, settings, [decoder_path])
    if decoded.is_done(run.overwrite):
        return
    with open_arrays(source, f"feature_extraction/{script}", subject) as features:
        _, X_test = load_voxels(folder, subject, features, experiment.decoding.test_scaling)
        n_test, nsd_id = len(X_test), features["nsd_id"][: len(X_test)]
        values = decode(decoder_path, subject, X_test)
        if key == "c":
            values = with_first_token(values, features[key][n_test:])
        else:
            values = values.reshape(n_test, *features[key].shape[1:])
    decoded.write({key: values, "nsd_id": nsd_id})
    print(f"wrote {decoded.path}")


def splits(run: Run, subject: str) -> None:
    """Decode training images that are held out at random, and with all of their kind."""
    experiment, folder = run.config.experiment, run.config.folder(subject)
    decoding, controls = experiment.decoding, experiment.controls
    n_voxels = {"semantic": decoding.n_voxels_semantic, "detail": decoding.n_voxels_detail}
    settings = {"seed": experiment.seed, "alpha": decoding.alpha, "n_voxels": n_voxels}
    settings.update(controls.model_dump(include={"n_clusters", "n_folds", "n_units"}))
    inputs = [folder / "prepared.h5", *(folder / "features" / f"{family}.h5" for family in n_voxels)]
    output = Artifact(folder / "decoded" / "splits.h5", subject, settings, inputs)
    if output.is_done(run.overwrite):
        print(f"{output.path} is there already")
        return
    betas, targets = read_training_targets(folder, subject, experiment, controls.n_units, list(n_voxels))
    with open_arrays(folder / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
        arrays = {"nsd_id": prepared["nsd_id"][:][~prepared["is_test"][:]]}
    arrays["cluster"], scores = held_out_scores(
        betas, targets, targets["semantic"], controls, decoding.alpha, n_voxels, experiment.seed, run.device
    )
    for family, key in (("semantic", "c"), ("detail", "z")):
        for split, values in scores[family].items():
            arrays.update({f"{key}/{split}/{metric}": array for metric, array in values.items()})
            means = ", ".join(f"{metric} {array.mean():.3f}" for metric, array in values.items())
            print(f"{subject}: {key}, {split}, {len(betas)} training images: {means}")
    output.write(arrays)


def halves(run: Run, subject: str, family: str, key: str) -> None:
    """Decode the test images from each half of their trials."""
    folder, test_scaling = run.config.folder(subject), run.config.experiment.decoding.test_scaling
    decoder_path, settings = folder / "decoders" / f"{family}.h5", {"test_scaling": test_scaling}
    output = Artifact(folder / "decoded" / "halves" / f"{family}.h5", subject, settings, [decoder_path])
    if output.is_done(run.overwrite):
        return
    with open_arrays(folder / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
        if "betas_halves" not in prepared:
            raise DataError(
                f"{prepared.filename} is of an earlier version, without betas_halves; make it again with: "
                f"python data/02_prepare_subject.py --subject {subject} --overwrite"
            )
        is_test = prepared["is_test"][:]
        scaled_by = is_test if test_scaling == "test" else ~is_test
        scaler, nsd_id = Scaler.of(prepared["betas"][:][scaled_by]), prepared["nsd_id"][:][is_test]
        betas, n_repetitions = prepared["betas_halves"][:], prepared["n_repetitions"][:][is_test]
    decoded = [standardised(decoder_path, subject, scaler.apply(betas[:, half])) for half in (0, 1)]
    output.write({key: np.stack(decoded, axis=1), "nsd_id": nsd_id, "n_repetitions": n_repetitions})
    print(f"wrote {output.path}")


def standardised(decoder_path: Path, subject: str, X: np.ndarray) -> np.ndarray:
    """Decode, in units of the training images' deviations."""
    with open_arrays(decoder_path, "feature_decoding/22_semantic.py (or 23)", subject) as decoder:
        scaler = Scaler(decoder["mean"][:], decoder["std"][:])
    return scaler.apply(decode(decoder_path, subject, X)).astype(np.float32)


if __name__ == "__main__":
    execute(main)
