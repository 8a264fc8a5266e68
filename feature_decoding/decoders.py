"""Fit a decoder of a target family to a file, and apply it: what all scripts have in common that decode with it."""

from collections.abc import Sequence

import h5py
import numpy as np

from data.recipes import prepared
from feature_decoding import recipes
from feature_decoding.ridge import Decoder, Gram, Scaler, fit, predict
from feature_extraction.recipes import features
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.progress import progress
from minddiffuser.recipe import Recipe
from minddiffuser.store import Artifact, DataError, open_made

UNITS_PER_PART = 1024
_ROWS_AT_ONCE = 256


def load_voxels(
    config: Config, subject: str, test_scaling: str, whose: str = "decoding"
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
    with open_made(prepared(config, subject)) as rows:
        betas, is_test = rows["betas"][:], rows["is_test"][:]
    if test_scaling == "test":
        print(
            f"WARNING: {subject}: {whose}.test_scaling is 'test', as released: test voxels are scaled by the test "
            "images' own statistics, so each decoded image depends on which others are tested with it"
        )
    train, test = betas[~is_test], betas[is_test]
    del betas  # half a gigabyte of NSD's, before as much again is made of it twice
    scaler = Scaler.of(train)
    test_scaler = scaler if test_scaling == "train" else Scaler.of(test)
    return scaler.apply(train), test_scaler.apply(test)


def read_units(dataset: h5py.Dataset, rows: slice, units: np.ndarray) -> np.ndarray:
    """Read some units of some images: (n_rows, n_units), in the order of `units`, without the others in memory.

    Parameters
    ----------
    dataset : of shape (n_images, ...)
    rows : slice
    units : array of shape (n_units,)
        Places in the flattened target of an image.
    """
    start, stop, _ = rows.indices(len(dataset))
    found = np.empty((stop - start, len(units)), dataset.dtype)
    for first in range(start, stop, _ROWS_AT_ONCE):
        block = dataset[first : min(first + _ROWS_AT_ONCE, stop)]
        found[first - start : first - start + len(block)] = block.reshape(len(block), -1)[:, units]
    return found


def read_training_targets(
    config: Config, subject: str, n_units: int, families: Sequence[str] = ("semantic", "detail", "structural")
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read voxels of the training images, not standardised, and some units of every target of some families.

    Returns
    -------
    betas : array of shape (n_train, n_voxels)
    targets : dict of arrays of shape (n_train, n_units or fewer), float64
        "semantic", "detail", and each layer at its selected units.
    """
    with open_made(prepared(config, subject)) as rows:
        train = slice(int(rows["is_test"][:].sum()), None)  # test images come first in every file
        betas = rows["betas"][train]
    targets = {}
    for family in families:
        with open_made(features(config, subject, family)) as file:
            keys = {recipes.FAMILIES[family]: family} if family in recipes.FAMILIES else {}
            for key, name in (keys or {name: name for name in recipes.names_of(config, family)}).items():
                if key not in file or key == "embedding":
                    continue
                units = np.arange(int(np.prod(file[key].shape[1:])))
                if key == "c":
                    units = units[file[key].shape[2] :]  # begin of text is not decoded
                if family == "structural":
                    with open_made(recipes.units(config, subject)) as selection:
                        units = selection[f"{key}_units"][:]
                some = np.random.default_rng(config.experiment.seed).permutation(units)[:n_units]
                targets[name] = read_units(file[key], train, np.sort(some)).astype(np.float64)
    return betas, targets


def decode_family(
    run: Run,
    family: str,
    decoder: Artifact,
    gram: Gram,
    X_test: np.ndarray,
    n_voxels: int,
    order: np.ndarray | None = None,
) -> dict[str, np.ndarray] | None:
    """Fit the decoder of c or z on the training images, unless it is there, and decode the test images with it.

    Parameters
    ----------
    family : "semantic" or "detail"
    decoder : Artifact
        Where the decoder is kept, in parts until it is whole.
    gram : Gram
        Of the standardised voxels of the training images.
    X_test : array of shape (n_test, n_voxels_in_all)
        Standardised voxels of the test images.
    n_voxels : int
        Of each output.
    order : array of shape (n_train,), optional
        Training images whose targets the rows of voxels are paired with, where not with their own.

    Returns
    -------
    dict or None
        None while other shards are at work on the decoder; otherwise what `decoded/<family>.h5` has:

        c (n_test, n_tokens, width) or z (n_test, 4, height, width), float32. The first token of c is the same for
        every caption: it is the mean of the training captions', and not decoded.
        nsd_id (n_test,)
    """
    key, n_test = recipes.FAMILIES[family], len(X_test)
    with open_made(features(run.config, decoder.recipe.subject, family)) as file:  # test images come first
        nsd_id, shape = file["nsd_id"][:n_test], file[key].shape[1:]
        first = file[key][n_test:, :1] if key == "c" else None
        targets = file[key][n_test:] if first is None else file[key][n_test:, 1:]
    targets = targets.reshape(len(targets), -1)  # (n_train, n_units), token-major
    if order is not None:
        targets = targets[order]
    if not decoder.is_done() and not fit_decoder(run, decoder, gram, targets, n_voxels):
        return None
    values = decode(decoder.recipe, X_test)
    if first is not None:
        begin = np.broadcast_to(first.mean(axis=0).ravel(), (n_test, first.shape[2]))
        values = np.concatenate([begin, values], axis=1)
    return {key: values.reshape(n_test, *shape), "nsd_id": nsd_id}


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
    n_units, n_voxels = targets.shape[1], min(n_voxels, gram.X.shape[1])
    todo = artifact.parts_to_do(n_units, UNITS_PER_PART, run.shard)
    for number, units in progress(todo, desc=f"{artifact.recipe.subject} {artifact.path.stem}"):
        Y = targets[:, units].astype(np.float64)
        scaler = Scaler.of(Y)
        try:
            decoder = fit(gram, scaler.apply(Y), run.config.experiment.decoding.alpha, n_voxels)
        except ValueError as error:
            raise DataError(f"{artifact.path}, outputs {units.start} to {units.stop - 1}: {error}") from error
        weights = decoder.weights.astype(np.float32)
        part = {"voxels": decoder.voxels, "weights": weights, "bias": decoder.bias}
        artifact.write_part(number, {**part, "mean": scaler.mean, "std": scaler.std})
    return artifact.join(n_units, UNITS_PER_PART)


def decode(decoder: Recipe, X: np.ndarray) -> np.ndarray:
    """Decode standardised voxels with a stored decoder: targets in their own units, (n_images, n_units)."""
    with open_made(decoder) as file:
        n_units = len(file["bias"])
        decoded = np.empty((len(X), n_units), np.float32)
        for start in range(0, n_units, UNITS_PER_PART):
            here = slice(start, start + UNITS_PER_PART)
            part = Decoder(file["voxels"][here], file["weights"][here], file["bias"][here])
            decoded[:, here] = Scaler(file["mean"][here], file["std"][here]).undo(predict(X, part))
    return decoded
