"""Fit a decoder of a target family to a file, and apply it: what the scripts 22 to 24 have in common."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from feature_decoding.ridge import Decoder, Gram, Scaler, fit, predict
from minddiffuser.cli import Run
from minddiffuser.config import Experiment, layer_name
from minddiffuser.store import Artifact, DataError, check_same_rows, open_arrays

UNITS_PER_PART = 1024


def load_voxels(
    folder: Path, subject: str, features: h5py.File, test_scaling: str, whose: str = "decoding"
) -> tuple[np.ndarray, np.ndarray]:
    """Standardised voxels of the training and of the test images.

    Parameters
    ----------
    test_scaling : "train" or "test"
        Whose statistics scale the test images. "test", as released, makes each decoded image depend on the
        other test images.
    whose : str
        Section of the configuration that says so, for the warning.

    Returns
    -------
    train : array of shape (n_train, n_voxels)
    test : array of shape (n_test, n_voxels)
    """
    with open_arrays(folder / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
        check_same_rows(prepared, features)
        betas, is_test = prepared["betas"][:], prepared["is_test"][:]
    if test_scaling == "test":
        tqdm.write(
            f"WARNING: {subject}: {whose}.test_scaling is 'test', as released: test voxels are scaled by the test "
            "images' own statistics, so each decoded image depends on which others are tested with it"
        )
    scaler = Scaler.of(betas[~is_test])
    test_scaler = scaler if test_scaling == "train" else Scaler.of(betas[is_test])
    return scaler.apply(betas[~is_test]), test_scaler.apply(betas[is_test])


def read_training_targets(
    folder: Path,
    subject: str,
    experiment: Experiment,
    n_units: int,
    families: Sequence[str] = ("semantic", "detail", "structural"),
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read voxels of the training images, not standardised, and some units of every target of some families.

    Returns
    -------
    betas : array of shape (n_train, n_voxels)
    targets : dict of arrays of shape (n_train, n_units or fewer), float64
        "semantic", "detail", and each layer at its selected units.
    """
    with open_arrays(folder / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
        betas, is_test = prepared["betas"][:], prepared["is_test"][:]
        targets = {}
        layers = [layer_name(number) for number in experiment.structural.layers]
        names_of = {"semantic": ["c"], "detail": ["z"], "structural": layers}
        for family in families:
            script = {"semantic": 11, "detail": 12, "structural": 13}[family]
            with open_arrays(
                folder / "features" / f"{family}.h5", f"feature_extraction/{script}_{family}.py", subject
            ) as features:
                check_same_rows(prepared, features)
                for name in names_of[family]:
                    units = np.arange(int(np.prod(features[name].shape[1:])))
                    if name == "c":
                        units = units[features[name].shape[2] :]  # begin of text is not decoded
                    if family == "structural":
                        with open_arrays(
                            folder / "decoders" / "units.h5", "feature_decoding/21_select_units.py", subject
                        ) as selection:
                            units = selection[f"{name}_units"][:]
                    some = np.random.default_rng(experiment.seed).permutation(units)[:n_units]
                    values = features[name][:].reshape(len(betas), -1)
                    key = name if family == "structural" else family
                    targets[key] = values[~is_test][:, np.sort(some)].astype(np.float64)
    return betas[~is_test], targets


def fit_decoder(run: Run, artifact: Artifact, gram: Gram, targets: np.ndarray, n_voxels: int) -> bool:
    """Fit a decoder in parts, each of which survives a kill.

    Writes `voxels` and `weights` (n_units, n_voxels), `bias` (n_units,) and the targets' `mean` and `std`.

    Parameters
    ----------
    gram : Gram
        Of the standardised voxels of the training images; one serves all target families.
    targets : array of shape (n_train, n_units)
        Of the training images, not standardised.

    Returns
    -------
    bool
        Whether the whole decoder is there (other shards may still be at work).

    Raises
    ------
    DataError
        A target is not finite, or `experiment.decoding.alpha` too small.
    """
    if artifact.is_done(run.overwrite):
        print(f"{artifact.path} is there already")
        return True
    n_units, n_voxels = targets.shape[1], min(n_voxels, gram.X.shape[1])
    for number, units in tqdm(
        list(artifact.parts_to_do(n_units, UNITS_PER_PART, run.shard)), desc=f"{artifact.subject} {artifact.path.stem}"
    ):
        Y = targets[:, units].astype(np.float64)
        scaler = Scaler.of(Y)
        try:
            decoder = fit(gram, scaler.apply(Y), run.config.experiment.decoding.alpha, n_voxels)
        except ValueError as error:
            raise DataError(f"{artifact.path}, outputs {units.start} to {units.stop - 1}: {error}") from error
        weights = decoder.weights.astype(np.float32)
        part = {"voxels": decoder.voxels, "weights": weights, "bias": decoder.bias}
        artifact.write_part(number, {**part, "mean": scaler.mean, "std": scaler.std})
    if not artifact.has_all_parts(n_units, UNITS_PER_PART):
        return False
    artifact.join(n_units, {})
    return True


def with_first_token(tokens: np.ndarray, c_train: np.ndarray) -> np.ndarray:
    """Put the token that begins every caption before those that were decoded.

    Parameters
    ----------
    tokens : array of shape (n_images, 14 * width)
    c_train : array of shape (n_train, 15, width)
        Its mean is taken: it is the same for every caption.

    Returns
    -------
    array of shape (n_images, 15, width)
    """
    n, (n_tokens, width) = len(tokens), c_train.shape[1:]
    first = np.broadcast_to(c_train[:, :1].mean(axis=0), (n, 1, width))
    return np.concatenate([first, tokens.reshape(n, n_tokens - 1, width)], axis=1)


def decode(path: Path, subject: str, X: np.ndarray) -> np.ndarray:
    """Decode standardised voxels with a stored decoder: targets in their own units, (n_images, n_units)."""
    with open_arrays(path, "the script that fits this decoder", subject) as file:
        n_units = len(file["bias"])
        decoded = np.empty((len(X), n_units), np.float32)
        for start in range(0, n_units, UNITS_PER_PART):
            here = slice(start, start + UNITS_PER_PART)
            decoder = Decoder(file["voxels"][here], file["weights"][here], file["bias"][here])
            decoded[:, here] = Scaler(file["mean"][here], file["std"][here]).undo(predict(X, decoder))
    return decoded
