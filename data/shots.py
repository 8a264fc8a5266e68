"""Shots of films: which clips belong together, since those of one shot show the same thing moving the same way.

CC2017 comes without a list of shots. They are found in the films: a cut is where the colours of a frame are not those
of the frame before it. Colours stay while things move, and change where a film goes to another place.
"""

from collections.abc import Iterable

import cv2
import numpy as np
import pandas as pd

from data.cc2017 import Film, clip_key, read_clips
from minddiffuser.config.mind_animator import Clips

# Share of the pixels that change their bin of colour at a cut. A missed cut makes one shot of two, and tests over shots
# more careful; a false one takes clips for independent that are not. So the share is rather too high than too low. Of
# the clips of the miniature that begin another shot it finds more than nine in ten, and no others.
_CUT = 0.4
_BINS = (8, 4, 4)  # of hue, saturation and value
_SIZE = 64  # pixels to which frames are brought


def shots_of(films: Iterable[Film], clips: Clips) -> pd.Series:
    """Find the shot that each clip of some films is of. Peak memory: one clip of 64 x 64 pixels.

    A clip in which there is a cut is of the shot of its middle frame. A film that comes back to a place
    begins another shot.

    Parameters
    ----------
    films : iterable of Film
    clips : Clips
        Which frames of a clip are taken.

    Returns
    -------
    Series of int
        Number of the shot, from 0 and over all films, by `stimulus_id`, in the order of films and clips.

    Raises
    ------
    DataError
        A film cannot be read (see `cc2017.read_clips`).
    """
    shot_of: dict[int, int] = {}
    shot = -1
    for film in films:
        before, shot = None, shot + 1  # a film begins with a shot of its own
        for clip, frames in read_clips(film, clips.n_frames, clips.frame_step, _SIZE):
            for place, frame in enumerate(frames):
                colours = _colours(frame)
                if before is not None and change(before, colours) > _CUT:
                    shot += 1
                if place == clips.n_frames // 2:
                    shot_of[clip_key(film.name, clip)] = shot
                before = colours
    named = pd.Series(shot_of, name="shot").rename_axis("stimulus_id")
    return pd.Series(np.unique(named, return_inverse=True)[1], index=named.index, name="shot")  # without gaps


def change(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the pixels that have another bin of colour: of two histograms, 0 (the same) to 1 (none in common)."""
    return float(1 - np.minimum(first, second).sum())


def _colours(frame: np.ndarray) -> np.ndarray:
    """Histogram of hue, saturation and value of a frame (h, w, 3) in red, green, blue: sums to 1."""
    hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, list(_BINS), [0, 180, 0, 256, 0, 256])
    return counts / frame[..., 0].size
