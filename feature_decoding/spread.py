"""How far cross-validated predictions of training images spread: what restoring their variance divides by."""

from collections.abc import Callable, Mapping

import numpy as np
from sklearn.model_selection import KFold

from feature_decoding.ridge import Gram, Scaler, fit, predict
from minddiffuser.cli import Run
from minddiffuser.progress import progress
from minddiffuser.recipe import Recipe
from minddiffuser.store import Artifact, DataError, open_made

_UNITS_AT_ONCE = 1024


def measure_spread(
    run: Run,
    artifacts: Mapping[str, Artifact],
    X: np.ndarray,
    read: Callable[[str], np.ndarray],
    n_voxels: Mapping[str, int],
) -> bool:
    """Measure mean and deviation of predictions of training images by decoders that did not see them.

    Folds are parts, which survive a kill and which shards share; the Gram matrix of a fold serves all targets. Writes
    `mean` and `std` (n_folds, n_units), in units of the training targets' deviations, and `n` (n_folds,), the images of
    each fold. Training and test images are means over as many trials, so that what is measured of the first holds for
    the second. Where the penalty is strong, decoders of fewer images shrink a little more than the one of all: restored
    targets of new images then have a deviation a little above 1, and more folds bring it nearer.

    Parameters
    ----------
    artifacts : dict of Artifact
        By name of the decoder.
    X : array of shape (n_train, n_voxels_in_all)
    read : callable
        From the name to targets (n_train, n_units).
    n_voxels : dict of int
        Of each output, by name.

    Returns
    -------
    bool
        Whether the whole files are there (a run without shards joins their parts).

    Raises
    ------
    DataError
        A target is not finite, or `experiment.decoding.alpha` too small.
    """
    experiment = run.config.experiment
    n_folds = min(experiment.decoding.restore_folds, len(X))
    folds = list(KFold(n_folds, shuffle=True, random_state=experiment.seed).split(X))
    todo: dict[int, list[str]] = {}
    for name, artifact in artifacts.items():
        for number, _ in artifact.parts_to_do(n_folds, 1, run.shard):
            todo.setdefault(number, []).append(name)
    what = next(iter(artifacts.values())).recipe
    for number in progress(sorted(todo), desc=f"{what.subject} {what.path.stem}, spread"):
        train, held_out = folds[number]
        scale_x = Scaler.of(X[train])
        gram, X_new = Gram(scale_x.apply(X[train]), run.device), scale_x.apply(X[held_out])
        for name in todo[number]:
            targets = read(name)
            n_units = targets.shape[1]
            mean, std = np.empty((1, n_units)), np.empty((1, n_units))
            for start in range(0, n_units, _UNITS_AT_ONCE):
                here = slice(start, start + _UNITS_AT_ONCE)
                Y = targets[:, here].astype(np.float64)
                scaler, scale_y = Scaler.of(Y), Scaler.of(Y[train])
                try:
                    k = min(n_voxels[name], X.shape[1])
                    decoder = fit(gram, scale_y.apply(Y[train]), experiment.decoding.alpha, k)
                except ValueError as error:
                    where = f"{artifacts[name].path}, outputs {here.start} to {here.stop - 1}"
                    raise DataError(f"{where}: {error}") from error
                predicted = scaler.apply(scale_y.undo(predict(X_new, decoder)))
                mean[0, here], std[0, here] = predicted.mean(axis=0), predicted.std(axis=0)
            artifacts[name].write_part(number, {"mean": mean, "std": std, "n": np.array([len(held_out)])})
        del gram  # before the next fold has its own
    done = [artifact.join(n_folds, 1) for artifact in artifacts.values()]  # all that can be joined are
    return all(done)


def read_spread(spread: Recipe) -> Scaler:
    """Read mean and deviation of cross-validated predictions over all folds: (n_units,) each."""
    with open_made(spread) as file:
        share = file["n"][:][:, None] / file["n"][:].sum()
        mean = (share * file["mean"][:]).sum(axis=0)
        variance = (share * (file["std"][:] ** 2 + file["mean"][:] ** 2)).sum(axis=0) - mean**2
    deviation = np.sqrt(np.maximum(variance, 0))
    return Scaler(mean, np.where(deviation > 1e-6, deviation, 1.0))  # a constant target has a constant prediction
