"""The part of the page that shows films: whether motion is decoded, the films themselves, and their scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.catalogue import ALL_SUBJECTS
from evaluation.page.album import Album, Strip
from evaluation.page.shell import Section
from evaluation.tables import (
    Rows,
    choices_of,
    difference_matrix,
    notes_on,
    number,
    page_differences,
    page_table,
)
from evaluation.videos import comparison
from evaluation.videos.catalogue import CATALOGUE, CEILING, GROUPS, MOVER, OTHER_CLIP, STATIC
from evaluation.videos.decoded import TARGETS
from evaluation.videos.published import METRICS as PUBLISHED
from evaluation.videos.published import read_published
from evaluation.videos.scoring import states_of
from evaluation.videos.shown import (
    RULE,
    Clip,
    SubjectFilms,
    choose_clips,
    folders_of,
    frames_of,
    number_of_clips,
    read_subject,
    read_true,
)
from evaluation.videos.verdict import LEVEL, generators, is_moving, p_value, verdict
from minddiffuser.config import Config
from minddiffuser.store import DataError

_LINKS = {"films": "Motion", "film-clips": "Films", "film-scores": "Scores", "film-published": "Published"}
_STILL_SHARE = 1 / 3  # of the mean true speed, below which a clip hardly moves
_SHOWN = (MOVER, OTHER_CLIP, STATIC, CEILING)  # beside the first form, at first
_SECONDS = 2  # of a clip
_MOTION_GROUP = "motion"


def make(config: Config, subjects: Sequence[str], album: Album, light: int = 0) -> tuple[Section, dict[str, bytes]]:
    """Make the section of those of some subjects that have scores; its films are in the album, none beside the page.

    With `light`, it shows that many test clips.

    Raises
    ------
    DataError
        None of them has scores, or something was made with other settings.
    """
    tables, record = comparison.read(config)
    scores, settings = tables["scores"], config.experiment.mind_animator
    subjects = [subject for subject in subjects if subject in set(scores["subject"])]
    if not subjects or settings is None:
        output = CATALOGUE.output(config)
        raise DataError(f"{output} has no scores of these subjects; run: python {CATALOGUE.script}")
    for subject in subjects:
        states_of(config, subject)  # raises where what is there was made with other settings
    systems_of = {name: scores.loc[scores["subject"] == name, "system"].unique().tolist() for name in subjects}
    places = {name: folders_of(config, name, systems) for name, systems in systems_of.items()}
    n_clips = number_of_clips(settings, sum(map(len, places.values())) + 1)
    speeds = choose_clips(scores, min(n_clips, light) if light else n_clips)
    clips = read_true(config, settings, speeds)
    n_of = scores.groupby("subject")["stimulus_id"].nunique()
    found = [read_subject(config, name, places[name], list(speeds), int(n_of[name])) for name in subjects]
    return section(config, found, clips, tables, record, album), {}


def section(
    config: Config,
    subjects: Sequence[SubjectFilms],
    clips: Sequence[Clip],
    tables: Mapping[str, pd.DataFrame],
    record: Mapping[str, Any],
    album: Album,
) -> Section:
    """Lay the section out, of what `comparison.read` gives; the clips that were seen are the same for all subjects."""
    names = [subject.name for subject in subjects]
    shown = [*names, ALL_SUBJECTS]
    tables = {name: of[of["subject"].isin(shown)] for name, of in tables.items() if "subject" in of}
    choices = choices_of(names, tables["summary"])
    summary, motion, claim, shuffle = (tables[name] for name in ("summary", "motion", "claim", "shuffle"))
    notes, present = notes_on(record, [subject.settings for subject in subjects]), set(summary["metric"])
    metrics_of = {group: CATALOGUE.metrics_of(group, present) for group in GROUPS}
    paired = tables["paired"]
    compared = [name for group in GROUPS for name in metrics_of[group] if name in set(paired["metric"])]
    blind = [name for name in names if name in comparison.without_direction(config.experiment)]
    claims = verdict(motion, claim, shuffle, blind)
    scored = [name for metrics in metrics_of.values() for name in metrics if name in present]
    n_all = max(subject.n_clips for subject in subjects)
    return Section(
        folder=Path(__file__).parent.name,
        title=CATALOGUE.title,
        heading="Films reconstructed from brain activity",
        unit="test clips",
        links=list(_LINKS.items()),
        content={
            "subjects": names,
            "choices": choices,
            "blind": blind,
            "verdicts": claims,
            "overview": _overview(motion, names),
            "motion": comparison.motion_rows(motion),
            "measures": [CATALOGUE.metric(name) for name in metrics_of[_MOTION_GROUP]],
            "claim": comparison.claim_rows(claim),
            "shuffle": comparison.shuffle_rows(shuffle),
            "clips_title": "Every test clip" if len(clips) == n_all else f"{len(clips)} of {n_all} test clips",
            "clips_rule": "All are here." if len(clips) == n_all else f"They are {RULE}.",
            "clip_metrics": [(name, CATALOGUE.metric(name).label) for name in scored],
            "n_frames": config.experiment.mind_animator.clips.n_frames if config.experiment.mind_animator else 1,
            "decoded": decoded_rows(tables["decoded"]),
            "velocity": velocity_rows(tables["velocity"]),
            "retrieval": retrieval_rows(tables["retrieval"]),
            "groups": [
                page_table(f"films-{group}", title, metrics_of[group], summary, choices, notes, CATALOGUE)
                | {"method": "Mind-Animator"}
                for group, title in GROUPS.items()
                if group != _MOTION_GROUP and any(name in present for name in metrics_of[group])
            ],
            "matrix_rows": difference_matrix(paired, choices, compared, CATALOGUE),
            "columns": [CATALOGUE.metric(name).label for name in compared],
            "differences": page_differences(paired, choices, _MOTION_GROUP, CATALOGUE),
            "as_published": as_published_rows(tables["as_published"]),
            "published": published_rows(),
        },
        is_simulated=config.experiment.miniature_cc2017 is not None,
        n_images={subject.name: subject.n_clips for subject in subjects},
        settings=record["settings"],
        fingerprints={
            subject.name: [
                (name, len(subject.films[name]), str(content["fingerprint"]))
                for name, content in subject.settings.items()
            ]
            for subject in subjects
        },
        verdict=claims,
        strip=_strip(subjects[0], clips, tables["scores"]),
        absent=[(f"{CATALOGUE.metric(name).label}, of films", why) for name, why in record["absent"].items()],
        scripts=("player.js",),
        data={"films": _films(config, subjects, clips, tables["scores"], scored, album)},
    )


# Tables ---------------------------------------------------------------------------------------------------------------


def _overview(motion: pd.DataFrame, subjects: Sequence[str]) -> list[dict[str, Any]]:
    """Flow cosines: a row a system, a cell a subject, None where it is absent."""
    low, high = min(motion["ci_low"].min(), 0), max(motion["ci_high"].max(), 0)
    rows = {(row["subject"], row["system"]): row for row in motion.to_dict("records")}

    def cell(row: dict[str, Any] | None) -> dict[str, Any] | None:
        if row is None:
            return None
        values = [row["flow_cosine"], row["ci_low"], row["ci_high"]]
        places = [round(100 * (value - low) / ((high - low) or 1), 1) for value in values]
        mean, *interval = values
        return {
            **{"mean": mean, "low": interval[0], "high": interval[1], "p": row["p_holm"]},
            **{"places": places, "moves": is_moving(row)},
        }

    return [
        {**vars(CATALOGUE.system(name)), "cells": [cell(rows.get((subject, name))) for subject in subjects]}
        for name in dict.fromkeys(motion["system"])
    ]


def decoded_rows(decoded: pd.DataFrame) -> list[tuple[str, Rows]]:
    """Lay out what is decoded: a table a subject and form, "corrected" first; a row a system, a column a target."""

    def cell(row: dict[str, Any]) -> str:
        is_clear = row["p_holm"] <= LEVEL and not row["difference_low"] <= 0 <= row["difference_high"]
        return _interval(row, "r_by_clip") + (" ▼" if is_clear and row["difference"] > 0 else " ▲" if is_clear else "")

    found = []
    for (subject, form), rows in decoded.groupby(["subject", "form"], sort=False):
        cells = {(row["system"], row["target"]): cell(row) for row in rows.to_dict("records")}
        targets, systems = rows["target"].unique(), rows["system"].unique()
        table = [
            [str(name).replace("_", " "), *(cells.get((name, target), "–") for target in targets)] for name in systems
        ]
        found.append((f"{subject}, {form}", [["", *(TARGETS[target] for target in targets)], *table]))
    return sorted(found, key=lambda part: not part[0].endswith("corrected"))


def velocity_rows(velocity: pd.DataFrame) -> Rows:
    """Lay out how well velocities are decoded: a row a subject and form, a column a component."""
    heads = {"x": "to the right", "y": "down", "both": "both"}
    rows = []
    for (subject, form), group in velocity.groupby(["subject", "form"], sort=False):
        cells = {row["component"]: row for row in group.to_dict("records")}
        texts = (f"{_interval(row, 'r')}, p {p_value(row['p'])}" for row in (cells[name] for name in heads))
        rows.append([f"{subject}, {form}", *texts])
    return [["subject, form", *heads.values()], *rows] if rows else []


def retrieval_rows(retrieval: pd.DataFrame) -> Rows:
    """Lay out which test clips are found: a row a subject, form and system, a column a gallery and first k."""
    columns = list(dict.fromkeys(zip(retrieval["n"], retrieval["k"], retrieval["chance"], strict=True)))
    columns.sort()
    rows = []
    for names, group in retrieval.groupby(["subject", "form", "system", "by"], sort=False):
        cells = {(row["n"], row["k"]): _interval(row, "hits") for row in group.to_dict("records")}
        title = "{}, {}, {}, by {}".format(*names)
        rows.append([title, *(cells.get((n, k), "–") for n, k, _ in columns)])
    heads = [f"first {k} of {n} (chance {number(chance)})" for n, k, chance in columns]
    return [["subject, form, system", *heads], *rows] if rows else []


def as_published_rows(scores: pd.DataFrame) -> Rows:
    """Lay out scores as published: a row a subject and system, a column a metric."""
    if scores.empty:
        return []
    metrics = list(dict.fromkeys(scores["metric"]))
    rows = []
    for (subject, name), group in scores.groupby(["subject", "system"], sort=False):
        cells = {row["metric"]: _interval(row, "mean") for row in group.to_dict("records")}
        whose = "mean over subjects" if subject == ALL_SUBJECTS else subject
        rows.append([f"{whose}, {CATALOGUE.system(str(name)).label}", *(cells.get(metric, "–") for metric in metrics)])
    return [["subject, system", *(CATALOGUE.metric(metric).label for metric in metrics)], *rows]


def published_rows() -> dict[str, Rows]:
    """Lay out what papers print, by dataset and source: a row a system, a column a metric."""
    found = {}
    for (dataset, source), rows in read_published().groupby(["dataset", "source"], sort=False):
        metrics = [name for name in PUBLISHED if name in set(rows["metric"])]
        values = {(row.system, row.subjects, row.metric): row.value for row in rows.itertuples()}
        of = dict.fromkeys((row.system, row.subjects) for row in rows.itertuples())
        table = [
            [
                f"{system}{f', subject {subjects}' if subjects else ''}",
                *(_plain(values.get((system, subjects, name))) for name in metrics),
            ]
            for system, subjects in of
        ]
        found[f"{dataset}: {source}"] = [["system", *(PUBLISHED[name] for name in metrics)], *table]
    return found


def _interval(row: Mapping[str, Any], column: str) -> str:
    if pd.isna(row[column]):
        return "–"
    return f"{number(row[column])} [{number(row['ci_low'])}, {number(row['ci_high'])}]"


def _plain(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:g}"


# Films ----------------------------------------------------------------------------------------------------------------


def _films(
    config: Config,
    subjects: Sequence[SubjectFilms],
    clips: Sequence[Clip],
    scores: pd.DataFrame,
    metrics: Sequence[str],
    album: Album,
) -> dict[str, Any]:
    """Give what the player shows; films are numbers in the album, and values in the order of clips."""
    settings = config.experiment.mind_animator
    seen = [album.add("films", clip.film) for clip in clips]
    ids = [clip.stimulus_id for clip in clips]
    of_subjects = {}
    for subject in subjects:
        rows = scores[(scores["subject"] == subject.name) & scores["metric"].isin(metrics)]
        of_subjects[subject.name] = {
            "films": {
                name: [album.add(f"{subject.name} films", films.get(key)) for key in ids]
                for name, films in subject.films.items()
            },
            "scores": _scores_by_clip(rows, ids),
        }
    systems = CATALOGUE.in_order({name for subject in subjects for name in subject.films})
    speeds = [clip.speed for clip in clips]
    return {
        "n_frames": settings.clips.n_frames if settings else 1,
        "seconds": _SECONDS,
        "still_below": _STILL_SHARE * float(np.mean(speeds)) if speeds else 0.0,
        "systems": {name: vars(CATALOGUE.system(name)) for name in systems},
        "shown": [*generators(systems)[:1], *_SHOWN],
        "metrics": {name: {"higher": CATALOGUE.metric(name).higher_is_better} for name in metrics},
        "clips": [
            {"name": clip.name, "caption": clip.caption, "speed": round(clip.speed, 3), "film": film}
            for clip, film in zip(clips, seen, strict=True)
        ],
        "subjects": of_subjects,
    }


def _strip(subject: SubjectFilms, clips: Sequence[Clip], scores: pd.DataFrame) -> Strip | None:
    """Frames of one clip side by side, beside what some systems made of it; the mover's median clip, by flow cosine."""
    rows = scores[(scores["subject"] == subject.name) & (scores["system"] == MOVER)]
    rows = rows[(rows["metric"] == "flow_cosine") & rows["stimulus_id"].isin([clip.stimulus_id for clip in clips])]
    if rows.empty:
        return None
    middle = rows.sort_values(["value", "stimulus_id"])["stimulus_id"].iloc[len(rows) // 2]
    clip = next(clip for clip in clips if clip.stimulus_id == middle)
    systems = [name for name in (CEILING, MOVER, *generators(subject.films), OTHER_CLIP) if name in subject.films]
    films = [
        ("seen", clip.film),
        *((CATALOGUE.system(name).label, subject.films[name].get(middle)) for name in systems),
    ]
    made = [(label, frames_of(film)) for label, film in films if film is not None]
    n_frames = max(len(frames) for _, frames in made)
    rule = (
        f"{subject.name}, the frames of {clip.name}: of the clips below, the one with the mover's median flow cosine."
    )
    full: list[tuple[str, list[bytes | None]]] = [
        (label, [*frames, *frames[-1:] * (n_frames - len(frames))]) for label, frames in made
    ]
    return Strip(subject.name, rule, [f"frame {k + 1}" for k in range(n_frames)], full)


def _scores_by_clip(scores: pd.DataFrame, ids: Sequence[int]) -> dict[str, dict[str, list[float | None]]]:
    found: dict[str, dict[str, list[float | None]]] = {}
    for (name, measure), group in scores.groupby(["system", "metric"], sort=False):
        values = group.set_index("stimulus_id")["value"].reindex(ids)
        rounded = [round(float(value), 4) if np.isfinite(value) else None for value in values]
        found.setdefault(str(name), {})[str(measure)] = rounded
    return found
