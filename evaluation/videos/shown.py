"""The test clips that the page shows: the films seen, and those of every system, as small strips of frames."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from data import cc2017
from evaluation.page.album import choose_examples, thumbnail
from evaluation.scores import place_of
from evaluation.videos.catalogue import CATALOGUE
from minddiffuser.config import Config
from minddiffuser.config.mind_animator import MindAnimator
from reconstruction import folder

SIDE = 96  # pixels, at most, that a frame has on the page
_MOST_PIXELS = 64_000_000  # of all films of the page: some 8 MB
TRUE_SPEED = "epe_still"  # the end-point error of a film that does not move is the speed of the true one
RULE = "evenly spaced by the speed of the film that was seen, from the slowest to the fastest"


@dataclass(frozen=True)
class Clip:
    """A test clip that was seen."""

    stimulus_id: int
    name: str  # such as test1_5
    caption: str
    speed: float  # pixels a frame
    film: bytes  # strip


@dataclass(frozen=True)
class SubjectFilms:
    """What is shown of one subject."""

    name: str
    n_clips: int  # test clips that have scores
    films: dict[str, dict[int, bytes]]  # strips by system and stimulus_id
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # what is in `settings.json` of each folder


def choose_clips(scores: pd.DataFrame, n: int) -> dict[int, float]:
    """Choose test clips by the true film's speed, at evenly spaced quantiles, and give their speeds in pixels a frame.

    Parameters
    ----------
    scores : DataFrame
        `scores.csv`; the true speed is the same for all subjects and systems.
    n : int

    Returns
    -------
    dict of int to float
        By stimulus_id, in its order.
    """
    rows = scores[scores["metric"] == TRUE_SPEED]
    speed_of = rows.groupby("stimulus_id")["value"].first().to_dict()
    return {int(key): float(speed_of[key]) for key in sorted(choose_examples(speed_of, n))}


def number_of_clips(settings: MindAnimator, n_folders: int) -> int:
    """How many clips a page can show, of which each has a film in that many folders: one at least."""
    side = min(settings.clips.size, SIDE)
    return max(_MOST_PIXELS // (side * side * settings.clips.n_frames * max(n_folders, 1)), 1)


def folders_of(config: Config, subject: str, systems: Sequence[str]) -> list[str]:
    """Name the systems of a subject whose films are there, in order."""
    there = [name for name in systems if folder.n_frames_of(place_of(config, subject, name))]
    return CATALOGUE.in_order([name for name in there if folder.state(place_of(config, subject, name))])


def read_true(config: Config, settings: MindAnimator, speeds: Mapping[int, float]) -> list[Clip]:
    """Read the test clips that were seen, of those with a speed, in the order of films."""
    root = config.cc2017
    films = [film for film in cc2017.films(root).values() if film.is_test]
    captions, before, found = cc2017.read_captions(root, "test", sum(film.n_clips for film in films)), 0, []
    for film in films:
        keys = {cc2017.clip_key(film.name, clip): clip for clip in range(1, film.n_clips + 1)}
        if not keys.keys().isdisjoint(speeds):
            own, side = settings.clips, min(settings.clips.size, SIDE)
            for clip, frames in cc2017.read_clips(film, own.n_frames, own.frame_step, side):
                if (key := cc2017.clip_key(film.name, clip)) in speeds:
                    text = captions[before + clip - 1]
                    found.append(Clip(key, cc2017.clip_name(key), text, speeds[key], strip(frames)))
        before += film.n_clips
    return found


def read_subject(
    config: Config, subject: str, systems: Sequence[str], stimulus_ids: Sequence[int], n_clips: int
) -> SubjectFilms:
    """Read the films of some test clips, of each system those that are there. Peak memory: a film, and all strips."""
    films, settings = {}, {}
    for name in systems:
        place = place_of(config, subject, name)
        there = set(folder.read_index(place)["stimulus_id"])
        wanted = [key for key in stimulus_ids if key in there]
        films[name] = {key: strip(film) for key, film in folder.read_videos(place, wanted)}
        settings[name] = folder.read_settings(place)
    return SubjectFilms(subject, n_clips, films, settings)


def strip(film: np.ndarray) -> bytes:
    """Encode a film (n_frames, h, w, 3), uint8, as WebP of its frames from top to bottom, at most 96 pixels wide.

    A film whose frames are all the same is one frame.
    """
    if (film == film[:1]).all():
        film = film[:1]
    if max(film.shape[1:3]) > SIDE:
        film = np.stack([cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in film])
    content = io.BytesIO()
    Image.fromarray(film.reshape(-1, *film.shape[2:])).save(content, "webp", quality=75, method=2)
    return content.getvalue()


def frames_of(film: bytes) -> list[bytes]:
    """Cut a strip, as `strip` makes it, into pictures of its frames."""
    picture = Image.open(io.BytesIO(film)).convert("RGB")
    side = picture.width
    return [thumbnail(picture.crop((0, top, side, top + side))) for top in range(0, picture.height, side)]
