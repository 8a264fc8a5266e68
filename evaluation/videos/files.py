"""Frames of films in files of other people: GIF, MP4, a strip of frames in a PNG, or a folder of frames.

A GIF does not store a frame that is equal to the one before, but shows that one for longer: a film that does not move
comes back as one frame. So frames are repeated by their durations.
"""

import re
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageSequence

from data.cc2017 import end_of_boxes
from minddiffuser.store import DataError, reading
from reconstruction.foreign import as_shown

FRAMES = (".png", ".jpg", ".jpeg")  # suffixes of frames in a folder
_ROUNDED = 10.0  # ms: GIF stores durations in hundredths of a second
_AGAIN = "make it again"


class Stored(NamedTuple):
    """The frames that a file has.

    Attributes
    ----------
    frames : array of shape (n_stored, h, w, 3), uint8
    durations : array of shape (n_stored,), in ms, or None
        For how long each is shown, of a GIF.
    """

    frames: np.ndarray
    durations: np.ndarray | None


def read_stored(file: Path, n_frames: int) -> Stored:
    """Read the frames of a film as they are stored, `n_frames` or fewer.

    Parameters
    ----------
    file : Path
        A GIF, an MP4, a PNG with square frames below one another, or a folder of frames, which are pictures with a
        number in their names (0.png, frame_07.jpg), in that order.
    n_frames : int
        That a film has. Of longer ones no more is read: somebody may point at films of eight minutes.

    Raises
    ------
    DataError
        It cannot be read, is truncated, has more frames, or viewers show it differently.
    """
    if file.is_dir():
        return Stored(_read_folder(file, n_frames), None)
    if file.suffix.lower() == ".gif":
        return read_gif(file, n_frames)
    frames = _read_mp4(file, n_frames) if file.suffix.lower() == ".mp4" else _read_strip(file, n_frames)
    return Stored(frames, None)


def _check_number(file: Path, n: int, n_frames: int) -> None:
    if n > n_frames:
        raise DataError(f"{file} has {n} frames: {n_frames} are expected")


def read_gif(source: Path | BytesIO, n_frames: int) -> Stored:
    """Read a GIF of `n_frames` or fewer, each frame as it is shown; errors as of `read_stored`."""
    path = source if isinstance(source, Path) else Path("GIF in memory")
    frames, durations = [], []
    with reading(path, "a GIF", _AGAIN), Image.open(source, formats=["GIF"]) as image:
        _check_number(path, getattr(image, "n_frames", 1), n_frames)
        for frame in ImageSequence.Iterator(image):
            shown = np.asarray(frame.convert("RGBA"))
            if shown[..., 3].min() < 255:
                raise DataError(f"{path} has transparent pixels, and what is behind them is not known; {_AGAIN}")
            frames.append(shown[..., :3])
            durations.append(float(frame.info.get("duration", 0)))
        end = source.read_bytes()[-1:] if isinstance(source, Path) else source.getvalue()[-1:]
        if end != b";":
            raise ValueError("its end is missing")
    return Stored(np.stack(frames), np.array(durations))


def repeats(durations: np.ndarray, n_frames: int, period: float | None = None) -> list[int] | None:
    """Say how often each frame of a GIF is repeated so that there are `n_frames` of equal durations.

    Parameters
    ----------
    durations : array of shape (n_stored,), in ms
    n_frames : int
        That the film has.
    period : float, optional
        Duration of a frame in other films like this one, in ms.

    Returns
    -------
    list of int, or None
        None where durations are not those of `n_frames` frames, some of which were merged.
    """
    if len(durations) == n_frames:
        return [1] * n_frames
    own = durations.sum() / n_frames
    if len(durations) > n_frames or own <= 0 or (period is not None and abs(own - period) > _ROUNDED):
        return None
    found = [round(duration / own) for duration in durations]
    return found if sum(found) == n_frames and min(found) > 0 else None


def _read_mp4(file: Path, n_frames: int) -> np.ndarray:
    capture, frames = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG), []
    try:
        with reading(file, "a film", _AGAIN):
            if not capture.isOpened():
                raise ValueError("FFmpeg cannot open it")
            if (end := end_of_boxes(file)) > file.stat().st_size:
                raise ValueError(f"it has {file.stat().st_size} of {end} bytes")
            n_stored = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            _check_number(file, n_stored, n_frames)
            while len(frames) <= n_frames and (picture := capture.read()[1]) is not None:
                frames.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            if len(frames) < n_stored or not frames:
                raise ValueError(f"it ends after {len(frames)} of {n_stored} frames")
            _check_number(file, len(frames), n_frames)
    finally:
        capture.release()
    return np.stack(frames)


def _read_strip(file: Path, n_frames: int) -> np.ndarray:
    strip = as_shown(file)
    height, width, _ = strip.shape
    if height % width:
        raise DataError(
            f"{file} is {width} pixels wide and {height} high: a strip has square frames below one another; {_AGAIN}"
        )
    _check_number(file, height // width, n_frames)
    return strip.reshape(-1, width, width, 3)


def _read_folder(folder: Path, n_frames: int) -> np.ndarray:
    numbers: dict[int, Path] = {}
    with reading(folder, "a folder of frames", "let it be read"):
        entries = sorted(folder.iterdir())
    for file in entries:
        if file.suffix.lower() not in FRAMES or file.name.startswith("."):
            continue
        found = re.search(r"(\d+)\D*$", file.stem)
        if found is None or int(found[1]) in numbers:
            why = "has no number" if found is None else f"has the number of {numbers[int(found[1])].name}"
            raise DataError(f"{folder} has frames whose order is open: {file.name} {why}; number them 0, 1, 2 ...")
        numbers[int(found[1])] = file
    if not numbers:
        raise DataError(f"{folder} has no frames: {', '.join(FRAMES)} are expected")
    _check_number(folder, len(numbers), n_frames)
    frames = [as_shown(numbers[number]) for number in sorted(numbers)]
    if len({frame.shape for frame in frames}) > 1:
        raise DataError(f"{folder} has frames of different sizes; {_AGAIN}")
    return np.stack(frames)
