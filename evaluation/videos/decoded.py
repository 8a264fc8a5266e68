"""What is decoded before any film is made, clip by clip, with intervals over shots: latents, c, f, velocity, retrieval.

The means are those of the tables that Mind-Animator's decoders write, `semantic.csv`, `structure.csv`, `motion.csv` and
`retrieval.csv`; here they have intervals, and tests of the network against what stands beside it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd

from baselines.mind_animator import recipes
from baselines.mind_animator.retrieval import hits
from data.film_recipes import prepared
from evaluation import significance
from evaluation.videos.motion import other_clips_test
from minddiffuser.config import Config
from minddiffuser.config.mind_animator import animator_form
from minddiffuser.correlation import correlate_pairs, unit_rows
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import check_same_images, open_made

NETWORK = "network"
TARGETS = {
    "f": "CLIP's embedding of the caption",
    "c": "the tokens of the caption",
    "z1": "the latents of the first frame",
    "motion": "the latents of the later frames",
    "change": "the change of latents from the first frame to the last",
}
TOP = (1, 10, 100)
_ROWS_AT_ONCE = 64
_DRAWS_AT_ONCE = 500
_ROUNDING = 1e-5  # relative


class _Target(NamedTuple):
    """A target of a form: its name, where it is decoded, and where the true one is."""

    name: str
    decoder: str
    key: str  # of the network's; those of others are of `_systems`
    true: str  # in clips.h5
    places: tuple[slice, ...]  # of each clip's array, what is compared


def _targets(posterior: str) -> list[tuple[_Target, str]]:
    """Give targets, and where their training mean is from."""
    z = f"z_{posterior}"
    later, first, tokens = (slice(1, None),), (slice(0, 1),), (slice(1, None),)
    return [
        (_Target("f", "semantic", "f", "clip_text", ()), "clip_text"),
        (_Target("c", "semantic", "c", "c", tokens), "c"),
        (_Target("z1", "structure", "z", "z_mean", first), z),
        (_Target("motion", "motion", "z", "z_mean", later), z),
        (_Target("change", "motion", "z", "z_mean", ()), ""),
    ]


def decoded_table(config: Config, subject: str, shots: pd.Series) -> pd.DataFrame:
    """Correlate what is decoded of each test clip with its target, over units, and compare the network with others.

    Peak memory: 64 clips of latents, and the mean of the training clips.

    Parameters
    ----------
    config : Config
    subject : str
    shots : Series of int
        The shot of each test clip, by stimulus_id.

    Returns
    -------
    DataFrame
        Columns `subject, form, target, system, r_by_clip, ci_low, ci_high, difference, difference_low,
        difference_high, p, p_holm, n, n_shots`: a row a form, target (`TARGETS`) and system. The training mean is taken
        from both, but for "change". The difference is the network's r less the system's; p is of signs flipped over
        shots, and p_holm corrected for all rows of the subject. Forms that share a decoder have it once; what is not
        decoded yet is left out.
    """
    evaluation, seed, rows = config.experiment.evaluation, config.experiment.seed, []
    with open_made(prepared(config, subject)) as file:
        is_training = ~file["is_test"][:] & ~file["is_validation"][:]
    for form, target, scores in _scores(config, subject, is_training):
        groups = shots[scores.index].to_numpy()
        values = scores.to_numpy()
        low, high = significance.bootstrap_intervals(values, evaluation.n_bootstrap, seed, groups)
        less = scores[[NETWORK]].to_numpy() - values
        less_low, less_high = significance.bootstrap_intervals(less, evaluation.n_bootstrap, seed, groups)
        p = significance.sign_flip_test(less, evaluation.n_flips, seed, groups)
        for k, system in enumerate(scores):
            row = [subject, form, target, system, values[:, k].mean(), low[k], high[k]]
            compared = [less[:, k].mean(), less_low[k], less_high[k], p[k]]
            row += [np.nan] * 4 if system == NETWORK else compared
            rows.append([*row, len(scores), len(set(groups))])
    columns = ["subject", "form", "target", "system", "r_by_clip", "ci_low", "ci_high"]
    columns += ["difference", "difference_low", "difference_high", "p", "n", "n_shots"]
    table = pd.DataFrame(rows, columns=columns)
    corrected = pd.Series(np.nan, table.index)
    there = table["p"].notna()
    corrected[there] = significance.holm(table.loc[there, "p"].to_numpy())
    table.insert(columns.index("n"), "p_holm", corrected)
    return table


def _scores(config: Config, subject: str, is_training: np.ndarray) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield form, target, and r of each clip and system, (n_test, n_systems), the network first."""
    settings, means = recipes.settings_of(config), {}
    for form in settings.forms:
        for target, of_mean in _targets(animator_form(settings, form).clips.posterior):
            recipe = recipes.decoded(config, subject, form, target.decoder)
            if recipes.shared_form(config, form, target.decoder) != form or not recipe.path.is_file():
                continue
            with open_made(recipe) as decoded, open_made(recipes.clips(config)) as clips:
                ids = decoded["stimulus_id"][:]
                check_same_images(clips["stimulus_id"][: len(ids)], ids, clips.filename, recipe.path)
                mean = 0.0
                if of_mean:
                    if (of_mean, target.name) not in means:
                        means[of_mean, target.name] = _mean(clips[of_mean], is_training, target.places)
                    mean = means[of_mean, target.name]
                systems = _systems(decoded, target)
                found = {name: _r(decoded[key], clips[target.true], mean, target) for name, key in systems.items()}
            yield form, target.name, pd.DataFrame(found, index=ids)


def _systems(decoded: h5py.File, target: _Target) -> dict[str, str]:
    """Names of the systems of a target, and their arrays."""
    if target.decoder == "semantic":
        prefix = f"{target.key}_"
        others = {key.removeprefix(prefix): key for key in decoded if key.startswith(prefix)}
    else:
        left_out = ("stimulus_id", "z", "z_validation", "velocity")
        others = {key: key for key in decoded if key not in left_out}
    return {NETWORK: target.key, **others}


def _r(decoded: h5py.Dataset, true: h5py.Dataset, mean: np.ndarray | float, target: _Target) -> np.ndarray:
    """Correlation of each clip, (n_test,), some clips at a time."""
    found = []
    for start in range(0, len(decoded), _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, len(decoded)))
        a, b = (part[rows].astype(np.float32) for part in (decoded, true))
        if target.name == "change":
            a, b = (part[:, -1] - part[:, 0] for part in (a, b))
        elif target.places:
            # The structure decoder has a frame without a place for its number.
            a = a[:, None] if a.ndim < b.ndim else a[:, target.places[0]]
            b = b[:, target.places[0]]
        a, b = (part.reshape(len(part), -1) - mean for part in (a, b))
        # What is decoded as the mean has nothing but rounding left.
        a[np.linalg.norm(a, axis=1) <= _ROUNDING * np.linalg.norm(b, axis=1)] = 0
        found.append(correlate_pairs(a, b))
    return np.concatenate(found)


def _mean(values: h5py.Dataset, is_training: np.ndarray, places: tuple[slice, ...]) -> np.ndarray:
    """Mean of training clips, (n_units,) float32, some clips at a time."""
    total = 0.0
    for start in range(0, len(values), _ROWS_AT_ONCE):
        part = values[start : start + _ROWS_AT_ONCE][is_training[start : start + _ROWS_AT_ONCE]]
        total = total + part[(slice(None), *places)].sum(axis=0, dtype=np.float64)
    return (np.asarray(total) / is_training.sum()).ravel().astype(np.float32)


def velocity_table(config: Config, subject: str, shots: pd.Series) -> pd.DataFrame:
    """Correlate the components of decoded and true velocities over test clips.

    Returns
    -------
    DataFrame
        Columns `subject, form, component, r, ci_low, ci_high, p, smallest_p, n, n_shots`: "x" is to the right, "y"
        down, and "both" the mean of the two. p tests that a velocity is that of its own clip, by shots that are
        exchanged whole (`motion.other_clips_test`), one-sided; NaN where no two have as many clips.
    """
    evaluation, seed, rows = config.experiment.evaluation, config.experiment.seed, []
    for form in recipes.settings_of(config).forms:
        recipe = recipes.decoded(config, subject, form, "motion")
        if recipes.shared_form(config, form, "motion") != form or not recipe.path.is_file():
            continue
        with open_made(recipe) as decoded, open_made(recipes.clips(config)) as clips:
            ids = decoded["stimulus_id"][:]
            check_same_images(clips["stimulus_id"][: len(ids)], ids, clips.filename, recipe.path)
            a, b = decoded["velocity"][:], clips["velocity"][: len(ids)]
        groups = shots[ids].to_numpy()
        intervals = correlation_intervals(a, b, groups, evaluation.n_bootstrap, seed)
        units = unit_rows(a.T.astype(np.float64)), unit_rows(b.T.astype(np.float64))  # (2, n)
        products = [len(ids) * np.outer(x, y) for x, y in zip(*units, strict=True)]
        for k, (component, product) in enumerate(
            [("x", products[0]), ("y", products[1]), ("both", (products[0] + products[1]) / 2)]
        ):
            row = {"subject": subject, "form": form, "component": component, "r": np.trace(product) / len(ids)}
            row |= {"ci_low": intervals[0][k], "ci_high": intervals[1][k], "p": np.nan, "smallest_p": np.nan}
            try:
                tested = other_clips_test(product, groups, evaluation.n_flips, seed)
                row |= {"p": tested.p, "smallest_p": tested.smallest_p}
            except ValueError:  # of few clips there may be no two shots to exchange
                pass
            rows.append(row | {"n": len(ids), "n_shots": len(set(groups))})
    columns = ["subject", "form", "component", "r", "ci_low", "ci_high", "p", "smallest_p", "n", "n_shots"]
    return pd.DataFrame(rows, columns=columns)


def correlation_intervals(
    a: np.ndarray, b: np.ndarray, groups: np.ndarray, n_bootstrap: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile intervals of Pearson's r of columns, and of its mean over columns, by resampling groups of rows.

    A resample in which a column is constant has an r of 0.

    Parameters
    ----------
    a, b : arrays of shape (n, n_columns)
    groups : array of shape (n,)
    n_bootstrap, seed : int

    Returns
    -------
    low, high : arrays of shape (n_columns + 1,)
        2.5 % and 97.5 % quantiles; the last is of the mean.
    """
    a, b = (x - x.mean(axis=0, dtype=np.float64) for x in (a, b))
    moments = np.stack([np.ones(a.shape), a, b, a * a, b * b, a * b])  # (6, n, n_columns)
    number = np.unique(groups, return_inverse=True)[1]
    sums = np.zeros((number.max() + 1, 6, a.shape[1]))
    np.add.at(sums, number, moments.swapaxes(0, 1))
    generator, found = numpy_generator(seed, "bootstrap", "correlations", len(sums)), []
    for start in range(0, n_bootstrap, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, n_bootstrap - start)
        drawn = generator.integers(len(sums), size=(size, len(sums)))
        weights = np.stack([np.bincount(row, minlength=len(sums)) for row in drawn])
        n, x, y, xx, yy, xy = np.einsum("dg,gmc->mdc", weights, sums)
        scale = np.sqrt(np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0))
        varies = scale > 1e-12 * np.sqrt(xx * yy)
        r = np.where(varies, xy - x * y / n, 0) / np.where(varies, scale, 1)
        found.append(np.column_stack([r, r.mean(axis=1)]))
    low, high = np.quantile(np.concatenate(found), [0.025, 0.975], axis=0)
    return low, high


def retrieval_table(config: Config, subject: str, shots: pd.Series) -> pd.DataFrame:
    """Look the test clips up by the decoded f, with intervals over shots.

    Returns
    -------
    DataFrame
        Columns `subject, form, system, gallery, by, n, k, hits, ci_low, ci_high, chance, n_clips, n_shots`, as those of
        `24_retrieval.py`: n is the size of the gallery, and chance is k / n.
    """
    evaluation, seed, rows = config.experiment.evaluation, config.experiment.seed, []
    for form in recipes.settings_of(config).forms:
        recipe = recipes.decoded(config, subject, form, "semantic")
        if recipes.shared_form(config, form, "semantic") != form or not recipe.path.is_file():
            continue
        with open_made(recipe) as decoded, open_made(recipes.clips(config)) as clips:
            ids = decoded["stimulus_id"][:]
            check_same_images(clips["stimulus_id"][: len(ids)], ids, clips.filename, recipe.path)
            by_system = {
                key.removeprefix("f").removeprefix("_") or NETWORK: decoded[key][:]
                for key in decoded
                if key == "f" or key.startswith("f_")
            }
            galleries = {by: clips[f"clip_{by}"][:] for by in ("image", "text")}
        by_system = {NETWORK: by_system.pop(NETWORK), **by_system}
        groups = shots[ids].to_numpy()
        for system, f in by_system.items():
            for by, targets in galleries.items():
                for gallery, n in (("small", len(ids)), ("large", len(targets))):
                    tops = [k for k in TOP if k < n]
                    found = hits(f, targets[:n], np.arange(len(ids)), tops)
                    low, high = significance.bootstrap_intervals(found, evaluation.n_bootstrap, seed, groups)
                    numbers = zip(tops, found.mean(axis=0), low, high, strict=True)
                    rows += [
                        (subject, form, system, gallery, by, n, *row, row[0] / n, len(ids), len(set(groups)))
                        for row in numbers
                    ]
    columns = ["subject", "form", "system", "gallery", "by", "n", "k", "hits", "ci_low", "ci_high", "chance"]
    return pd.DataFrame(rows, columns=[*columns, "n_clips", "n_shots"])
