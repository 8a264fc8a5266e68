"""Procedurally drawn films: the miniature's stand-in for the video clips of CC2017.

A film is a sequence of shots. A shot is a scene (`miniature/scenes.py`) with one velocity: its one or two objects move
over the background, and turn back at its bounds. A clip is two seconds of it, eight frames. Neither where an object
starts nor which side it faces tells where it is going: else a still picture would give its direction away.
"""

from dataclasses import dataclass, replace

import numpy as np

from minddiffuser.seeds import numpy_generator
from miniature.scenes import COLOURS, IMAGE_SIZE, KINDS, Scene, captions, render, sample_scene, sample_scene_of

FRAMES_PER_CLIP = 8
FRAMES_PER_SECOND = 4
_BOUNDS = (6.0, IMAGE_SIZE - 6.0)  # pixels: of the centres of objects
_SPEED = (1.5, 3.5)  # pixels a frame. Much slower is rest, and much faster leaves the picture in a clip
_STILL, _INSIDE = 0.05, 0.1  # chances: no motion; a cut that is not at the border of a clip
_APART = 30  # pixels, at most, between two objects, so that they have room to move together


@dataclass(frozen=True)
class Shot:
    """A scene, and how far its objects move from one frame to the next, in pixels: (x, y)."""

    scene: Scene
    velocity: tuple[float, float]


@dataclass(frozen=True)
class Film:
    """A film, frame by frame.

    Attributes
    ----------
    frames : array of shape (n_frames, 64, 64, 3), uint8
    scenes : list of n_frames Scene
    visible : list of n_frames arrays of shape (n_objects, 64, 64), bool
        The pixels in which each object is seen.
    steps : array of shape (n_frames, 2)
        Pixels that objects move to the right and down, from a frame to the next of its shot.
    shot : array of shape (n_frames,), int
        The shot that a frame is of, from 0.
    """

    frames: np.ndarray
    scenes: list[Scene]
    visible: list[np.ndarray]
    steps: np.ndarray
    shot: np.ndarray


def draw_film(name: str, n_clips: int, mean_shot: int, alone: float, seed: int) -> Film:
    """Draw a film; a share `alone` of its shots has one object.

    Each shot has its own generator, so that more clips do not change the first.
    """
    shot = shots_of_frames(n_clips, mean_shot, numpy_generator(seed, "film", name))
    scenes, steps = [], []
    for number in range(shot[-1] + 1):
        drawn = sample_shot(alone, numpy_generator(seed, "shot", name, number))
        of_shot, moved = move(drawn, int((shot == number).sum()))
        scenes += of_shot
        steps.append(moved)
    frames, visible = zip(*map(render, scenes), strict=True)
    return Film(np.stack(frames), scenes, list(visible), np.concatenate(steps), shot)


def shots_of_frames(n_clips: int, mean_shot: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a film into shots of 1 to 2 mean_shot - 1 clips: number of the shot of each frame, (8 n_clips,).

    One cut in ten comes one to seven frames after the border of a clip.
    """
    border, cuts = 0, []
    while border < n_clips * FRAMES_PER_CLIP:
        border += FRAMES_PER_CLIP * int(rng.integers(1, 2 * mean_shot))
        is_inside, later = rng.uniform() < _INSIDE, int(rng.integers(1, FRAMES_PER_CLIP))
        cuts.append(border + later * is_inside)
    return np.searchsorted(cuts, np.arange(n_clips * FRAMES_PER_CLIP), side="right")


def sample_shot(alone: float, rng: np.random.Generator) -> Shot:
    """Draw a shot: one large object (chance `alone`) or two smaller ones, and a velocity independent of them."""
    if rng.uniform() < alone:
        scene = sample_scene_of(str(rng.choice(KINDS)), str(rng.choice(list(COLOURS))), rng)
    else:
        while not _are_two_together(scene := sample_scene(rng)):
            pass
    room_x, room_y = rooms(scene)
    scene = shifted(scene, rng.uniform(*room_x), rng.uniform(*room_y))
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*_SPEED)
    speed *= rng.uniform() >= _STILL
    return Shot(scene, (float(speed * np.cos(angle)), float(speed * np.sin(angle))))


def move(shot: Shot, n_frames: int) -> tuple[list[Scene], np.ndarray]:
    """Let the objects of a shot move together, and turn back at the bounds.

    Returns
    -------
    scenes : list of n_frames Scene
    steps : array of shape (n_frames, 2)
        Pixels from each frame to the one after it.
    """
    time = np.arange(n_frames + 1)
    shifts = np.stack(
        [_fold(v * time, *room) for v, room in zip(shot.velocity, rooms(shot.scene), strict=True)], axis=1
    )
    return [shifted(shot.scene, x, y) for x, y in shifts[:-1].tolist()], np.diff(shifts, axis=0)


def rooms(scene: Scene) -> tuple[tuple[float, float], tuple[float, float]]:
    """How far all objects of a scene can be moved, horizontally and vertically, until one is at a bound: pixels."""
    low, high = _BOUNDS
    places = np.array([(item.x, item.y) for item in scene.objects])
    (left, top), (right, bottom) = low - places.min(axis=0), high - places.max(axis=0)
    return (float(left), float(right)), (float(top), float(bottom))


def shifted(scene: Scene, x: float, y: float) -> Scene:
    """Move all objects of a scene by so many pixels."""
    return replace(scene, objects=tuple(replace(item, x=item.x + x, y=item.y + y) for item in scene.objects))


def _are_two_together(scene: Scene) -> bool:
    if len(scene.objects) != 2:
        return False
    first, second = scene.objects
    return bool(np.hypot(first.x - second.x, first.y - second.y) <= _APART)


def _fold(place: np.ndarray, low: float, high: float) -> np.ndarray:
    """Reflect places on a line at both ends of a stretch, as often as needed."""
    length = high - low
    return low + length - np.abs((place - low) % (2 * length) - length)


def draw_captions(film: Film, name: str, seed: int) -> tuple[list[str], list[str]]:
    """Describe the first and the last frame of each clip, as an image captioner does that sees each by itself."""
    ends = range(0, len(film.scenes), FRAMES_PER_CLIP), range(FRAMES_PER_CLIP - 1, len(film.scenes), FRAMES_PER_CLIP)
    first, last = (
        [captions(film.scenes[frame], numpy_generator(seed, "film caption", name, frame))[0] for frame in frames]
        for frames in ends
    )
    return first, last


def caption_clip(first: str, last: str, similarities: np.ndarray, join_above: float, rng: np.random.Generator) -> str:
    """Make one caption of those of a clip's first and last frame (the authors' Data_preprocess/CC2017, step 3).

    Parameters
    ----------
    first, last : str
    similarities : array of shape (2,)
        Of the two captions with the middle frame: cosines of CLIP embeddings.
    join_above : float
        Where similarities differ by more the captions are joined; else a coin decides for one of them.
    rng : Generator
    """
    if abs(similarities[0] - similarities[1]) > join_above:
        return f"{first}, and then {last}"
    return first if rng.uniform() < 0.5 else last
