"""Fit a decoder of a target family to a file, and apply it: what all scripts have in common that decode with it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import h5py
import numpy as np

from data.recipes import prepared
from feature_decoding import recipes
from feature_decoding.ridge import Decoder, Gram, Scaler, fit, predict
from feature_decoding.spread import measure_spread, read_spread
from feature_decoding.variance import restore_variance
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


class Family(NamedTuple):
    """Targets c or z of a subject, as decoders have them.

    Attributes
    ----------
    key : "c" or "z"
    stimulus_id : array of shape (n_test,)
    training : array of shape (n_train, n_units)
        Of c without its first token, which is the same for every caption, and not decoded; token-major.
    first : array of shape (1, 1, width) or None
        The mean of the training captions' first tokens.
    shape : tuple of int
        Of one image's target.
    """

    key: str
    stimulus_id: np.ndarray
    training: np.ndarray
    first: np.ndarray | None
    shape: tuple[int, ...]

    def arrays(self, decoded: np.ndarray) -> dict[str, np.ndarray]:
        """Give what `decoded/<family>.h5` has: c or z in its shape, float32, and stimulus_id."""
        if self.first is not None:
            begin = np.broadcast_to(self.first.ravel(), (len(decoded), self.first.size))
            decoded = np.concatenate([begin, decoded], axis=1)
        return {self.key: decoded.reshape(-1, *self.shape), "stimulus_id": self.stimulus_id}


def read_family(config: Config, subject: str, family: str, n_test: int) -> Family:
    """Read the targets "semantic" (c) or "detail" (z) of the training images."""
    key = recipes.FAMILIES[family]
    with open_made(features(config, subject, family)) as file:  # test images come first
        stimulus_id, shape = file["stimulus_id"][:n_test], file[key].shape[1:]
        first = file[key][n_test:, :1].mean(axis=0)[None] if key == "c" else None
        training = file[key][n_test:] if first is None else file[key][n_test:, 1:]
    return Family(key, stimulus_id, training.reshape(len(training), -1), first, shape)


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
        None while the decoder is in parts (see `fit_decoder`); otherwise what `decoded/<family>.h5` has:
        c (n_test, n_tokens, width) or z (n_test, 4, height, width), and stimulus_id (n_test,).
    """
    of = read_family(run.config, decoder.recipe.subject, family, len(X_test))
    targets = of.training if order is None else of.training[order]
    if not decoder.is_done() and not fit_decoder(run, decoder, gram, targets, n_voxels):
        return None
    return of.arrays(decode(decoder.recipe, X_test))


def restore_family(run: Run, subject: str, family: str, X: np.ndarray, X_test: np.ndarray) -> None:
    """Decode the test images with the fitted decoder of c or z, and restore their variance.

    Writes `decoders/spread/<family>.h5`, unless it is there, and `decoded/restored/<family>.h5`.

    Parameters
    ----------
    X, X_test : arrays of shape (n_train, n_voxels), (n_test, n_voxels)
        Standardised voxels.
    """
    config = run.config
    spread = Artifact(recipes.spread(config, subject, family))
    output = Artifact(recipes.restored(config, subject, family))
    of = read_family(config, subject, family, len(X_test))
    one, n_voxels = {family: spread}, {family: recipes.n_voxels(config)[family][1]}
    if not spread.is_done() and not measure_spread(run, one, X, lambda _: of.training, n_voxels):
        return
    decoder, strength = recipes.decoder(config, subject, family), config.experiment.decoding.restore_strength
    if not decoder.path.exists():
        return
    if not output.is_done():
        output.write(of.arrays(decode(decoder, X_test, spread.recipe, strength)))
    print(f"{output.path}: {len(X_test)} test images")


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
        Whether the whole decoder is there (a run without shards joins its parts).

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


def read_blocks(config: Config, subject: str, *names: str) -> Iterator[Decoder]:
    """Yield stored decoders, at most 1,024 outputs at a time."""
    for name in names:
        with open_made(recipes.decoder(config, subject, name)) as file:
            for start in range(0, len(file["bias"]), UNITS_PER_PART):
                here = slice(start, start + UNITS_PER_PART)
                yield Decoder(file["voxels"][here], file["weights"][here], file["bias"][here])


def decode(decoder: Recipe, X: np.ndarray, spread: Recipe | None = None, strength: float = 1.0) -> np.ndarray:
    """Decode standardised voxels with a stored decoder.

    Parameters
    ----------
    X : array of shape (n_images, n_voxels)
    spread : Recipe, optional
        Of `measure_spread`: what is decoded gets its variance back (`variance.restore_variance`), with `strength`.

    Returns
    -------
    array of shape (n_images, n_units), float32
        Targets in their own units.
    """
    restored_by = None if spread is None else read_spread(spread)
    with open_made(decoder) as file:
        n_units = len(file["bias"])
        decoded = np.empty((len(X), n_units), np.float32)
        for start in range(0, n_units, UNITS_PER_PART):
            here = slice(start, start + UNITS_PER_PART)
            part = Decoder(file["voxels"][here], file["weights"][here], file["bias"][here])
            standardised = predict(X, part)
            if restored_by is not None:
                of_part = Scaler(restored_by.mean[here], restored_by.std[here])
                ones = Scaler(np.zeros_like(of_part.mean), np.ones_like(of_part.std))
                standardised = restore_variance(standardised, of_part, ones, strength=strength)
            decoded[:, here] = Scaler(file["mean"][here], file["std"][here]).undo(standardised)
    return decoded
