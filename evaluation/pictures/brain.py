r"""Brain correlation: how like the measured responses are those that an encoding model predicts from a reconstruction.

For each voxel v, r_v is the correlation, across test images i, of the betas y_iv that were measured and of those that
the encoding model (`evaluation/pictures/encoding.py`) predicts from the picture, p_iv. The score of an ROI is the mean
of r_v over its voxels (MindEye2's definition; its encoding model is another one, GNet).

Such a score has no value for an image. Each image gets a pseudo-value in its place: with p and y standardised for each
voxel,

    r_iv = p_iv y_iv - r_v (p_iv^2 + y_iv^2) / 2 + r_v

Its mean over images is r_v exactly, and its deviation from r_v is the influence that the image has on r_v, so that the
bootstrap over images works as it does for all other scores (the infinitesimal jackknife).

The score of the stimuli themselves is the accuracy of the encoding model, and what reconstructions are to be compared
with. It is no strict ceiling: a reconstruction is decoded from the same betas that it is compared with, and can take
some of their noise over. The encoding model and the decoders share their training images.

References
----------
Scotti et al. (2024), MindEye2, arXiv 2403.11207. Efron & Tibshirani (1993), An Introduction to
the Bootstrap, chapters 11 and 21.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from data.recipes import prepared
from evaluation import significance, tables
from evaluation.catalogue import ALL_SUBJECTS, TABULATED, System
from evaluation.metrics.scorer import Embedded, embed
from evaluation.pictures import encoding, systems
from evaluation.pictures.catalogue import CATALOGUE, SYSTEMS
from evaluation.scores import COLUMNS, Key, place_of, read_kept, rows_of, scoring_settings, write_tables
from feature_decoding.accuracy import N_PERMUTATIONS
from minddiffuser import terminal
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.correlation import unit_rows
from minddiffuser.progress import progress
from minddiffuser.recipe import pick
from minddiffuser.store import open_made
from reconstruction import folder
from reconstruction.controls import other_images

STIMULUS, SHUFFLED_STIMULUS = "control/stimulus", "control/shuffled_stimulus"
_OWN = {
    STIMULUS: System("stimulus", "the stimulus itself: how well the encoding model predicts", "control"),
    SHUFFLED_STIMULUS: System("shuffled stimulus", "the stimulus of another test image: chance", "control"),
}
# A folder beside the other scores, in which metrics are names of ROIs, and `ALL`.
BRAIN = replace(CATALOGUE, folder=f"{CATALOGUE.folder}/brain", systems={**_OWN, **SYSTEMS})
TABLE, ALL = "brain_correlation", "all"
LEAST = 3  # images of which a correlation says something
NOTE = (
    "r of measured betas and of those that an encoding model predicts from the picture, across test images, mean over "
    "voxels; stimulus: the model's own accuracy. The model shares its training images with the decoders."
)


class Measured(NamedTuple):
    """What was measured of the test images.

    Attributes
    ----------
    stimulus_id : array of shape (n_images,)
        Of those that have betas.
    betas : array of shape (n_images, n_voxels)
    rois : dict of str to array of shape (n_voxels,), bool
        Voxels of each, "all" first, then in the order of `prepared.h5`.
    """

    stimulus_id: np.ndarray
    betas: np.ndarray
    rois: dict[str, np.ndarray]


def read_measured(config: Config, subject: str) -> Measured:
    """Read the betas of a subject's test images."""
    with open_made(prepared(config, subject)) as file:
        n_test, roi = int(file["is_test"][:].sum()), file["roi"][:].astype(str)  # test images come first
        ids, betas = file["stimulus_id"][:n_test], file["betas"][:n_test]
    has_betas = np.isfinite(betas).all(axis=1)
    names = [str(name) for name in dict.fromkeys(roi) if name != ALL]
    rois = {ALL: np.ones(len(roi), bool), **{name: roi == name for name in names}}
    return Measured(ids[has_betas], betas[has_betas], rois)


def correlate(
    predicted: np.ndarray, measured: np.ndarray, rois: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Correlate predicted and measured betas across images, by ROI.

    Parameters
    ----------
    predicted, measured : arrays of shape (n_images, n_voxels)
        A voxel that is constant in either has r = 0.
    rois : mapping of str to array of shape (n_voxels,), bool

    Returns
    -------
    values : dict of str to array of shape (n_images,)
        Pseudo-values of each ROI, the mean over its voxels; their mean over images is the score.
    floors : dict of str to float
        The 95th percentile of the score over permutations of the images.
    """
    n = len(predicted)
    images, generator = np.arange(n), np.random.default_rng(0)
    permutations = np.array([generator.permutation(n) for _ in range(N_PERMUTATIONS)])
    p, y = (unit_rows(np.asarray(betas, np.float64).T).T for betas in (predicted, measured))  # of length 1: y_iv / n^.5
    r = (p * y).sum(axis=0)
    by_voxel = n * (p * y - r * (p**2 + y**2) / 2) + r
    values, floors = {}, {}
    for roi, voxels in rois.items():
        values[roi] = by_voxel[:, voxels].mean(axis=1)
        products = p[:, voxels] @ y[:, voxels].T  # (n_images, n_images), the sum over voxels
        chance = products[images, permutations].sum(axis=1) / voxels.sum()
        floors[roi] = float(np.quantile(chance, 0.95))
    return values, floors


def states_of(config: Config, subject: str) -> dict[str, str]:
    """Systems of a subject that can be scored, and what they and the encoding model were made of.

    There are none where the subject has no betas of test images.
    """
    if len(read_measured(config, subject).stimulus_id) < LEAST:
        return {}
    fingerprint = encoding.encoder(config, subject).fingerprint
    found = {STIMULUS: "", SHUFFLED_STIMULUS: ""}
    found |= {
        name: f"{state}; "
        for name, state in systems.states_of(config, subject).items()
        if CATALOGUE.system(name).kind != "features"
    }
    return {name: f"{state}encoding model {fingerprint}" for name, state in found.items()}


def absent_of(config: Config, subject: str) -> str:
    """Say why a subject has no brain correlation; empty where it has."""
    path, n = prepared(config, subject).path, len(read_measured(config, subject).stimulus_id)
    return "" if n >= LEAST else f"{path} has betas of {n} test images, and {LEAST} are needed"


def score(
    run: Run, subject: str, todo: list[str], embedded: Mapping[Key, list[Embedded]]
) -> tuple[list[pd.DataFrame], dict[Key, dict[str, float]]]:
    """Score some systems of a subject: rows with the columns of scores.csv, whose metrics are ROIs, and floors.

    `embedded` has the samples of some systems as CLIP sees them, where that is known already.
    """
    encoding.make(run, subject)
    model, measured, clip = encoding.read(run.config, subject), read_measured(run.config, subject), None
    row_of = {stimulus_id: row for row, stimulus_id in enumerate(measured.stimulus_id)}
    with open_made(encoding.features(run.config, subject)) as file:
        known = dict(zip(file["stimulus_id"][:], range(len(file["stimulus_id"])), strict=True))
        of_stimuli = file["features"][:][[known[i] for i in measured.stimulus_id]]
    found, floors = [], {}
    for name in progress(todo, desc=f"{subject} brain correlation"):
        if name in _OWN:
            order = np.arange(len(row_of))
            if name == SHUFFLED_STIMULUS:
                order = other_images(len(row_of), run.config.experiment.seed)
            samples = [Embedded(measured.stimulus_id, of_stimuli[order])]
        elif (subject, name) in embedded:
            samples = embedded[subject, name]
        else:
            clip, batch = clip or encoding.open_scoring_clip(run), run.config.execution.batch_size.score
            pictures = [folder.read(path) for path in folder.sample_folders(place_of(run.config, subject, name))]
            samples = [Embedded(ids, embed(clip, images, run.device, batch)[1]) for ids, images in pictures]
        parts, of_parts = [], []
        for ids, features in samples:
            has_betas = np.isin(ids, measured.stimulus_id)
            if has_betas.sum() >= LEAST:
                rows = [row_of[i] for i in ids[has_betas]]
                values, floor = correlate(model.predict(features[has_betas]), measured.betas[rows], measured.rois)
                parts.append(pd.DataFrame(values, index=ids[has_betas]))
                of_parts.append(floor)
        if parts:  # an image's value is the mean over the system's samples
            mean = pd.concat(parts).groupby(level=0).mean()
            values = {"stimulus_id": mean.index.to_numpy(), **{roi: mean[roi].to_numpy() for roi in mean}}
            found.append(rows_of(subject, name, values))
            floors[subject, name] = {roi: float(np.mean([of[roi] for of in of_parts])) for roi in measured.rois}
    return found, floors


def update(run: Run, embedded: Mapping[Key, list[Embedded]]) -> pd.DataFrame:
    """Score what is new or has changed, write `evaluation/brain/`, print and give the table.

    `embedded` has the pictures of some systems as the CLIP that scores sees them, a part for each sample, so that they
    need not go through it again.

    Returns
    -------
    DataFrame
        Columns `subject, system, roi, r, ci_low, ci_high, floor, n`. Subject "all" is the mean over subjects on the
        images that all of them have; its floor is the mean of theirs.
    """
    config, output, evaluation = run.config, BRAIN.output(run.config), run.config.experiment.evaluation
    settings = scoring_settings(config) | pick(config.experiment, "seed")
    kept = read_kept(run, output, settings, states_of, ("scores", TABLE))
    parts, floors = [kept.scores[COLUMNS]], _read_floors(output) if kept.fresh else {}
    for subject in run.subjects:
        todo = [name for of, name in kept.states if of == subject and (subject, name) not in kept.fresh]
        if todo:
            found, of_found = score(run, subject, todo, embedded)
            parts, floors = [*parts, *found], {**floors, **of_found}
    scores = pd.concat([part for part in parts if len(part)] or parts)
    place = {name: k for k, name in enumerate(BRAIN.in_order(set(scores["system"])))}
    scores = scores.assign(place=scores["system"].map(place), value=scores["value"].astype(float).round(6))
    scores = scores.sort_values(["subject", "place"], kind="stable").drop(columns="place")
    table = summarise(scores, floors, evaluation.n_bootstrap, config.experiment.seed)
    scored = sorted(set(zip(scores["subject"], scores["system"], strict=True)))
    absent = {subject: reason for subject in kept.subjects if (reason := absent_of(config, subject))}
    record = {"settings": settings, "absent": absent, "scored": [[*key, kept.states[key]] for key in scored]}
    write_tables(output, {"scores": scores, TABLE: table}, record)
    print_table(table, absent)
    print(terminal.wrapped(f"written: {output}/{TABLE}.csv, scores.csv"))
    return table


def summarise(
    scores: pd.DataFrame, floors: Mapping[Key, Mapping[str, float]], n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """Mean, interval and floor of each subject, system and ROI; see `update`."""
    table = significance.summarise(scores, n_bootstrap, seed).rename(columns={"metric": "roi", "mean": "r"})
    subjects = list(scores["subject"].unique())

    def floor_of(subject: str, name: str, roi: str) -> float:
        of = subjects if subject == ALL_SUBJECTS else [subject]
        return float(np.mean([floors[one, name][roi] for one in of]))

    keys = table[["subject", "system", "roi"]].itertuples(index=False)
    table.insert(list(table).index("n"), "floor", [floor_of(*map(str, key)) for key in keys])
    return table


def _read_floors(output: Path) -> dict[Key, dict[str, float]]:
    """Read the floors of what was scored earlier."""
    found: dict[Key, dict[str, float]] = {}
    for row in pd.read_csv(output / f"{TABLE}.csv", dtype={"subject": str}).itertuples(index=False):
        found.setdefault((str(row.subject), str(row.system)), {})[str(row.roi)] = float(row.floor)
    return found


def shown(table: pd.DataFrame, subject: str) -> tables.Rows:
    """Lay out the table of a subject: of all voxels with interval and floor, of each ROI r alone.

    Systems are those that have a row in the tables of systems; more than r of each ROI is in the file.
    """
    rows = table[(table["subject"] == subject) & table["system"].map(lambda name: BRAIN.system(name).kind in TABULATED)]
    rois = [roi for roi in dict.fromkeys(rows["roi"]) if roi != ALL]
    found = [["system", "n", "all voxels", "floor", *rois]]
    for name, of_system in rows.groupby("system", sort=False):
        by_roi = of_system.set_index("roi")
        whole = by_roi.loc[ALL]
        interval = f"{tables.number(whole['r'])} [{tables.number(whole['ci_low'])}, {tables.number(whole['ci_high'])}]"
        cells = [tables.number(by_roi.loc[roi, "r"]) if roi in by_roi.index else "–" for roi in rois]
        label = BRAIN.system(str(name)).label
        found.append([label, f"{whole['n']:.0f}", interval, tables.number(whole["floor"]), *cells])
    return found


def print_table(table: pd.DataFrame, absent: Mapping[str, str]) -> None:
    """Print the table of each subject, or, where there are several, of their mean; and who has none."""
    subjects = list(table["subject"].unique())
    for subject in [ALL_SUBJECTS] if ALL_SUBJECTS in subjects else subjects:
        print(f"\n{terminal.wrapped(f'Brain correlation, {subject}: {NOTE}')}")
        print(f"{tables.as_text(shown(table, subject))}\n")
    for subject, reason in absent.items():
        print(terminal.wrapped(f"absent: brain correlation of {subject} ({reason})"))
