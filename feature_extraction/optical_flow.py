"""Optical flow of films: how far each pixel moves from a frame to the next, by Farneback's method."""

import itertools
from typing import Literal

import cv2
import numpy as np

Channels = Literal["rgb", "bgr"]
_TO_GREY = {"rgb": cv2.COLOR_RGB2GRAY, "bgr": cv2.COLOR_BGR2GRAY}


def flows(video: np.ndarray, channels: Channels = "rgb") -> np.ndarray:
    """Optical flow from each frame of a clip to the next.

    Parameters
    ----------
    video : array of shape (n_frames, h, w, 3), uint8
        In the order red, green, blue.
    channels : {"rgb", "bgr"}
        The order in which brightness takes the channels. "bgr" is as published: the authors weight frames in the order
        red, green, blue as if they began with blue, so that red counts .114 in place of .299.

    Returns
    -------
    array of shape (n_frames - 1, h, w, 2), float32
        To the right and down, in pixels a frame.

    Raises
    ------
    ValueError
        The video is not of that shape and type, or has fewer than two frames.

    References
    ----------
    Farnebäck (2003), Two-frame motion estimation based on polynomial expansion; with the numbers that the authors of
    Mind-Animator give it in their computation of the end-point error (EPE).
    """
    return np.stack([flow_between(first, second) for first, second in itertools.pairwise(greys(video, channels))])


def greys(video: np.ndarray, channels: Channels = "rgb") -> list[np.ndarray]:
    """Give the brightness of each frame of a clip, as `flows` takes it: n_frames arrays (h, w), uint8."""
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or len(video) < 2:
        raise ValueError(f"video {video.shape} {video.dtype}: expected (n_frames, h, w, 3) uint8, two frames or more")
    return [cv2.cvtColor(np.ascontiguousarray(frame), _TO_GREY[channels]) for frame in video]


def flow_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Optical flow between two grey frames (h, w) uint8, in pixels to the right and down: (h, w, 2) float32.

    Three levels of a pyramid of halves, windows of 15 pixels, 3 iterations, polynomials fitted to 5 pixels with a
    deviation of 1.2.
    """
    flow = np.empty((*first.shape, 2), np.float32)
    return cv2.calcOpticalFlowFarneback(first, second, flow, 0.5, 3, 15, 3, 5, 1.2, 0)


def mean_velocity(flow: np.ndarray) -> np.ndarray:
    r"""Mean flow of a clip, each pixel weighted by how far it moves: that of what moves, not of what is still.

        v = \sum_p |f_p| f_p / \sum_p |f_p|

    Parameters
    ----------
    flow : array of shape (..., h, w, 2), in pixels a frame
        Such as that of all frames of a clip.

    Returns
    -------
    array of shape (2,), float64
        To the right and down, in pixels a frame; 0 where nothing moves.
    """
    vectors = flow.reshape(-1, 2).astype(np.float64)
    speed = np.hypot(*vectors.T)
    return speed @ vectors / speed.sum() if speed.any() else np.zeros(2)
