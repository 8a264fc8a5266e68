"""Semantic Brain Decoding (Ferrante et al. 2022), first half: from voxels to the label of what was seen.

    python baselines/semantic_brain_decoding/29_decode_labels.py [--config configs/miniature.yaml] [--subject Subject1]

Of Generic Object Decoding: single trials of training images, scaled by run, are regressed on the pooled features of a
network (ridge regression on all voxels); those decoded of each test image, whose trials are averaged, are looked up in
the bank of ImageNet. The nearest image's class is the label. `experiment.semantic_brain_decoding` has the settings, and
`CONCEPT_FORMS` in minddiffuser/config/semantic_brain_decoding.py what sets the forms apart; "classifier" takes the
network's own last layer instead of the bank.

Reads the dataset in `execution.god`, with its stimuli, and `runs/<name>/bank/<network>.h5`. Writes
`runs/<name>/<subject>/semantic_brain_decoding/decoded/<form>.h5`:

    stimulus_id      (n_test,) int64, 1443537022563 for image n01443537_22563; image_name, n_repetitions (n_test,)
    features         (n_test, n_features) float32
    classes          (n_test, n_labels) int64, the first is the label; rows of class_wnid, class_label (n_classes,)
    classes_of_stimuli   (n_test, n_labels), the labels of the images' own features: what perfect decoding would reach
    training_wnid    (n_categories,), the categories of the training images
    validation_wnid, validation_classes   (n,) and (n, n_labels), of trials that were not fitted, where there are some
    mse_training, mse_validation, mse_test, mse_test_raw   mean squared errors of features; raw: before their variance
                     was restored

The first classifier label is that of the features with restored variance, too; the authors' pictures of it were not.
Peak memory: 3 GB at the real size: the recording four times in float64, and 0.4 GB of the bank at a time.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np

from baselines.regression import fit_predict, fold_predictions
from baselines.semantic_brain_decoding import recipes
from baselines.semantic_brain_decoding.features import BATCH_AS_RELEASED, pooled_features, read_prepared
from baselines.semantic_brain_decoding.neighbours import nearest
from data import god
from data.god_trials import average, split, standardise_runs
from feature_decoding.ridge import Scaler
from feature_decoding.variance import restore_variance, spread_of_averages
from minddiffuser.cli import Run, concept_subjects, execute, parse
from minddiffuser.config.semantic_brain_decoding import SemanticBrainDecoding, concept_form
from minddiffuser.pretrained.pooled import open_pooled_network
from minddiffuser.progress import progress
from minddiffuser.store import Artifact, open_made

FeaturesOf = Callable[[Path, Sequence[str] | np.ndarray, str], np.ndarray]


def main(argv: list[str] | None = None) -> None:
    """Decode each subject's test images, in each form."""
    run = parse(__doc__, argv, subjects_of=concept_subjects, divides=False)
    settings = run.config.experiment.semantic_brain_decoding
    if settings is None:
        print("experiment.semantic_brain_decoding is null: nothing to do")
        return
    features_of = open_features(run, settings)
    with open_made(recipes.bank(run.config)) as bank:
        for subject in run.subjects:
            for name in settings.forms:
                decode_labels(run, subject, name, concept_form(settings, name), bank, features_of)


def decode_labels(
    run: Run, subject: str, name: str, form: SemanticBrainDecoding, bank: h5py.File, features_of: FeaturesOf
) -> None:
    """Decode a subject's test images in one form."""
    config, stimuli = run.config, run.config.god / "images"
    output = Artifact(recipes.labels(config, subject, name, god.fingerprint(config.god, subject)))
    if output.is_done(run.overwrite):
        print(f"{output.path} is there already")
        return
    recording = god.read_subject(config.god, subject, form.roi)
    is_training, is_test = (recording.data_type == kind for kind in (god.TRAINING, god.PERCEPTION))
    scaled = standardise_runs(recording.X, recording.data_type, recording.run, form.run_grouping)
    X, shown = scaled[is_training], recording.image[is_training]  # single trials
    X_test, seen = scaled[is_test], recording.image[is_test]
    images = recording.training_images
    names, wnids = np.array(images.names)[shown], np.array(images.wnids)[shown]

    fitted, left_out = split(len(X)) if form.training_rows == "split" else (np.arange(len(X)), np.zeros(0, int))
    Y = features_of(stimuli / "training", names[fitted], form.batch_norm)
    predicted = fit_predict(X[fitted], Y, np.concatenate([X[fitted], X[left_out], X_test]), form.alpha)
    of_training, of_left_out, of_test = np.split(predicted, [len(fitted), len(fitted) + len(left_out)])
    # What averaged voxels would give: all is linear.
    raw, n_repetitions = average(of_test, seen, len(recording.test_images.ids))
    if form.restore_variance == "train":
        held_out, by_folds = fold_predictions(X[fitted], Y, X_test, form.alpha, config.experiment.seed)
        factor = spread_of_averages(held_out, by_folds, of_test, seen)[:, None]
        features = restore_variance(raw, Scaler.of(held_out), Scaler.of(Y), factor)
    else:
        test = form.restore_variance == "test"
        features = restore_variance(raw, Scaler.of(raw), Scaler.of(Y)) if test else raw

    ids = [*recording.training_images.ids, *recording.test_images.ids]
    excluded = np.zeros(len(bank["image"]), bool) if form.bank_has_stimuli else np.isin(bank["image"][:], ids)
    label = look_up if form.labels == "neighbours" else classify
    Y_test = features_of(stimuli / "test", recording.test_images.names, form.batch_norm)
    text = h5py.string_dtype()
    arrays = {
        "stimulus_id": recording.test_images.ids,
        "image_name": np.array(recording.test_images.names, text),
        "n_repetitions": n_repetitions,
        "features": features.astype(np.float32),
        "classes": label(features, bank, excluded, form.n_labels),
        "classes_of_stimuli": label(Y_test, bank, excluded, form.n_labels),
        "class_wnid": bank["class_wnid"][:],
        "class_label": bank["class_label"][:],
        "training_wnid": np.array(sorted(set(wnids)), text),
        "mse_training": np.mean((of_training - Y) ** 2),
        "mse_test": np.mean((features - Y_test) ** 2),
        "mse_test_raw": np.mean((raw - Y_test) ** 2),
    }
    if len(left_out):
        Y_left_out = features_of(stimuli / "training", names[left_out], form.batch_norm)
        arrays["mse_validation"] = np.mean((of_left_out - Y_left_out) ** 2)
        arrays["validation_wnid"] = wnids[left_out].astype(text)
        arrays["validation_classes"] = label(of_left_out, bank, excluded, form.n_labels)
    output.write(arrays)
    print(
        f"{output.path}: {len(raw)} test images from {len(fitted)} trials of {X.shape[1]} voxels; squared error "
        f"{arrays['mse_test_raw']:.4f}, {arrays['mse_test']:.4f} with restored variance; deviation of features "
        f"{features.std(axis=0).mean() / Y.std(axis=0).mean():.2f} of the training images'"
    )


def open_features(run: Run, settings: SemanticBrainDecoding) -> FeaturesOf:
    """Give a function from a folder, n names of pictures, and the statistics to use, to features (n, n_features)."""
    experiment, execution = run.config.experiment, run.config.execution
    network = functools.cache(
        lambda: open_pooled_network(settings.network, experiment.models, execution.torch_hub, run.device)
    )
    known: dict[Path, np.ndarray] = {}  # all subjects saw the same images

    def compute(paths: Sequence[Path], batch_size: int, batch_norm: str) -> np.ndarray:
        bar = progress(read_prepared(paths, settings.image_size), total=len(paths), desc="features of stimuli")
        return pooled_features(network(), bar, batch_size, run.device, batch_norm)

    def features_of(folder: Path, names: Sequence[str] | np.ndarray, batch_norm: str) -> np.ndarray:
        paths = [folder / name for name in names]
        if batch_norm == "training":  # depends on the order
            return compute(paths, BATCH_AS_RELEASED, batch_norm)
        if new := sorted(set(paths) - set(known)):
            known.update(zip(new, compute(new, execution.batch_size.encode, batch_norm), strict=True))
        return np.stack([known[path] for path in paths])

    return features_of


def look_up(features: np.ndarray, bank: h5py.File, excluded: np.ndarray, n_labels: int) -> np.ndarray:
    """Classes of the nearest images of the bank: (n, n_labels)."""
    rows, _ = nearest(
        features, bank["features"], n_labels, excluded, progress=lambda chunks: progress(chunks, desc="neighbours")
    )
    return bank["class_index"][:][rows]


def classify(features: np.ndarray, bank: h5py.File, _excluded: np.ndarray, n_labels: int) -> np.ndarray:
    """Classes that the last layer of the network finds most likely: (n, n_labels)."""
    scores = features @ bank["head_weight"][:].T + bank["head_bias"][:]
    return np.argsort(-scores, axis=1, kind="stable")[:, :n_labels]


if __name__ == "__main__":
    execute(main)
