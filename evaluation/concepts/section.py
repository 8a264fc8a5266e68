"""The part of the page that shows Generic Object Decoding: the rival's labels beside its controls, and its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from data import god
from evaluation.concepts import comparison, decoded
from evaluation.concepts.catalogue import (
    CATALOGUE,
    CORRECTED,
    GROUPS,
    LABEL_METRICS,
    LABELS,
    PERFECT,
    PERMUTED,
    SYSTEMS,
)
from evaluation.page.album import Album, thumbnails
from evaluation.page.shell import Claim, Section
from evaluation.scores import place_of
from evaluation.tables import choices_of, difference_matrix, notes_on, page_differences, page_table
from minddiffuser.config import Config
from minddiffuser.store import DataError
from reconstruction import folder

_LEVELS = {"permuted": PERMUTED, "perfect": PERFECT}  # what stands under each heading


@dataclass(frozen=True)
class SubjectResults:
    """What is shown of one subject."""

    name: str
    pictures: list[dict[int, bytes]]  # thumbnails of the corrected form, by rank of the label that they are made of
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # what is in `settings.json` of each folder


def make(config: Config, subjects: Sequence[str], _album: Album, light: int = 0) -> tuple[Section, dict[str, bytes]]:
    """Make the section of those of some subjects that have scores; its pictures stand in it, and none beside the page.

    With `light`, it shows that many test images of each subject.

    Raises
    ------
    DataError
        None of them has scores, or something was made with other settings.
    """
    tables, record = comparison.read(config)
    for subject in subjects:
        decoded.states_of(config, subject)  # raises where what is there was made with other settings
    subjects = [subject for subject in subjects if subject in set(tables["summary"]["subject"])]
    if not subjects:
        output = CATALOGUE.output(config)
        raise DataError(f"{output} has no scores of these subjects; run: python {CATALOGUE.script}")
    images = god.read_images(config.god / god.TEST_IMAGES)
    stimuli = thumbnails(images.ids, god.read_pictures(config.god / "images" / "test", images.names))
    return section(config, [read_subject(config, subject) for subject in subjects], tables, record, stimuli, light), {}


def read_subject(config: Config, subject: str) -> SubjectResults:
    """Read what the page shows of a subject."""
    places = {name: place_of(config, subject, name) for name in SYSTEMS}
    places = {name: place for name, place in places.items() if folder.state(place)}
    settings = {name: folder.read_settings(place) for name, place in places.items()}
    samples = folder.sample_folders(places[CORRECTED]) if CORRECTED in places else []
    return SubjectResults(subject, [thumbnails(*folder.read(sample)) for sample in samples], settings)


def section(
    config: Config,
    subjects: Sequence[SubjectResults],
    tables: Mapping[str, pd.DataFrame],
    record: Mapping[str, Any],
    stimuli: Mapping[int, bytes],
    light: int = 0,
) -> Section:
    """Lay the section out, of what `comparison.read` gives; the test images, by id, are the same for all subjects.

    With `light`, it shows that many of them.
    """
    choices = choices_of([subject.name for subject in subjects], tables["summary"])
    summary, permutation = tables["summary"][tables["summary"]["subject"].isin(choices)], tables["permutation"]
    notes, present = notes_on(record, [subject.settings for subject in subjects]), set(summary["metric"])
    of_labels = notes._replace(samples={})  # of which the first is scored
    metrics_of = {group: CATALOGUE.metrics_of(group, present) for group in GROUPS}
    tabulated = [
        (LABELS, "Labels", metrics_of[LABELS], of_labels),
        ("pictures", "Pictures", comparison.PICTURE_METRICS, notes),
        *((group, GROUPS[group], metrics_of[group], notes) for group in ("more", "brain_diffuser", "mindeye")),
    ]
    answers = {subject.name: _answers(subject, tables["labels"], stimuli) for subject in subjects}
    n_images = {name: len(images) for name, images in answers.items()}
    if light:
        answers = {name: images[:light] for name, images in answers.items()}
    verdicts = comparison.against_controls(tables["paired"], permutation, choices[0])
    labels_absent = [name for name in record["absent"] if name in LABEL_METRICS]
    return Section(
        folder=Path(__file__).parent.name,
        title=CATALOGUE.title,
        links=[("god", CATALOGUE.title)],
        content={
            "choices": choices,
            "groups": [
                page_table(f"god-{name}", title, metrics, summary, choices, notes, CATALOGUE, levels=_LEVELS)
                for name, title, metrics, notes in tabulated
            ],
            "verdicts": verdicts,
            "matrix_rows": difference_matrix(tables["paired"], choices, metrics_of[LABELS], CATALOGUE),
            "columns": [CATALOGUE.metric(name).label for name in metrics_of[LABELS]],
            "differences": page_differences(tables["paired"], choices, LABELS, CATALOGUE),
            "permutation": comparison.permutation_rows(
                pd.concat([permutation[permutation["subject"] == choice] for choice in choices])
            ),
            "quoted": comparison.quoted(),
            "caution": comparison.CAUTION,
            "constants": sorted(set(record["constants"].values())),
            "answers": answers,
        },
        is_simulated=config.experiment.miniature_god is not None,
        n_images=n_images,
        settings=record["settings"],
        fingerprints={
            subject.name: [(name, "", str(content["fingerprint"])) for name, content in subject.settings.items()]
            for subject in subjects
        },
        verdict=[Claim("", line, "god") for line in verdicts],
        absent=[(CATALOGUE.metric(name).label, record["absent"][name]) for name in labels_absent],
    )


def _answers(subject: SubjectResults, labels: pd.DataFrame, stimuli: Mapping[int, bytes]) -> list[dict[str, Any]]:
    """Test images of a subject, each with the labels that the corrected form decoded, and their pictures."""
    images = []
    labels = labels[(labels["subject"] == subject.name) & (labels["system"] == CORRECTED)]
    for image, rows in labels.groupby("image", sort=False):
        key = god.picture_key(str(image))
        answers = [
            {"label": row["label"], "wup": row["wup"], "picture": of_rank.get(key)}
            for row, of_rank in zip(rows.to_dict("records"), subject.pictures, strict=False)
        ]
        stimulus = {"label": rows["true_label"].iloc[0], "picture": stimuli.get(key)}
        images.append({"name": image, "stimulus": stimulus, "answers": answers})
    return images
