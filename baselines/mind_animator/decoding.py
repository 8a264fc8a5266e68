"""What the scripts of Mind-Animator's decoders share: rows of a form, controls, tables, and training to files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import nn

from baselines.mind_animator import recipes
from data.film_recipes import prepared
from feature_decoding.ridge import Scaler
from feature_decoding.training import Plan, train
from minddiffuser import terminal
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.config.mind_animator import animator_form
from minddiffuser.correlation import correlate_pairs, unit_rows
from minddiffuser.recipe import Recipe
from minddiffuser.store import Artifact, check_same_images, open_made, write_atomically

# Penalties of ridge regression, chosen from on validation clips.
ALPHAS = (100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0, 100_000.0)
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


class Ridge:
    """Ridge regression on all vertices, for any targets; its penalty is that of `ALPHAS` that decodes validation best.

    W = V (L + alpha)^-1 V^T X^T Y, where X^T X = V L V^T is worked out once.

    Parameters
    ----------
    X, X_validation : arrays of shape (n, n_vertices)
    device : torch.device
        Where the work is done, in float32, but for the eigenvalues.
    """

    def __init__(self, X: np.ndarray, X_validation: np.ndarray, device: torch.device) -> None:
        self.of_x, self.device = Scaler.of(X), device
        scaled = self._scaled(X)
        gram = scaled.T.double() @ scaled.double()
        self.values, self.vectors = (part.float() for part in torch.linalg.eigh(gram))
        self.seen, self.held = (part @ self.vectors for part in (scaled, self._scaled(X_validation)))

    def decode(self, Y: np.ndarray, Y_validation: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Fit targets (n, n_units), and decode other vertices (n_other, n_vertices): (n_other, n_units) float32."""
        of_y, other = Scaler.of(Y), self._scaled(X) @ self.vectors
        products = self.seen.T @ torch.from_numpy(of_y.apply(Y)).to(self.seen)  # V^T X^T Y, (n_vertices, n_units)

        def error(alpha: float) -> float:
            found = (self.held / (self.values + alpha)) @ products
            return float(np.square(of_y.undo(found.cpu().numpy()) - Y_validation).mean())

        alpha = min(ALPHAS, key=error)
        return of_y.undo(((other / (self.values + alpha)) @ products).cpu().numpy()).astype(np.float32)

    def _scaled(self, X: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.of_x.apply(X)).to(self.device, torch.float32)


def of_training(rows: Rows, device: torch.device) -> Ridge:
    """Prepare ridge regression on the training clips."""
    return Ridge(rows.X[rows.training], rows.X[rows.validation], device)


def controls(rows: Rows, Y: np.ndarray, ridge: Ridge, n_shifts: int = 20) -> dict[str, np.ndarray]:
    """Decode the test clips in simple ways, which stand beside each network.

    Parameters
    ----------
    rows : Rows
    Y : array of shape (n_clips, n_units)
    ridge : Ridge
        Of the training clips.
    n_shifts : int
        With 0 there is no "permuted".

    Returns
    -------
    dict of arrays of shape (n_test, n_units)
        "ridge"; "mean" of training clips; "nearest_training", the target of the training clip whose vertices correlate
        best with the test clip's; "permuted", (n_shifts, n_test, n_units), ridge regression where vertices are shifted
        against the clips, around the end, by as many different numbers of clips: what is decoded without the brain.
    """
    X, training, test = rows.X, rows.training, rows.test
    held = Y[rows.validation]
    near = np.argmax(unit_rows(X[test]) @ unit_rows(X[training]).T, axis=1)
    found = {
        "ridge": ridge.decode(Y[training], held, X[test]),
        "mean": np.tile(mean_of(Y[training]), (len(test), 1)),
        "nearest_training": Y[training[near]],
    }
    if n_shifts:
        shifts = len(training) * np.arange(1, n_shifts + 1) // (n_shifts + 1)
        found["permuted"] = np.stack([ridge.decode(np.roll(Y[training], k, axis=0), held, X[test]) for k in shifts])
    return found


def held_out(rows: Rows, Y: np.ndarray, device: torch.device) -> np.ndarray:
    """Decode each training clip by ridge regression fitted to the others, in folds of neighbouring clips.

    Returns
    -------
    array of shape (n_training, n_units), float32
    """
    X, training, held = rows.X, rows.training, rows.validation
    found = np.zeros((len(training), Y.shape[1]), np.float32)
    for fold in np.array_split(np.arange(len(training)), N_FOLDS):
        others = training[np.setdiff1d(np.arange(len(training)), fold)]
        found[fold] = Ridge(X[others], X[held], device).decode(Y[others], Y[held], X[training[fold]])
    return found


def mean_of(Y: np.ndarray) -> np.ndarray:
    """Average rows: (n_units,) float32."""
    return Y.mean(axis=0, dtype=np.float64).astype(np.float32)


def score(decoded: dict[str, np.ndarray], true: np.ndarray, training: np.ndarray) -> pd.DataFrame:
    """Score decoded targets.

    Parameters
    ----------
    decoded : dict of arrays of shape (n_test, n_units), or (n, n_test, n_units), by name of the system
        Of several decodings the mean of the scores is taken.
    true : array of shape (n_test, n_units)
    training : array of shape (n_training, n_units)
        Whose mean is taken from both, so that what all clips have in common is not counted as decoded.

    Returns
    -------
    DataFrame
        A row for each system: `mse`; `r_by_clip`, over units, mean of clips; `r_over_clips`, mean of the units that
        vary over test clips. What is decoded as a constant has r 0.
    """
    mean, varies, lines = mean_of(training), np.ptp(true, axis=0) > 0, {}
    of_true = true - mean
    for name, all_values in decoded.items():
        scores = []
        for values in all_values.reshape(-1, *true.shape):
            centred = values - mean
            by_clip = correlate_pairs(centred, of_true)
            over_clips = correlate_pairs(centred[:, varies].T, of_true[:, varies].T)
            scores.append([np.square(values - true).mean(dtype=np.float64), by_clip.mean(), over_clips.mean()])
        lines[name] = np.mean(scores, axis=0)
    table = pd.DataFrame.from_dict(lines, orient="index", columns=["mse", "r_by_clip", "r_over_clips"])
    return table.rename_axis("system").reset_index()


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

    A killed run goes on where its state was kept. Weights are `<decoder>.safetensors`, the curve is
    `<decoder>_curve.csv`.
    """
    path, seed = recipe.path, recipes.network_seed(run.config)
    state = path.with_name(f".{path.stem}.{recipe.fingerprint}.training")
    curve = train(
        network, losses, validate, plan, n_rows, seed, f"{recipe.subject} {path.stem}", state, recipe.fingerprint
    )
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomically(path.with_suffix(".safetensors"), save(weights, {"fingerprint": recipe.fingerprint}))
    write_atomically(path.with_name(f"{path.stem}_curve.csv"), curve.to_csv(index=False))


def finish(artifact: Artifact, arrays: dict[str, np.ndarray], table: pd.DataFrame) -> None:
    """Write and print a table of scores, write what was decoded, which comes last, and forget the training.

    Of permuted vertices the first decoding is written.
    """
    path, subject = artifact.path, artifact.recipe.subject
    write_atomically(path.with_suffix(".csv"), table.to_csv(index=False))
    artifact.write(arrays)
    _forget(path)
    print(f"\n{subject}, {path.parent.name}, {path.stem}:")
    print(table.round(3).to_string(index=False, line_width=terminal.width()))


def to_decode(run: Run, decoder: str) -> Iterator[tuple[str, str, Artifact]]:
    """Yield subject, form and file of each decoder ("semantic", "structure" or "motion") that is not there."""
    for subject in run.subjects:
        for form in distinct_forms(run.config, decoder):
            artifact = Artifact(recipes.decoded(run.config, subject, form, decoder))
            if artifact.is_done(run.overwrite):
                _forget(artifact.path)
                print(f"{artifact.path} is there already")
            else:
                yield subject, form, artifact


def _forget(path: Path) -> None:
    """Delete the states of training of a decoder, of whatever settings."""
    for state in path.parent.glob(f".{path.stem}.*.training"):
        state.unlink(missing_ok=True)


def distinct_forms(config: Config, decoder: str) -> list[str]:
    """List the forms whose decoder is trained; the others share one of theirs."""
    forms = recipes.settings_of(config).forms
    return [form for form in forms if recipes.shared_form(config, form, decoder) == form]


def flat(Z: np.ndarray) -> np.ndarray:
    """Flatten all but the rows: (n, n_units) float32."""
    return Z.reshape(len(Z), -1).astype(np.float32)
