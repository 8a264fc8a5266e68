"""The part of the page that shows the Natural Scenes Dataset: scores, every test image, differences, and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.catalogue import TABULATED
from evaluation.page.album import Album, as_png
from evaluation.page.shell import Section
from evaluation.pictures import brain
from evaluation.pictures.catalogue import CATALOGUE, CEILING, GROUPS, SHUFFLED, STAGE1, STAGE2
from evaluation.pictures.comparison import PAPER, QUOTED_AS, label
from evaluation.pictures.cortex import COLOURS, as_data
from evaluation.pictures.examples import card, examples, spread_by_rule, strip
from evaluation.pictures.methods import methods
from evaluation.pictures.shown import CONSTANT, SubjectResults, pictures_per_trajectory, read_subject, some_of
from evaluation.pictures.verdict import SIMILARITY, absences, best_rival, method_of, shown_first, verdict
from evaluation.scores import is_scored, place_of, read_tables
from evaluation.tables import (
    choices_of,
    difference_matrix,
    nested,
    notes_on,
    page_differences,
    page_table,
    read_quoted,
    sampled,
)
from minddiffuser.cli import with_settings
from minddiffuser.config import REPOSITORY, Config
from minddiffuser.store import DataError

_LINKS = ("Scores", "Images", "Differences", "Plots", "Decoding", "Cortex", "Published")
_LEVELS = {"shuffled": SHUFFLED, "ceiling": CEILING}  # what stands under each heading
_WORDS = {(STAGE2, STAGE1): ("stage 2 improves", "stage 2 worsens")}


def make(config: Config, subjects: Sequence[str], album: Album, light: int = 0) -> tuple[Section, dict[str, bytes]]:
    """Make the section of some subjects, and the pictures beside the page, by the name of their file.

    With `light`, the section has that many test images of each subject, and not the way of stage 2.

    Raises
    ------
    DataError
        One of them has no scores, or something was made with other settings.
    """
    names = ["scores", "summary", "paired"]
    if (CATALOGUE.output(config) / "spread.csv").is_file():
        names.append("spread")
    tables, record = read_tables(CATALOGUE, names, config)
    if is_scored(brain.BRAIN, config):
        tables |= read_tables(brain.BRAIN, [brain.TABLE], config)[0]
    for subject in subjects:
        if subject not in set(tables["scores"]["subject"]):
            output, again = CATALOGUE.output(config), f"python {CATALOGUE.script} --subject {subject}"
            raise DataError(f"{output} has no scores of {subject}; run: {again}")
    ways = [place_of(config, subject, STAGE2) / "trajectory" for subject in subjects]
    n_pictures = pictures_per_trajectory(sum(len(list(way.glob("*.csv"))) for way in ways))
    found = [read_subject(config, subject, tables["scores"], n_pictures) for subject in subjects]
    laid_out = section(config, found, tables, record, album, light)
    pictures = {"examples.png": as_png(examples(found, tables["scores"]))}
    if laid_out.strip:
        drawn = card(laid_out.strip, laid_out.verdict, laid_out.is_simulated)
        pictures["card.png"] = as_png(drawn)
    return laid_out, pictures


def section(
    config: Config,
    subjects: Sequence[SubjectResults],
    tables: Mapping[str, pd.DataFrame],
    record: Mapping[str, Any],
    album: Album,
    light: int = 0,
) -> Section:
    """Lay the section out; tables are "scores", "summary", "paired", and perhaps "spread" and "brain_correlation".

    With `light`, of that many test images of each subject.
    """
    names = [subject.name for subject in subjects]
    choices = choices_of(names, tables["summary"])
    summary = tables["summary"][tables["summary"]["subject"].isin(choices)]
    notes, present = notes_on(record, [subject.settings for subject in subjects]), set(summary["metric"])
    groups = {group: CATALOGUE.metrics_of(group, present) for group in GROUPS}
    pictured = [name for subject in subjects for name in subject.pictures]
    kinds = dict.fromkeys(GROUPS, TABULATED) | {"features": {"features": "Decoded features"}}
    shown = CATALOGUE.in_order(summary["system"].unique())
    described = {name: CATALOGUE.metric(name) for metrics in groups.values() for name in metrics}
    flagged = {name for subject in subjects for name, content in subject.settings.items() if content.get("flags")}
    rival = best_rival(summary, choices[0], flagged)
    n_images = {subject.name: len(subject.stimuli) for subject in subjects}
    strip_shown = strip(subjects[0], tables["scores"], rival)
    made = {subject.name: [*subject.pictures] for subject in subjects}
    missing = absences(made, config.experiment, record["absent"])
    missing += [
        (f"{what}: {subject.name}", with_settings(why)) for subject in subjects for what, why in subject.absent.items()
    ]
    if any(subject.categories is None for subject in subjects):
        missing.append(("the filter by category", "COCO's instances_*2017.json is not there"))
    of_brain = tables.get(brain.TABLE)
    if of_brain is not None:
        without = [name for name in names if name not in set(of_brain["subject"])]
        missing += [(f"brain correlation: {name}", "prepared.h5 has no betas of test images") for name in without]
    accuracies = {subject.name: _accuracy(subject, tables["summary"]) for subject in subjects}
    if light:
        subjects = [some_of(subject, spread_by_rule(subject, tables["scores"], light)) for subject in subjects]
    return Section(
        folder=Path(__file__).parent.name,
        title=CATALOGUE.title,
        links=[(name.lower(), name) for name in _LINKS],
        content={
            "subjects": subjects,
            "choices": choices,
            "groups": [
                page_table(group, GROUPS[group], metrics, summary, choices, notes, CATALOGUE, kinds[group], _LEVELS)
                for group, metrics in groups.items()
            ],
            "samples": sampled(notes, pictured, CATALOGUE),
            "brain": {} if of_brain is None else _brain(of_brain, choices),
            "brain_note": brain.NOTE,
            "spread": _spread(tables.get("spread"), choices),
            "matrix_rows": difference_matrix(tables["paired"], choices, groups["main"], CATALOGUE),
            "columns": [CATALOGUE.metric(name).label for name in groups["main"]],
            "differences": page_differences(tables["paired"], choices, "main", CATALOGUE, _WORDS),
            "has_bottleneck": any(CATALOGUE.system(name).kind == "bottleneck" for name in shown),
            "has_trajectories": any(subject.trajectories for subject in subjects),
            "categories": sorted({c for s in subjects for found in (s.categories or {}).values() for c in found}),
            "published": _published(),
            "beside_paper": _beside_paper(summary, choices),
        },
        is_simulated=config.experiment.miniature is not None,
        n_images=n_images,
        settings=record["settings"],
        fingerprints={
            subject.name: [
                (name, len(subject.pictures[name]), str(content["fingerprint"]))
                for name, content in subject.settings.items()
            ]
            for subject in subjects
        },
        verdict=verdict(summary, tables["paired"], choices[0], flagged),
        absent=missing,
        strip=strip_shown,
        methods=methods(config),
        choices=choices,
        scripts=("plots.js", "sheet.js", "viewer.js", "cortex.js"),
        data={
            "subjects": names,
            "kinds": TABULATED,
            "systems": {name: vars(CATALOGUE.system(name)) for name in shown},
            "metrics": {
                name: {"label": metric.label, "meaning": metric.meaning, "higher": metric.higher_is_better}
                for name, metric in described.items()
            },
            "titles": GROUPS,
            "groups": groups,
            "summary": nested(summary),
            "shown": shown_first(pictured, rival),
            "method": method_of(pictured),
            "similarity": SIMILARITY,
            "accuracy": accuracies,
            "cortex": {
                subject.name: as_data(subject.name, subject.cortex, album) for subject in subjects if subject.cortex
            },
            "colours": COLOURS if any(subject.cortex for subject in subjects) else {},
            **_images(subjects, tables["scores"], album),
        },
    )


def _images(subjects: Sequence[SubjectResults], scores: pd.DataFrame, album: Album) -> dict[str, Any]:
    """Test images with all that is shown of each; values are in the order of the images."""
    stimuli, tests = {}, {}
    for subject in subjects:
        for stimulus_id, picture in subject.stimuli.items():
            categories = [] if subject.categories is None else subject.categories[stimulus_id]
            described = {"captions": subject.captions[stimulus_id], "categories": categories}
            stimuli.setdefault(stimulus_id, {"picture": album.add("stimuli", picture), **described})
    for subject in subjects:
        pictures = {
            name: [album.add(f"{subject.name} {name}", of_system.get(i)) for i in subject.stimuli]
            for name, of_system in subject.pictures.items()
        }
        tests[subject.name] = {
            "ids": list(subject.stimuli),
            "pictures": {name: numbers for name, numbers in pictures.items() if name not in CONSTANT},
            "constants": {name: numbers[0] for name, numbers in pictures.items() if name in CONSTANT},
            "scores": _scores_by_image(scores[scores["subject"] == subject.name], list(subject.stimuli)),
            "trajectories": {
                stimulus_id: {
                    "iterations": way.iterations,
                    "pictures": [album.add(f"{subject.name} trajectories", picture) for picture in way.pictures],
                    "losses": [float(f"{loss:.4g}") if np.isfinite(loss) else None for loss in way.losses],
                    "result": way.result,
                }
                for stimulus_id, way in subject.trajectories.items()
            },
        }
    return {"stimuli": stimuli, "tests": tests}


def _scores_by_image(scores: pd.DataFrame, ids: list[int]) -> dict[str, dict[str, list[float | None]]]:
    """Values by system and metric, of what has a row in the tables of systems."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for (name, measure), group in scores.groupby(["system", "metric"], sort=False):
        if CATALOGUE.system(str(name)).kind in TABULATED:
            values = group.set_index("stimulus_id")["value"].reindex(ids)
            rounded = [round(value, 4) if np.isfinite(value) else None for value in values]
            found.setdefault(str(name), {})[str(measure)] = rounded
    return {name: found[name] for name in CATALOGUE.in_order(found)}


def _accuracy(subject: SubjectResults, summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Correlation by image of each target, from all ROIs and from each; of c and z with the ceiling that 41 has."""
    if subject.accuracy is None:
        return []
    rows = subject.accuracy[subject.accuracy["measure"] == "image"]
    ceilings = summary[(summary["subject"] == subject.name) & (summary["metric"] == "feature_ceiling")]
    ceiling_of = ceilings.set_index("system")["mean"]
    words = {"c": "c: text embedding", "z": "z: latents"}
    return [
        {
            "target": words.get(str(target)) or f"Z_CLIP: layer {int(str(target).removeprefix('linear_'))}",
            "ceiling": float(ceiling_of[f"features/{target}"]) if f"features/{target}" in ceiling_of else None,
            "rows": of_target[["roi", "r", "floor"]].values.tolist(),
        }
        for target, of_target in rows.groupby("target", sort=False)
    ]


def _brain(table: pd.DataFrame, choices: list[str]) -> dict[str, list[list[str]]]:
    """Brain correlation by choice of subject: rows of text, of which the first has the heads."""
    return {choice: brain.shown(table, choice) for choice in choices if choice in set(table["subject"])}


def _spread(spread: pd.DataFrame | None, choices: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Spread over seeds, by choice of subject: a row a system, main metrics only."""
    found: dict[str, list[dict[str, Any]]] = {}
    if spread is None:
        return found
    of_main = spread[spread["metric"].isin(CATALOGUE.metrics_of("main", set(spread["metric"])))]
    for (subject, name), group in of_main.groupby(["subject", "system"], sort=False):
        if subject in choices:
            cells = [
                {"label": CATALOGUE.metric(str(row.metric)).label, "mean": row.mean, "sd": row.sd}
                for row in group.itertuples(index=False)
            ]
            row = {"label": CATALOGUE.system(str(name)).label, "n": int(group["n_seeds"].max()), "cells": cells}
            found.setdefault(str(subject), []).append(row)
    return found


def _beside_paper(summary: pd.DataFrame, choices: list[str]) -> dict[str, Any]:
    """Means of the systems that the paper's table has, and what it prints: rows by choice of subject."""
    quoted = read_quoted(PAPER).set_index(["system", "metric"])["value"]
    metrics = [name for name in CATALOGUE.metrics_of("main") if name in quoted.index.unique("metric")]
    mean_of = summary.set_index(["subject", "system", "metric"])["mean"]
    tables = {
        choice: [
            {
                "label": label(name),
                "cells": [(mean_of.get((choice, name, measure)), quoted[theirs, measure]) for measure in metrics],
            }
            for name, theirs in QUOTED_AS.items()
        ]
        for choice in choices
    }
    return {"columns": [CATALOGUE.metric(name).label for name in metrics], "tables": tables}


def _published() -> dict[str, Any]:
    """Other systems' published numbers, as quoted: rows by source."""
    table = pd.read_csv(REPOSITORY / "baselines" / "published.csv", dtype={"n": str}).fillna("")
    names = {
        "pixcorr": "PixCorr", "ssim": "SSIM", "alexnet2": "Alex(2)", "alexnet5": "Alex(5)", "inception": "Incep",
        "clip_two_way": "CLIP two-way", "clip_similarity": "CLIP similarity", "efficientnet_distance": "Eff ↓",
        "swav_distance": "SwAV ↓", "retrieval_reported_as_image": "image retrieval*",
        "retrieval_reported_as_brain": "brain retrieval*",
    }  # fmt: skip
    sources: dict[str, list[dict[str, Any]]] = {}
    table = table[table["metric"].isin(list(names))]  # others are of another dataset
    for (source, name, n), group in table.groupby(["source", "system", "n"], sort=False):
        value_of = dict(zip(group["metric"], group["value"], strict=True))
        row = {"system": name, "n": n, "values": [value_of.get(measure) for measure in names]}
        sources.setdefault(str(source), []).append(row)
    return {"columns": list(names.values()), "sources": sources}
