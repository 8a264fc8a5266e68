"""The report: one HTML page that needs nothing else.

It is made from the tables of scores and from thumbnails, and is the same bytes for the same inputs. The page is
`page/page.html.j2` with its style and script put in. Pictures are lines of base64 that the script decodes when they
come into view, so that thousands of them cost nothing before; equal pictures are stored once. Those of Generic Object
Decoding, which are few, stand in the page itself.
"""

import base64
import io
import json
import platform
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from data.god import picture_key
from evaluation import comparison, concepts, results
from evaluation.catalogue import (
    ALL_SUBJECTS,
    CONCEPT_METRICS,
    CORRECTED,
    GROUPS,
    METRICS,
    STAGE1,
    STAGE2,
    STAND_IN,
    TABULATED,
    in_order,
    metric,
    metrics_of,
    system,
)
from evaluation.examples import evenly_spaced
from minddiffuser.config import REPOSITORY, Config

THUMBNAIL = 128  # pixels: 982 photographs of seven kinds make some 30 MB a subject
CONSTANT = ("control/mean_image", "control/grey")  # the same picture whatever was seen: shown once
TRAJECTORY_BUDGET = 6000  # pictures of stage 2's way on one page, of all subjects together
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "diffusers", "transformers", "open_clip_torch", "scikit-image")


@dataclass(frozen=True)
class Trajectory:
    """The way of stage 2 for one image.

    Attributes
    ----------
    iterations : list of int
        Of the pictures.
    pictures : list of bytes
        Thumbnails.
    losses : list of float
        Of every iteration, from 0.
    result : int
        The iteration whose picture is stage 2's.
    """

    iterations: list[int]
    pictures: list[bytes]
    losses: list[float]
    result: int


@dataclass(frozen=True)
class SubjectResults:
    """What is shown of one subject; images are named by nsd_id, and come in the order of `stimuli`.

    Attributes
    ----------
    name : str
    stimuli : dict of nsd_id to bytes
        Thumbnails of the test images.
    captions : dict of nsd_id to list of str
    categories : dict of nsd_id to list of str, or None
        None where COCO's instances are absent.
    pictures : dict of system to dict of nsd_id to bytes
        Thumbnails of the reconstructions.
    settings : dict of system to dict
        What is in `settings.json` of each folder of pictures.
    trajectories : dict of nsd_id to Trajectory
    figures : dict of str to bytes
        PNGs of decoding accuracy, by title.
    noise_ceiling : DataFrame or None
        By region.
    """

    name: str
    stimuli: dict[int, bytes]
    captions: dict[int, list[str]]
    categories: dict[int, list[str]] | None
    pictures: dict[str, dict[int, bytes]]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    trajectories: dict[int, Trajectory] = field(default_factory=dict)
    figures: dict[str, bytes] = field(default_factory=dict)
    noise_ceiling: pd.DataFrame | None = None


@dataclass(frozen=True)
class Tables:
    """What `evaluation/41_score.py` writes; its docstring has the columns.

    Attributes
    ----------
    scores, summary, paired : DataFrame
    spread : DataFrame or None
        Over seeds of the noise.
    absent : dict of metric to reason
    samples : dict of system to str
        How many pictures of each image it was scored on, where more than one.
    settings : dict
        How it was scored.
    lacking : dict of system to list of str
        Which pictures a system lacks, of those that it should have.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    paired: pd.DataFrame
    spread: pd.DataFrame | None = None
    absent: dict[str, str] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    lacking: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class ConceptSubject:
    """What is shown of one subject of Generic Object Decoding.

    Attributes
    ----------
    name : str
    pictures : list of dict of id to bytes
        Thumbnails of the corrected form, by rank of the label that they are made of.
    settings : dict of system to dict
        What is in `settings.json` of each folder of pictures.
    """

    name: str
    pictures: list[dict[int, bytes]]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Concepts:
    """What is shown of Generic Object Decoding.

    Attributes
    ----------
    tables : concepts.Tables
    subjects : sequence of ConceptSubject
    stimuli : dict of id to bytes
        Thumbnails of the test images, which are the same for all.
    """

    tables: concepts.Tables
    subjects: Sequence[ConceptSubject]
    stimuli: dict[int, bytes]


def thumbnail(image: Image.Image) -> bytes:
    """Encode a picture as WebP of at most 128 pixels a side; small ones, up to 64, are kept exactly."""
    scale = min(THUMBNAIL / max(image.size), 1)
    if scale < 1:
        size = round(image.width * scale), round(image.height * scale)
        image = image.resize(size, Image.Resampling.LANCZOS)
    content = io.BytesIO()
    if max(image.size) <= THUMBNAIL // 2:
        image.save(content, "webp", lossless=True, method=1, quality=20)  # of the search, not of the picture
    else:
        image.save(content, "webp", quality=85)
    return content.getvalue()


def thumbnails(ids: np.ndarray, images: np.ndarray) -> dict[int, bytes]:
    """Thumbnails of pictures, uint8 (n, height, width, 3), by nsd_id."""
    return {int(nsd_id): thumbnail(Image.fromarray(image)) for nsd_id, image in zip(ids, images, strict=True)}


def pictures_per_trajectory(n_trajectories: int) -> int:
    """How many pictures of each trajectory a page shows: up to 12, and at least 3 where there are very many."""
    return min(max(TRAJECTORY_BUDGET // max(n_trajectories, 1), 3), 12)


def read_trajectories(stage2: Path, ids: Iterable[int], n_pictures: int) -> dict[int, Trajectory]:
    """Read the trajectories in a folder of stage 2, with at most `n_pictures` each, evenly spaced."""
    result_of = pd.read_csv(stage2 / "index.csv").set_index("nsd_id")["iteration"]
    found = {}
    for nsd_id in map(int, ids):
        table, paths = stage2 / "trajectory" / f"{nsd_id:05d}.csv", []
        if nsd_id in result_of.index and table.is_file():
            paths = sorted((stage2 / "trajectory" / f"{nsd_id:05d}").glob("*.png"))
        if paths:
            paths = [paths[k] for k in evenly_spaced(len(paths), n_pictures)]
            pictures = [thumbnail(Image.open(path).convert("RGB")) for path in paths]
            losses = pd.read_csv(table)["loss"].dropna()  # NaN from where early stopping ended it
            iterations = [int(path.stem) for path in paths]
            found[nsd_id] = Trajectory(iterations, pictures, losses.tolist(), int(result_of[nsd_id]))
    return found


def page(
    config: Config, subjects: Sequence[SubjectResults], tables: Tables | None, of_concepts: Concepts | None = None
) -> str:
    """Build the HTML page.

    Parameters
    ----------
    config : Config
    subjects : sequence of SubjectResults
    tables : Tables or None
        Of these subjects; None where there are none.
    of_concepts : Concepts or None
        None leaves Generic Object Decoding out.

    Returns
    -------
    str
    """
    tables = tables or _no_tables()
    names = [subject.name for subject in subjects]
    choices = [ALL_SUBJECTS, *names] if len(names) > 1 and (tables.summary["subject"] == ALL_SUBJECTS).any() else names
    summary = tables.summary[tables.summary["subject"].isin(choices)]
    flags, present = _flags(subjects, tables.lacking), set(summary["metric"])
    album = _Album()
    data = {
        "subjects": names,
        "kinds": TABULATED,
        "systems": {name: _described(name) for name in in_order(summary["system"].unique())},
        "metrics": _metrics(present),
        "titles": GROUPS,
        "groups": {group: metrics_of(group, present) for group in GROUPS},
        "summary": _nested(summary),
        **_images(subjects, tables.scores, album),
    }
    folder = Path(__file__).with_name("page")
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    environment.filters.update(number=_number, p=_p_value)
    return environment.get_template("page.html.j2").render(
        config=config,
        subjects=subjects,
        choices=choices,
        all_subjects=ALL_SUBJECTS,
        groups=[
            _group(group, title, metrics_of(group, present), summary, choices, flags, tables.absent, tables.samples)
            for group, title in GROUPS.items()
        ],
        samples=_sampled(tables.samples, [name for subject in subjects for name in subject.pictures]),
        spread=_spread(tables.spread, choices),
        differences=_differences(tables.paired, choices),
        has_bottleneck=any(system(str(name)).kind == "bottleneck" for name in summary["system"].unique()),
        has_trajectories=any(subject.trajectories for subject in subjects),
        categories=sorted({c for s in subjects for found in (s.categories or {}).values() for c in found}),
        published=_published(),
        beside_paper=_beside_paper(summary, choices),
        base64=lambda content: base64.b64encode(content).decode(),
        settings=_yaml(config.model_dump(mode="json", include={"name", "preset", "experiment"})),
        god=None if of_concepts is None else _concepts(of_concepts),
        scoring=_yaml(tables.settings or (of_concepts.tables.record["settings"] if of_concepts else {})),
        versions={"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        bibtex=_bibtex(),
        style=Markup((folder / "page.css").read_text()),
        script=Markup((folder / "page.js").read_text()),
        data=Markup(_json(data)),
        blocks=album.blocks(),
    )


class _Album:
    """Pictures as base64, each once, in blocks; a picture is known by its number over all blocks."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._starts: dict[str, int] = {}

    def add(self, block: str, picture: bytes) -> int:
        """Put a picture into the newest block, unless there is one like it; return its number."""
        self._starts.setdefault(block, len(self._numbers))
        return self._numbers.setdefault(picture, len(self._numbers))

    def blocks(self) -> Iterable[tuple[str, int, str]]:
        """Yield the name of each block, the number of its first picture, and its lines."""
        pictures = list(self._numbers)
        stops = [*self._starts.values(), len(pictures)][1:]
        for (block, start), stop in zip(self._starts.items(), stops, strict=True):
            yield block, start, "\n".join(base64.b64encode(picture).decode() for picture in pictures[start:stop])


def _images(subjects: Sequence[SubjectResults], scores: pd.DataFrame, album: _Album) -> dict[str, Any]:
    """Test images with all that is shown of each; values are in the order of the images."""
    stimuli, tests = {}, {}
    for subject in subjects:
        for nsd_id, picture in subject.stimuli.items():
            categories = [] if subject.categories is None else subject.categories[nsd_id]
            described = {"captions": subject.captions[nsd_id], "categories": categories}
            stimuli.setdefault(nsd_id, {"picture": album.add("stimuli", picture), **described})
    for subject in subjects:
        pictures = {
            name: [_add_or_none(album, f"{subject.name} {name}", of_system.get(i)) for i in subject.stimuli]
            for name, of_system in subject.pictures.items()
        }
        tests[subject.name] = {
            "ids": list(subject.stimuli),
            "pictures": {name: numbers for name, numbers in pictures.items() if name not in CONSTANT},
            "constants": {name: numbers[0] for name, numbers in pictures.items() if name in CONSTANT},
            "scores": _scores_by_image(scores[scores["subject"] == subject.name], list(subject.stimuli)),
            "trajectories": {
                nsd_id: {
                    "iterations": way.iterations,
                    "pictures": [album.add(f"{subject.name} trajectories", picture) for picture in way.pictures],
                    "losses": [float(f"{loss:.4g}") if np.isfinite(loss) else None for loss in way.losses],
                    "result": way.result,
                }
                for nsd_id, way in subject.trajectories.items()
            },
        }
    return {"stimuli": stimuli, "tests": tests}


def _add_or_none(album: _Album, block: str, picture: bytes | None) -> int | None:
    return None if picture is None else album.add(block, picture)


def _scores_by_image(scores: pd.DataFrame, ids: list[int]) -> dict[str, dict[str, list[float | None]]]:
    """Values by system and metric, of what has a row in the tables of systems."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for (name, measure), group in scores.groupby(["system", "metric"], sort=False):
        if system(str(name)).kind in TABULATED:
            values = group.set_index("nsd_id")["value"].reindex(ids)
            rounded = [round(value, 4) if np.isfinite(value) else None for value in values]
            found.setdefault(str(name), {})[str(measure)] = rounded
    return {name: found[name] for name in in_order(found)}


def _no_tables() -> Tables:
    """Tables without rows, where there is no subject of NSD."""
    scores, summary, paired = (
        pd.DataFrame(columns=["subject", "system", *columns])
        for columns in (
            ["nsd_id", "metric", "value"],
            ["metric", "mean", "ci_low", "ci_high", "n"],
            ["baseline", "metric", "difference", "ci_low", "ci_high", "p", "p_holm", "n"],
        )
    )
    return Tables(scores, summary, paired)


def _concepts(found: Concepts) -> dict[str, Any]:
    """Gather what the page shows of Generic Object Decoding."""
    tables, names = found.tables, [subject.name for subject in found.subjects]
    choices = [ALL_SUBJECTS, *names] if len(names) > 1 and (tables.summary["subject"] == ALL_SUBJECTS).any() else names
    summary = tables.summary[tables.summary["subject"].isin(choices)]
    record, present = tables.record, set(summary["metric"])
    flags = _flags(found.subjects, results.lacking_of(record))
    samples = results.samples_of(record)
    tabulated = {
        "concepts": ("Labels", metrics_of("concepts", present), {}),  # of which the first is scored
        "pictures": ("Pictures", comparison.PICTURE_METRICS, samples),
        **{name: (GROUPS[name], metrics_of(name, present), samples) for name in ("more", "brain_diffuser", "mindeye")},
    }
    groups = [
        _group(f"god-{name}", title, metrics, summary, choices, flags, record["absent"], of_group)
        for name, (title, metrics, of_group) in tabulated.items()
    ]
    return {
        "choices": choices,
        "groups": groups,
        "verdicts": comparison.against_controls(tables.paired, tables.permutation, choices[0]),
        "differences": _differences(tables.paired, choices, "concepts"),
        "permutation": comparison.permutation_rows(
            pd.concat([tables.permutation[tables.permutation["subject"] == choice] for choice in choices])
        ),
        "quoted": comparison.quoted_concepts(),
        "caution": comparison.CONCEPT_CAUTION,
        "constants": sorted(set(record["constants"].values())),
        "subjects": [
            {"name": subject.name, "settings": subject.settings, "images": _answers(found, subject)}
            for subject in found.subjects
        ],
    }


def _answers(found: Concepts, subject: ConceptSubject) -> list[dict[str, Any]]:
    """Test images of a subject, each with the labels that the corrected form decoded, and their pictures."""
    labels, images = found.tables.labels, []
    labels = labels[(labels["subject"] == subject.name) & (labels["system"] == CORRECTED)]
    for image, rows in labels.groupby("image", sort=False):
        key = picture_key(str(image))
        answers = [
            {"label": row["label"], "wup": row["wup"], "picture": of_rank.get(key)}
            for row, of_rank in zip(rows.to_dict("records"), subject.pictures, strict=False)
        ]
        stimulus = {"label": rows["true_label"].iloc[0], "picture": found.stimuli.get(key)}
        images.append({"name": image, "stimulus": stimulus, "answers": answers})
    return images


def _described(name: str) -> dict[str, str]:
    described = system(name)
    return {"label": described.label, "meaning": described.meaning, "kind": described.kind}


def _metrics(present: set[str]) -> dict[str, dict[str, Any]]:
    names = [name for group in GROUPS for name in metrics_of(group, present)]
    return {
        name: {"label": metric(name).label, "meaning": metric(name).meaning, "higher": metric(name).higher_is_better}
        for name in names
    }


def _nested(summary: pd.DataFrame) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Mean, interval and n by subject, system and metric."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in summary.itertuples(index=False):
        values = [round(float(value), 5) for value in (row.mean, row.ci_low, row.ci_high)]
        of_system = found.setdefault(str(row.subject), {}).setdefault(str(row.system), {})
        of_system[str(row.metric)] = [*values, int(row.n)]
    return found


def _flags(subjects: Sequence[SubjectResults | ConceptSubject], lacking: dict[str, list[str]]) -> dict[str, list[str]]:
    """Gather what a reader must know of a system, as its folder says, of all subjects, and what it lacks."""
    found = {name: [f"incomplete ({text})" for text in texts] for name, texts in lacking.items()}
    for subject in subjects:
        for name, settings in subject.settings.items():
            for flag in settings.get("flags", []):
                if flag not in found.setdefault(name, []):
                    found[name].append(flag)
    return {name: flags for name, flags in found.items() if flags}


def _group(
    group: str,
    title: str,
    names: Sequence[str],
    summary: pd.DataFrame,
    choices: list[str],
    flags: dict[str, list[str]],
    absent: dict[str, str],
    samples: dict[str, str],
) -> dict[str, Any]:
    """One table of the page: its columns, and for each choice of subject its rows, by kind of system."""
    kinds = {"features": "Decoded features"} if group == "features" else TABULATED
    summary = summary[summary["metric"].isin(names)]
    present = set(summary["metric"])
    columns = [
        {
            "name": name,
            "label": metric(name).label,
            "meaning": metric(name).meaning,
            "higher": metric(name).higher_is_better,
            "stand_in": name.endswith(STAND_IN),
            "absent": None if name in present else absent.get(name, "not computed"),
        }
        for name in names
    ]
    tables = {}
    for choice in choices:
        of_choice = _nested(summary[summary["subject"] == choice]).get(choice, {})
        rows = [
            {
                "system": name,
                "label": system(name).label,
                "meaning": system(name).meaning,
                "kind": system(name).kind,
                "flags": flags.get(name, []),
                "n": _range([int(values[3]) for values in of_choice[name].values()]),
                "cells": [of_choice[name].get(m) for m in names],
            }
            for name in in_order(of_choice)
        ]
        tables[choice] = [(title, [row for row in rows if row["kind"] == kind]) for kind, title in kinds.items()]
    shown = {row["system"] for parts in tables.values() for _, rows in parts for row in rows}
    return {
        "name": group,
        "title": title,
        "columns": columns,
        "tables": {choice: [part for part in parts if part[1]] for choice, parts in tables.items()},
        "flags": {system(name).label: found for name, found in flags.items() if name in shown},
        "samples": _sampled(samples, shown),
    }


def _sampled(samples: dict[str, str], shown: Collection[str]) -> list[str]:
    """Name the systems with several samples, with their number."""
    return [f"{system(name).label} ({samples[name]})" for name in in_order(samples) if name in shown]


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


def _spread(spread: pd.DataFrame | None, choices: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Spread over seeds, by choice of subject: a row a system, main metrics only."""
    found: dict[str, list[dict[str, Any]]] = {}
    if spread is None:
        return found
    of_main = spread[spread["metric"].isin(metrics_of("main", set(spread["metric"])))]
    for (subject, name), group in of_main.groupby(["subject", "system"], sort=False):
        if subject in choices:
            cells = [
                {"label": metric(str(row.metric)).label, "mean": row.mean, "sd": row.sd}
                for row in group.itertuples(index=False)
            ]
            row = {"label": system(str(name)).label, "n": int(group["n_seeds"].max()), "cells": cells}
            found.setdefault(str(subject), []).append(row)
    return found


def _differences(paired: pd.DataFrame, choices: list[str], main: str = "main") -> list[dict[str, Any]]:
    """Paired differences by subject and pair, those in metrics of the main group apart from the rest."""
    place = {name: k for k, name in enumerate([*CONCEPT_METRICS, *METRICS])}
    found = []
    for (subject, name, baseline), group in paired.groupby(["subject", "system", "baseline"], sort=False):
        if subject in choices:
            rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
            places = group["metric"].map(lambda measure: place[measure.removesuffix(STAND_IN)])
            for _, row in group.assign(place=places).sort_values("place", kind="stable").iterrows():
                rows[metric(row["metric"]).group == main].append({"reading": _reading(row), **row.to_dict()})
            pair = {"subject": subject, "system": system(str(name)).label, "baseline": system(str(baseline)).label}
            is_first = subject not in {pair["subject"] for pair in found}
            verdict = comparison.verdict(pd.DataFrame(rows[True] or rows[False]))
            found.append({**pair, "is_first": is_first, "verdict": verdict, "main": rows[True], "others": rows[False]})
    return found


def _reading(row: pd.Series) -> str:
    """Say in words what a paired difference shows."""
    described = metric(row["metric"])
    label = described.label.replace(" ↓", "")
    if described.group in ("brain_diffuser", "mindeye"):
        label += " as Brain-Diffuser" if described.group == "brain_diffuser" else " as MindEye"
    if row["ci_low"] <= 0 <= row["ci_high"]:
        return f"no difference shown in {label}"
    better = (row["difference"] > 0) == described.higher_is_better
    reading = f"{system(row['system']).label} is {'better' if better else 'worse'} in {label}"
    if (row["system"], row["baseline"]) == (STAGE2, STAGE1):
        reading = f"stage 2 {'improves' if better else 'worsens'} {label}"
    return reading + (", but not once corrected for the number of comparisons" if row["p_holm"] > 0.05 else "")


def _beside_paper(summary: pd.DataFrame, choices: list[str]) -> dict[str, Any]:
    """Means of the systems that the paper's table has, and what it prints: rows by choice of subject."""
    quoted = comparison.read_quoted().set_index(["system", "metric"])["value"]
    metrics = [name for name in metrics_of("main", set()) if name in quoted.index.unique("metric")]
    mean_of = summary.set_index(["subject", "system", "metric"])["mean"]
    tables = {
        choice: [
            {
                "label": comparison.label(name),
                "cells": [(mean_of.get((choice, name, measure)), quoted[theirs, measure]) for measure in metrics],
            }
            for name, theirs in comparison.QUOTED_AS.items()
        ]
        for choice in choices
    }
    return {"columns": [metric(name).label for name in metrics], "tables": tables}


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


def _bibtex() -> str:
    """BibTeX of the paper, from CITATION.cff."""
    paper = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["preferred-citation"]
    fields = {
        "title": f"{{{paper['title']}}}",
        "author": " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]),
        "booktitle": paper["collection-title"],
        "year": paper["year"],
        "pages": f"{paper['start']}--{paper['end']}",
        "publisher": paper["publisher"]["name"],
        "doi": paper["doi"],
        "eprint": paper["identifiers"][0]["value"].removeprefix("arXiv:"),
        "archiveprefix": "arXiv",
    }
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@inproceedings{{lu2023minddiffuser,\n{lines}}}"


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _json(content: dict[str, Any]) -> str:
    """JSON that can stand inside a script element: no "<" in it can end it, or open a comment."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _number(value: float, signed: bool = False) -> str:
    """Three decimals, two from ten on; the script formats in the same way."""
    digits = 3 if abs(value) < 9.9995 else 2
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _p_value(value: float) -> str:
    if np.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
