"""What the scripts of Mind-Animator's decoders share: rows of a form, controls, tables, and training to files."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import nn

from baselines.mind_animator import recipes
from data.film_recipes import prepared
from feature_decoding import ridge
from feature_decoding.ridge import Scaler
from feature_decoding.training import Plan, train
from minddiffuser import terminal
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.config.mind_animator import animator_form
from minddiffuser.correlation import correlate_pairs, unit_rows
from minddiffuser.recipe import Recipe
from minddiffuser.store import check_same_images, open_made, write_atomically

ALPHAS = (100.0, 1000.0, 10_000.0, 100_000.0)  # penalties of ridge regression, chosen from on validation clips
N_FOLDS = 5  # in which the first frames of training clips are decoded while they are held out


class Rows(NamedTuple):
    """The vertices of a form, and what is known of the clips.

    Attributes
    ----------
    X : array of shape (n_clips, n_vertices), float32
        Test clips first.
    ids : array of shape (n_clips,)
    test, training, validation : arrays of int
        Rows of each; those of validation are not in training.
    """

    X: np.ndarray
    ids: np.ndarray
    test: np.ndarray
    training: np.ndarray
    validation: np.ndarray


def load_rows(config: Config, subject: str, form: str) -> Rows:
    """Read the rows that a form decodes from; "original" scales test rows by their own statistics."""
    own = animator_form(recipes.settings_of(config), form)
    with open_made(prepared(config, subject)) as file:
        names = file["form"][:].astype(str).tolist()
        X = file["betas"][:][:, file["is_selected"][names.index(form)]]
        ids, is_test, is_validation = (file[key][:] for key in ("stimulus_id", "is_test", "is_validation"))
    if own.voxels.test_scaling == "test":
        print(
            f"WARNING: {subject}: {form} scales test rows by their own mean and deviation, as released: each decoded "
            "clip depends on which others are tested with it"
        )
        X[is_test] = Scaler.of(X[is_test]).apply(X[is_test])
    training, validation = np.flatnonzero(~is_test & ~is_validation), np.flatnonzero(is_validation)
    return Rows(X, ids, np.flatnonzero(is_test), training, validation)


def open_targets(config: Config, rows: Rows, subject: str) -> h5py.File:
    """Open `clips.h5`.

    Raises
    ------
    DataError
        It is missing, made with other settings, or its clips are not those of the subject's rows.
    """
    file = open_made(recipes.clips(config))
    try:
        check_same_images(rows.ids, file["stimulus_id"][:], prepared(config, subject).path, file.filename)
    except BaseException:
        file.close()
        raise
    return file


def fit_ridge(
    X: np.ndarray, Y: np.ndarray, X_validation: np.ndarray, Y_validation: np.ndarray, device: torch.device
) -> "Linear":
    """Fit ridge regression on all vertices, with the penalty of `ALPHAS` that decodes validation clips best.

    Parameters
    ----------
    X, X_validation : arrays of shape (n, n_vertices)
    Y, Y_validation : arrays of shape (n, n_units)
    device : torch.device
        Where it is fitted.
    """
    of_x, of_y = Scaler.of(X), Scaler.of(Y)
    gram, scaled = ridge.Gram(of_x.apply(X), device), of_y.apply(Y)
    best, least = None, np.inf
    for alpha in ALPHAS:
        model = Linear(ridge.fit(gram, scaled, alpha, X.shape[1]), of_x, of_y)
        error = float(np.square(model.decode(X_validation) - Y_validation).mean())
        if best is None or error < least:
            best, least = model, error
    assert best
    return best


class Linear(NamedTuple):
    """A fitted ridge regression."""

    decoder: ridge.Decoder
    of_x: Scaler
    of_y: Scaler

    def decode(self, X: np.ndarray) -> np.ndarray:
        """Decode vertices (n, n_vertices) to targets (n, n_units)."""
        return self.of_y.undo(ridge.predict(self.of_x.apply(X), self.decoder)).astype(np.float32)


def controls(rows: Rows, Y: np.ndarray, device: torch.device) -> dict[str, np.ndarray]:
    """Decode the test clips in four simple ways, which stand beside each network.

    Parameters
    ----------
    rows : Rows
    Y : array of shape (n_clips, n_units)
    device : torch.device
        Where ridge regression is fitted.

    Returns
    -------
    dict of arrays of shape (n_test, n_units)
        "ridge"; "mean" of training clips; "nearest_training", the target of the training clip whose vertices correlate
        best with the test clip's; "permuted", ridge fitted to vertices that were shifted against the clips, by half of
        them, around the end: what is decoded without the brain.
    """
    X, training, validation = rows.X, rows.training, rows.validation
    shifted = X[np.roll(training, len(training) // 2)]
    held_out = X[validation], Y[validation]
    near = np.argmax(unit_rows(X[rows.test]) @ unit_rows(X[training]).T, axis=1)
    return {
        "ridge": fit_ridge(X[training], Y[training], *held_out, device).decode(X[rows.test]),
        "mean": np.tile(mean_of(Y[training]), (len(rows.test), 1)),
        "nearest_training": Y[training[near]],
        "permuted": fit_ridge(shifted, Y[training], *held_out, device).decode(X[rows.test]),
    }


def held_out(rows: Rows, Y: np.ndarray, device: torch.device) -> np.ndarray:
    """Decode each training clip by ridge regression fitted to the others, in folds of neighbouring clips.

    Validation clips are decoded by what all training clips give; test clips stay 0.

    Returns
    -------
    array of shape (n_clips, n_units), float32
    """
    found, X, validation = np.zeros(Y.shape, np.float32), rows.X, rows.validation
    for fold in np.array_split(rows.training, N_FOLDS):
        others = np.setdiff1d(rows.training, fold)
        found[fold] = fit_ridge(X[others], Y[others], X[validation], Y[validation], device).decode(X[fold])
    model = fit_ridge(X[rows.training], Y[rows.training], X[validation], Y[validation], device)
    found[validation] = model.decode(X[validation])
    return found


def mean_of(Y: np.ndarray) -> np.ndarray:
    """Average rows: (n_units,) float32."""
    return Y.mean(axis=0, dtype=np.float64).astype(np.float32)


def score(decoded: dict[str, np.ndarray], true: np.ndarray, training: np.ndarray) -> pd.DataFrame:
    """Score decoded targets.

    Parameters
    ----------
    decoded : dict of arrays of shape (n_test, n_units), by name of the system
    true : array of shape (n_test, n_units)
    training : array of shape (n_training, n_units)
        Whose mean is taken from both, so that what all clips have in common is not counted as decoded.

    Returns
    -------
    DataFrame
        A row for each system: `mse`; `r_by_clip`, over units, mean of clips; `r_over_clips`, mean of the units that
        vary over test clips. What is decoded as a constant has r 0.
    """
    mean, varies, lines = mean_of(training), np.ptp(true, axis=0) > 0, []
    of_true = true - mean
    for name, values in decoded.items():
        centred = values - mean
        by_clip = correlate_pairs(centred, of_true)
        over_clips = correlate_pairs(centred[:, varies].T, of_true[:, varies].T)
        lines.append([name, np.square(values - true).mean(dtype=np.float64), by_clip.mean(), over_clips.mean()])
    return pd.DataFrame(lines, columns=["system", "mse", "r_by_clip", "r_over_clips"])


def train_to_file(
    run: Run,
    recipe: Recipe,
    network: nn.Module,
    losses: Callable[[int], Iterator[Callable[[torch.Tensor, torch.Generator], torch.Tensor]]],
    validate: Callable[[], float],
    plan: Plan,
    n_rows: int,
) -> None:
    """Train a network, and write its weights and its curve beside the file of the recipe.

    A killed run goes on with the epoch in flight; once the recipe's own file is written, `finish` deletes what that
    needs. Weights are `<decoder>.safetensors`, the curve is `<decoder>_curve.csv`.
    """
    path, seed = recipe.path, run.config.experiment.seed
    state = path.with_name(f".{path.stem}.training")
    curve = train(
        network, losses, validate, plan, n_rows, seed, f"{recipe.subject} {path.stem}", state, recipe.fingerprint
    )
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomically(path.with_suffix(".safetensors"), save(weights, {"fingerprint": recipe.fingerprint}))
    write_atomically(path.with_name(f"{path.stem}_curve.csv"), curve.to_csv(index=False))


def finish(recipe: Recipe, table: pd.DataFrame) -> None:
    """Write and print a table of scores, and delete the state of training."""
    path = recipe.path
    write_atomically(path.with_suffix(".csv"), table.to_csv(index=False))
    path.with_name(f".{path.stem}.training").unlink(missing_ok=True)
    print(f"\n{recipe.subject}, {path.parent.name}, {path.stem}:")
    print(table.round(3).to_string(index=False, line_width=terminal.width()))


def distinct_forms(config: Config, decoder: str) -> list[str]:
    """List the forms whose decoder is trained; the others share one of theirs."""
    forms = recipes.settings_of(config).forms
    return [form for form in forms if recipes.shared_form(config, form, decoder) == form]


def flat(Z: np.ndarray) -> np.ndarray:
    """Flatten all but the rows: (n, n_units) float32."""
    return Z.reshape(len(Z), -1).astype(np.float32)
