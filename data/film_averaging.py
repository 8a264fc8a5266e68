"""From runs of a film to rows of vertices, one a clip: repetitions averaged, vertices selected, rows scaled."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from data import cc2017, recordings
from data.cc2017 import Film
from data.cortex import AREAS, OTHER, Cortex
from data.nsd_betas import noise_ceiling
from data.voxel_selection import fisher_z, scaled_like, select_vertices
from minddiffuser.config.mind_animator import FilmVoxels, MindAnimator, animator_form
from minddiffuser.store import DataError

_LITTLE = 0.05  # mean r of vertices below which a subject's runs do not tell whose they are
_SAME = 7.0  # Fisher z from which on two runs are one and the same: r is above .999998


def average_film(
    root: Path, subject: str, film: Film, cortex: Cortex, visual: np.ndarray, settings: FilmVoxels
) -> dict[str, np.ndarray]:
    """Standardise each run of a film, and average them.

    Peak memory: one run three times, and five times its size for the sums, in float32; 0.5 GB for a real film.

    Parameters
    ----------
    root : Path
        Of CC2017.
    subject : str
    film : Film
    cortex : Cortex
        That all runs have.
    visual : array of shape (n_vertices,), bool
        Vertices by which it is told whether runs were recorded at the same time of the film.
    settings : FilmVoxels

    Returns
    -------
    dict
        mean       (n_rows, n_vertices) float32, of z-scores over repetitions. Clip k has row k and the n_volumes - 1
                   after it
        halves     (2, n_rows, n_vertices) float32, for test films: means of the first and of the second half of the
                   repetitions, as many in both; not a number where there is one
        fisher_z   (n_vertices,), for training films: of those halves
        squares    (n_volumes, n_vertices), sum of squared z-scores over repetitions and clips
        n_repetitions
        run, lag, agreement, is_left_out   (n_runs,), names of all runs; volumes by which they were recorded later than
                   the mean of the others, and r with that mean, see `find_agreements`, both not a number where that
                   cannot be told; and whether the settings leave them out
        n_empty    (n_runs,), vertices without data, which are 0

    Raises
    ------
    DataError
        Repetitions are too few (a training film needs two), or the same file twice; or one was recorded late or early,
        and is not left out. See also `cc2017.read_run` and `recordings.standardise_run`.
    """
    runs, used = runs_of(root, subject, film, settings)
    n_rows, n_vertices, half = film.n_clips + settings.n_volumes - 1, len(cortex.vertex), len(used) // 2
    total, halves = np.zeros((n_rows, n_vertices)), np.zeros((2, n_rows, n_vertices), np.float32)
    squares, seen, n_empty = np.zeros((settings.n_volumes, n_vertices)), {}, dict.fromkeys(runs, 0)
    for name, number in runs.items():
        path = cc2017.recording_path(root, subject, film.name, number)
        try:
            volumes = cc2017.read_run(path, cortex, film.n_clips, settings.extra_lag, settings.n_volumes)
            scaled = recordings.standardise_run(volumes, settings.detrend_order, settings.invalid, path)
        except DataError:
            if name in used:
                raise
            continue  # perhaps it is left out for that
        seen[name] = scaled[:, visual]
        n_empty[name] = int((~scaled.any(axis=0)).sum())
        if name not in used:
            continue
        total += scaled
        if (place := used.index(name)) < 2 * half:
            halves[place // half] += scaled
        for k in range(settings.n_volumes):
            clips = scaled[k : k + film.n_clips]
            squares[k] += np.einsum("ij,ij->j", clips, clips, dtype=np.float64)
    lags, agreements = find_lags(seen, used), find_agreements(seen, used)
    refuse_late(subject, film.name, lags, used)
    with np.errstate(invalid="ignore"):
        halves /= half
    found = {"halves": halves}
    if not film.is_test:
        found = {"fisher_z": fisher_z(*halves)}
        if (is_same := np.abs(found["fisher_z"]) > _SAME).any():
            text = f"{subject}: {is_same.sum()} vertices are the same in repetitions of {film.name}, {', '.join(used)}"
            raise DataError(f"{text}: one is a copy of the other", "download both again")
    return {
        **found,
        "mean": (total / len(used)).astype(np.float32),
        "squares": squares,
        "n_repetitions": np.array(len(used)),
        "run": np.array(list(runs), "S"),
        "lag": np.array([lags.get(name, np.nan) for name in runs]),
        "agreement": np.array([agreements.get(name, np.nan) for name in runs]),
        "is_left_out": np.array([name not in used for name in runs]),
        "n_empty": np.array(list(n_empty.values())),
    }


def runs_of(root: Path, subject: str, film: Film, settings: FilmVoxels) -> tuple[dict[str, int], list[str]]:
    """Find the runs of a film: numbers of all by their names, such as seg1_2, and the names that are not left out.

    Raises
    ------
    DataError
        Too few can be used: of a training film two are needed, of a test film one.
    """
    runs = {f"{film.name}_{k}": k for k in cc2017.repetitions(root, subject, film.name)}
    used = [name for name in runs if name not in settings.exclude.get(subject, ())]
    least = 1 if film.is_test else 2
    if len(used) < least:
        absent = next(k for k in itertools.count(1) if k not in runs.values())
        expected = cc2017.recording_path(root, subject, film.name, absent)
        left_out = f", besides {', '.join(sorted(set(runs) - set(used)))}, left out" if len(runs) > len(used) else ""
        text = f"{subject} has {len(used)} runs of {film.name}{left_out}, and {least} are needed: expected {expected}"
        raise DataError(text, cc2017.WHERE, expected)
    return runs, used


def find_lags(seen: Mapping[str, np.ndarray], used: Sequence[str]) -> dict[str, float]:
    """Tell by how many volumes each run of a film was recorded later than the mean of the others that are used.

    Parameters
    ----------
    seen : mapping of str to array of shape (n_rows, n_visual)
        Of the runs that could be read, what they show.
    used : sequence of str
        Runs that are averaged.

    Returns
    -------
    dict
        From names of the runs that were seen to lags; not a number where there are no others.
    """
    return {
        name: np.nan if others is None else recordings.lag_of(run, others) for name, run, others in _pairs(seen, used)
    }


def find_agreements(seen: Mapping[str, np.ndarray], used: Sequence[str]) -> dict[str, float]:
    """Correlate each run of a film with the mean of the others that are used: mean r of the vertices.

    A run that is of another subject agrees less with the others, though it was recorded in time.

    Parameters
    ----------
    seen, used
        As in `find_lags`.

    Returns
    -------
    dict
        From names of the runs that were seen to r; not a number where there are no others.
    """
    return {
        name: np.nan if others is None else float(np.tanh(fisher_z(run, others)).mean())
        for name, run, others in _pairs(seen, used)
    }


def _pairs(seen: Mapping[str, np.ndarray], used: Sequence[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Give each run that was seen, and the sum of the others that are used, if there are any."""
    total = np.sum([seen[name] for name in used], axis=0)
    for name, run in seen.items():
        others = total - run if name in used else total
        yield name, run, others if len(used) > (name in used) else None


def refuse_late(subject: str, film: str, lags: Mapping[str, float], used: Sequence[str]) -> None:
    """Raise DataError if a run that is used was recorded late or early, by what `find_lags` gave."""
    wrong = {name: int(lags[name]) for name in used if lags[name] and not np.isnan(lags[name])}
    if wrong:
        listed = ", ".join(f"{name} by {lag:+d} volumes" for name, lag in wrong.items())
        raise DataError(
            f"{subject}: runs of {film} were recorded later (+) or earlier in the film than the others: {listed}",
            "leave out which is wrong by experiment.mind_animator.voxels.exclude, such as "
            f"{{{subject}: [{next(iter(wrong))}]}}",
        )


def find_strangers(runs: Sequence[str], agreements: np.ndarray) -> dict[str, tuple[float, float]]:
    """Find runs that agree with the others of their film less than half as well as is usual for the subject.

    They may be of another subject, which nothing in the file tells, or of one who slept. Of the two runs of a training
    film both are found, for nobody knows which is the wrong one.

    Parameters
    ----------
    runs : sequence of str
        Names, such as seg1_2.
    agreements : array of shape (n_runs,)
        Of `find_agreements`; not a number where they are not known, or do not count.

    Returns
    -------
    dict
        From names to agreements and to what is usual: the median of training runs, or of test runs. Nothing where what
        is usual is so little that chance gives less than half of it.
    """
    found = {}
    is_test = np.array([name.startswith("test") for name in runs], bool)
    for kind in (is_test, ~is_test):
        of_kind = kind & np.isfinite(agreements)
        usual = float(np.median(agreements[of_kind])) if of_kind.any() else 0.0
        if usual < _LITTLE:
            continue
        found |= {runs[k]: (float(agreements[k]), usual) for k in np.flatnonzero(of_kind & (agreements < usual / 2))}
    return found


def make_rows(
    films: Sequence[Film],
    cortex: Cortex,
    areas: np.ndarray,
    settings: MindAnimator,
    read_films: Callable[[], Iterator[h5py.File]],
) -> dict[str, np.ndarray]:
    """Select vertices, and put the clips of all films together, as data/05_prepare_films.py writes them.

    Vertices are those that any of the forms selects. Peak memory: the result, half of it again, and one film.

    Parameters
    ----------
    films : sequence of Film
        Test films first.
    cortex : Cortex
    areas : array of shape (n_vertices,), str
    settings : MindAnimator
    read_films : callable
        Opens what `average_film` gave, one film after the other.
    """
    clips, voxels, is_test = label_clips(films), settings.voxels, np.repeat(*_of_films(films, "is_test"))
    z = np.stack([file["fisher_z"][:] for file in read_films() if "fisher_z" in file])
    selected = {}
    for form in settings.forms:
        own = animator_form(settings, form).voxels
        selected[form] = np.isin(np.arange(len(areas)), select_vertices(z, own.n, own.ranking, own.tail))
    taken = np.flatnonzero(np.any(list(selected.values()), axis=0))
    n_columns, n_test = len(taken) * voxels.n_volumes, int(is_test.sum())
    betas, halves = np.empty((len(is_test), n_columns), np.float32), np.empty((n_test, 2, n_columns), np.float32)
    squares, n_repetitions, runs, start = np.zeros(n_columns), np.empty(len(is_test), int), [], 0
    for film, file in zip(films, read_films(), strict=True):
        rows = slice(start, start + film.n_clips)
        betas[rows] = by_clip(file["mean"][:], taken, voxels.n_volumes)
        if film.is_test:
            for k in (0, 1):
                halves[rows, k] = by_clip(file["halves"][k], taken, voxels.n_volumes)
        squares += file["squares"][:][:, taken].ravel()
        n_repetitions[rows] = file["n_repetitions"][()]
        runs.append({key: file[key][:] for key in ("run", "lag", "agreement", "is_left_out", "n_empty")})
        start = rows.stop
    ceiling = noise_ceiling(betas, n_repetitions, squares)
    test, training = betas[:n_test], betas[n_test:]  # views
    reference = test if voxels.test_scaling == "test" else training
    halves = scaled_like(halves, reference)
    test[:] = scaled_like(test, reference)
    training[:] = scaled_like(training, training)
    return {
        "betas": betas,
        "betas_halves": halves,
        "noise_ceiling": ceiling,
        **clips,
        "is_test": is_test,
        "is_validation": is_validation(is_test, settings.n_validation),
        "n_repetitions": n_repetitions,
        "roi": np.tile(areas[taken], voxels.n_volumes).astype("S"),
        "hemisphere": np.tile(cortex.hemisphere[taken], voxels.n_volumes).astype("S"),
        "vertex": np.tile(cortex.vertex[taken], voxels.n_volumes),
        "volume": np.repeat(np.arange(voxels.n_volumes), len(taken)),
        "fisher_z": np.tile(z[:, taken], voxels.n_volumes),
        "form": np.array(settings.forms, "S"),
        "is_selected": np.tile(np.stack(list(selected.values()))[:, taken], voxels.n_volumes),
        "cortex_roi": areas.astype("S"),
        "cortex_reliability": np.tanh(z).mean(axis=0),
        **{key: np.concatenate([of_film[key] for of_film in runs]) for key in runs[0]},
    }


def label_clips(films: Sequence[Film]) -> dict[str, np.ndarray]:
    """Give `stimulus_id`, `film` and `clip` of all clips of films, in order: each (n_clips,)."""
    names, counts = _of_films(films, "name")
    clip = np.concatenate([np.arange(1, n + 1) for n in counts])
    film = np.repeat(names, counts)
    keys = [cc2017.clip_key(name, number) for name, number in zip(film.tolist(), clip.tolist(), strict=True)]
    return {"stimulus_id": np.array(keys), "film": film.astype("S"), "clip": clip}


def is_validation(is_test: np.ndarray, n_validation: int) -> np.ndarray:
    """Mark the last training clips, which are held out of the training of networks: (n_clips,), bool.

    Raises
    ------
    DataError
        No training clip would be left.
    """
    training = np.flatnonzero(~is_test)
    if n_validation >= len(training):
        raise DataError(
            f"experiment.mind_animator.n_validation {n_validation} leaves none of {len(training)} training clips"
        )
    return np.isin(np.arange(len(is_test)), training[-n_validation:])


def by_clip(X: np.ndarray, columns: np.ndarray, n_volumes: int) -> np.ndarray:
    """Put the volumes of a clip into one row: from (n_clips + n_volumes - 1, n) to (n_clips, n_volumes n_columns)."""
    n_clips = len(X) - n_volumes + 1
    return np.concatenate([X[k : k + n_clips][:, columns] for k in range(n_volumes)], axis=1)


def reliability_by_area(prepared: h5py.File) -> pd.DataFrame:
    """Summarise how well vertices repeat, by area: of the whole cortex, whether they are selected or not.

    Returns
    -------
    DataFrame
        Columns area, n_vertices, reliability (r of two repetitions of a training film, mean over films, median over
        vertices), and for each form the vertices of the area that it selects.
    """
    vertices = pd.DataFrame({"area": prepared["cortex_roi"][:].astype(str), "r": prepared["cortex_reliability"][:]})
    table = vertices.groupby("area")["r"].agg(n_vertices="size", reliability="median").round(3)
    roi, is_first = prepared["roi"][:].astype(str), prepared["volume"][:] == 0
    for form, is_selected in zip(prepared["form"][:].astype(str), prepared["is_selected"][:], strict=True):
        counts = pd.Series(roi[is_selected & is_first]).value_counts()
        table[form] = counts.reindex(table.index, fill_value=0)
    order = [area for area in (*AREAS, OTHER) if area in table.index]
    return table.loc[order].reset_index()


def _of_films(films: Sequence[Film], what: str) -> tuple[np.ndarray, np.ndarray]:
    """Give a property of each film, and its number of clips."""
    return np.array([getattr(film, what) for film in films]), np.array([film.n_clips for film in films])
