"""What the page shows of one subject of the Natural Scenes Dataset, read from where it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from data import nsd
from data.averaging import ceiling_by_roi
from data.recipes import prepared
from evaluation.catalogue import TABULATED
from evaluation.page.album import evenly_spaced, thumbnail, thumbnails
from evaluation.pictures import systems
from evaluation.pictures.catalogue import CATALOGUE, STAGE2
from evaluation.pictures.cortex import FlatMaps, read_flat_maps, why_no_flat_maps
from evaluation.scores import place_of
from feature_decoding.recipes import accuracy
from minddiffuser.config import Config
from minddiffuser.store import Files, open_made
from reconstruction import folder

CONSTANT = ("control/mean_image", "control/grey")  # the same picture whatever was seen: shown once
ACCURACY, CORTEX = "accuracy of what is decoded", "maps of the cortex"  # as absent
TRAJECTORY_BUDGET = 6000  # pictures of stage 2's way on one page, of all subjects together


@dataclass(frozen=True)
class Trajectory:
    """The way of stage 2 for one image."""

    iterations: list[int]  # of the pictures
    pictures: list[bytes]  # thumbnails
    losses: list[float]  # of every iteration, from 0
    result: int  # the iteration whose picture is stage 2's


@dataclass(frozen=True)
class SubjectResults:
    """What is shown of one subject; images are thumbnails, named by stimulus_id, in the order of `stimuli`."""

    name: str
    stimuli: dict[int, bytes]  # the test images
    captions: dict[int, list[str]]
    categories: dict[int, list[str]] | None  # None where COCO's instances are absent
    pictures: dict[str, dict[int, bytes]]  # the reconstructions of each system
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # what is in `settings.json` of each folder
    trajectories: dict[int, Trajectory] = field(default_factory=dict)
    accuracy: pd.DataFrame | None = None  # of decoding, by target and ROI: accuracy.csv
    noise_ceiling: pd.DataFrame | None = None  # by region
    cortex: FlatMaps | None = None  # where targets are decoded from
    absent: dict[str, str] = field(default_factory=dict)  # what of these two is not there, and why


def read_subject(config: Config, subject: str, scores: pd.DataFrame, n_pictures: int) -> SubjectResults:
    """Read what the page shows of a subject; of the pictures only thumbnails stay in memory."""
    there, of_accuracy = systems.states_of(config, subject), accuracy(config, subject)
    reasons = {ACCURACY: Files(of_accuracy).why_absent(), CORTEX: why_no_flat_maps(config, subject)}
    with open_made(prepared(config, subject)) as rows:
        is_test = rows["is_test"][:]
        test_ids, coco_ids = rows["stimulus_id"][:][is_test], rows["coco_id"][:][is_test]
        ceiling = pd.DataFrame({"roi": rows["roi"][:].astype(str), "noise_ceiling": rows["noise_ceiling"][:]})
    ids = test_ids.tolist()
    categories = nsd.read_categories(config.nsd, coco_ids)
    captions = nsd.read_captions(config.nsd, coco_ids, config.experiment.semantic.n_captions)
    pictures, settings = {}, {}
    for name in scores.loc[scores["subject"] == subject, "system"].unique():
        if CATALOGUE.system(name).kind not in TABULATED or name not in there:
            continue
        place = place_of(config, subject, name)
        if name in CONSTANT:
            pictures[name] = dict.fromkeys(ids, first_picture(place))
        else:
            pictures[name] = thumbnails(*folder.read(place))
        settings[name] = folder.read_settings(place)
    return SubjectResults(
        name=subject,
        stimuli=thumbnails(test_ids, nsd.Stimuli(config.nsd).read(test_ids)),
        captions=dict(zip(ids, captions, strict=True)),
        categories=None if categories is None else dict(zip(ids, categories, strict=True)),
        pictures=pictures,
        settings=settings,
        trajectories=read_trajectories(place_of(config, subject, STAGE2), ids, n_pictures)
        if STAGE2 in pictures
        else {},
        accuracy=None if reasons[ACCURACY] else pd.read_csv(of_accuracy.path.with_suffix(".csv")),
        noise_ceiling=ceiling_by_roi(ceiling),
        cortex=None if reasons[CORTEX] else read_flat_maps(config, subject),
        absent={what: why for what, why in reasons.items() if why},
    )


def first_picture(place: Path) -> bytes:
    """Thumbnail of the first picture of a folder in which all are the same."""
    stimulus_id = pd.read_csv(place / "index.csv")["stimulus_id"].iloc[0]
    return thumbnail(Image.open(place / f"{stimulus_id:05d}.png").convert("RGB"))


def pictures_per_trajectory(n_trajectories: int) -> int:
    """How many pictures of each trajectory a page shows: up to 12, and at least 3 where there are very many."""
    return min(max(TRAJECTORY_BUDGET // max(n_trajectories, 1), 3), 12)


def some_of(subject: SubjectResults, ids: Sequence[int]) -> SubjectResults:
    """Keep a few images, without the way of stage 2: what a light page shows."""
    categories = None if subject.categories is None else {i: subject.categories[i] for i in ids}
    return replace(
        subject,
        stimuli={i: subject.stimuli[i] for i in ids},
        captions={i: subject.captions[i] for i in ids},
        categories=categories,
        pictures={name: {i: made[i] for i in ids if i in made} for name, made in subject.pictures.items()},
        trajectories={},
    )


def read_trajectories(stage2: Path, ids: Iterable[int], n_pictures: int) -> dict[int, Trajectory]:
    """Read the trajectories in a folder of stage 2, with at most `n_pictures` each, evenly spaced."""
    result_of = pd.read_csv(stage2 / "index.csv").set_index("stimulus_id")["iteration"]
    found = {}
    for stimulus_id in map(int, ids):
        table, paths = stage2 / "trajectory" / f"{stimulus_id:05d}.csv", []
        if stimulus_id in result_of.index and table.is_file():
            paths = sorted((stage2 / "trajectory" / f"{stimulus_id:05d}").glob("*.png"))
        if paths:
            paths = [paths[k] for k in evenly_spaced(len(paths), n_pictures)]
            pictures = [thumbnail(Image.open(path).convert("RGB")) for path in paths]
            losses = pd.read_csv(table)["loss"].dropna()  # NaN from where early stopping ended it
            iterations = [int(path.stem) for path in paths]
            found[stimulus_id] = Trajectory(iterations, pictures, losses.tolist(), int(result_of[stimulus_id]))
    return found
