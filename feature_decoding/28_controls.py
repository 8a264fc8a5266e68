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
Shards share the fitting of permuted decoders; the first does the rest.
Peak memory: 5 GB at the real size.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import numpy as np

from data.recipes import prepared
from feature_decoding import recipes
from feature_decoding.decoders import decode, decode_family, load_voxels, read_training_targets
from feature_decoding.ridge import Gram, Scaler
from feature_decoding.splits import held_out_scores
from minddiffuser.cli import Run, execute, parse
from minddiffuser.recipe import Recipe
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import Artifact, open_made


def main(argv: list[str] | None = None) -> None:
    """Make the controls of each subject's decoders."""
    run = parse(__doc__, argv)
    for subject in run.subjects:
        for family in recipes.FAMILIES:
            if run.shard.k == 1:
                halves(run, subject, family)
            permuted(run, subject, family)
        if run.shard.k == 1:
            splits(run, subject)


def permuted(run: Run, subject: str, family: str) -> None:
    """Fit decoders to permuted training images, and decode the test images with them."""
    experiment = run.config.experiment
    decoder = Artifact(recipes.permuted_decoder(run.config, subject, family))
    decoded = Artifact(recipes.permuted(run.config, subject, family))
    if decoder.is_done(run.overwrite) and decoded.is_done(run.overwrite):
        print(f"{decoded.path} is there already")
        return
    X, X_test = load_voxels(run.config, subject, experiment.decoding.test_scaling)
    order = numpy_generator(experiment.seed, "permuted decoders").permutation(len(X))
    n_voxels = recipes.n_voxels(run.config)[family][1]
    arrays = decode_family(run, family, decoder, Gram(X, run.device), X_test, n_voxels, order)
    if arrays is None:
        return
    if not decoded.is_done(run.overwrite):
        decoded.write(arrays)
    print(f"{decoded.path}: {len(X_test)} test images")


def splits(run: Run, subject: str) -> None:
    """Decode training images that are held out at random, and with all of their kind."""
    experiment = run.config.experiment
    controls, counts = experiment.controls, recipes.n_voxels(run.config)
    output = Artifact(recipes.splits(run.config, subject))
    if output.is_done(run.overwrite):
        print(f"{output.path} is there already")
        return
    betas, targets = read_training_targets(run.config, subject, controls.n_units, list(recipes.FAMILIES))
    with open_made(prepared(run.config, subject)) as rows:
        arrays = {"stimulus_id": rows["stimulus_id"][:][~rows["is_test"][:]]}
    n_voxels = {family: counts[family][1] for family in recipes.FAMILIES}
    arrays["cluster"], scores = held_out_scores(
        betas, targets, targets["semantic"], controls, experiment.decoding.alpha, n_voxels, experiment.seed, run.device
    )
    for family, key in recipes.FAMILIES.items():
        for split, values in scores[family].items():
            arrays.update({f"{key}/{split}/{metric}": array for metric, array in values.items()})
            means = ", ".join(f"{metric} {array.mean():.3f}" for metric, array in values.items())
            print(f"{subject}: {key}, {split}, {len(betas)} training images: {means}")
    output.write(arrays)


def halves(run: Run, subject: str, family: str) -> None:
    """Decode the test images from each half of their trials."""
    output = Artifact(recipes.halves(run.config, subject, family))
    if output.is_done(run.overwrite):
        print(f"{output.path} is there already")
        return
    with open_made(prepared(run.config, subject)) as rows:
        is_test = rows["is_test"][:]
        scaled_by = is_test if run.config.experiment.decoding.test_scaling == "test" else ~is_test
        scaler, stimulus_id = Scaler.of(rows["betas"][:][scaled_by]), rows["stimulus_id"][:][is_test]
        betas, n_repetitions = rows["betas_halves"][:], rows["n_repetitions"][:][is_test]
    decoder = recipes.decoder(run.config, subject, family)
    decoded = [standardised(decoder, scaler.apply(betas[:, half])) for half in (0, 1)]
    key = recipes.FAMILIES[family]
    output.write({key: np.stack(decoded, axis=1), "stimulus_id": stimulus_id, "n_repetitions": n_repetitions})
    print(f"{output.path}: {len(stimulus_id)} test images")


def standardised(decoder: Recipe, X: np.ndarray) -> np.ndarray:
    """Decode, in units of the training images' deviations."""
    with open_made(decoder) as file:
        scaler = Scaler(file["mean"][:], file["std"][:])
    return scaler.apply(decode(decoder, X)).astype(np.float32)


if __name__ == "__main__":
    execute(main)
