"""Scores of films as Mind-Animator's authors compute them, which are not those of `metrics.py` of the same names.

Published tables compare films after they were stored as GIF, of 256 colours a frame; and for some scores in a GIF of
both films side by side, with borders of two pixels between and around them, which is cut in halves: of 512 pixels they
have 515, and the film that was seen begins a pixel later than its reconstruction. Besides:

    score             film seen         reconstruction   what is particular
    ssim              half of the GIF   half of the GIF  6 of 8 frames, windows of 7 x 7, mean over channels
    hue               half of the GIF   half of the GIF  6 of 8 frames; a cosine, .75 for unrelated pictures; red and
                                                         blue exchanged
    psnr              itself            its own GIF
    image_2/50_way    itself            its own GIF      20 random draws of other classes
    video_2/50_way    half of the GIF   half of the GIF  both resized back; 100 random draws
    vifi              itself            its own GIF      (they go through AVI as well, which is left out here)
    clip_consistency  -                 its own GIF      0 where vifi is not above the gate

Equal smooth films have an SSIM of .99 and a PSNR of 28.5 dB between the halves, which is the most there is.

Source: ReedOnePeck/MindAnimator, Evaluation (SSIM.py, PSNR, hue, img_classification.py, video_classification.py).
Their end-point error compares flow of 515 pixels resized to 512 with that of 512 (EPE.py); in their shuffle test both
are halves.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import cv2
import numpy as np
from PIL import Image
from skimage.metrics import structural_similarity

from evaluation.metrics.features import clip_similarity
from evaluation.metrics.images import by_pair, check_same_shape, psnr
from evaluation.videos.files import read_gif, repeats
from evaluation.videos.metrics import consistency, gated, over_frames, resized, right_classes, ways
from evaluation.videos.networks import FilmNetworks
from minddiffuser.seeds import numpy_generator

NAME = "as_published"
N_COMPARED = 6  # frames of SSIM and hue
N_TRIALS = {"image": 20, "video": 100}
_BORDER = 2  # pixels
_PERIOD = 125  # ms of a frame


def published_scores(
    networks: FilmNetworks, stimulus_ids: np.ndarray, seen: np.ndarray, made: np.ndarray, gate: float, seed: int
) -> dict[str, np.ndarray]:
    """Score a batch of clips as published. A clip takes .2 s of a core at 64 pixels, and 5 s at 512, mostly for GIF.

    Parameters
    ----------
    networks : FilmNetworks
    stimulus_ids : array of shape (n,)
    seen : array of shape (n, n_frames, h, h, 3), uint8
    made : array of shape (n, n_frames, h', h', 3), uint8
        Resized to the size of what was seen, where it has another.
    gate : float
        VIFI score up to which the consistency is 0.
    seed : int
        Of the draws of classes; each clip has its own.

    Returns
    -------
    dict of str to array of shape (n,)
        "as_published/ssim" and so on; names of networks' scores end in networks.suffix.
    """
    size = seen.shape[2]
    made = resized(made, size)
    check_same_shape(seen, made)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # choosing colours takes nearly all of the time
        alone = np.stack(list(pool.map(through_gif, made)))
        halves = [split(grid) for grid in pool.map(lambda a, b: through_gif(beside(a, b)), seen, made)]
    left, right = (np.stack(side) for side in zip(*halves, strict=True))
    compared = left[:, :N_COMPARED], right[:, :N_COMPARED]
    scores = {
        "ssim": over_frames(_ssim, *compared),
        "psnr": over_frames(psnr, seen, alone),
        "hue": over_frames(hue_cosine, *compared),
    }
    of_seen, of_made = networks.look(seen), networks.look(alone)
    of_left, of_right = (networks.look(_back(side, size)) for side in (left, right))
    found = {}
    for name, a, b in (("image", of_seen, of_made), ("video", of_left, of_right)):
        for n in ways(a[name].shape[-1]) if name in a else ():
            found[f"{name}_{n}_way"] = np.array(
                [
                    drawn_n_way(x, y, n, N_TRIALS[name], numpy_generator(seed, int(i), f"{name} {n}-way")).mean()
                    for i, x, y in zip(stimulus_ids, a[name], b[name], strict=True)
                ]
            )
    if "vifi" in of_seen:
        found["vifi"] = clip_similarity(of_seen["vifi"], of_made["vifi"])
        if "clip" in of_made:
            found["clip_consistency_gated"] = gated(consistency(of_made["clip"]), found["vifi"], gate)
    scores |= {name + networks.suffix: values for name, values in found.items()}
    return {f"{NAME}/{name}": values for name, values in scores.items()}


def through_gif(video: np.ndarray) -> np.ndarray:
    """Store a video (n_frames, h, w, 3) as GIF, 8 frames a second, and read it again: as many frames of 256 colours."""
    file, pictures = BytesIO(), [Image.fromarray(frame) for frame in video]
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=_PERIOD, loop=0)
    stored = read_gif(file, len(video))
    if len(stored.frames) == 1:  # its duration is that of all, or of one
        return np.repeat(stored.frames, len(video), axis=0)
    again = repeats(stored.durations, len(video)) if stored.durations is not None else None
    if again is None:
        raise ValueError(f"a GIF of {len(video)} frames came back with {len(stored.frames)}")
    return np.repeat(stored.frames, again, axis=0)


def beside(seen: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Put two videos (n_frames, h, w, 3) side by side, black borders of two pixels around each and between them.

    Returns
    -------
    array of shape (n_frames, h + 4, 2 w + 6, 3), uint8
        516 x 1030 of 512 x 512.
    """
    n_frames, height, width, _ = seen.shape
    grid = np.zeros((n_frames, height + 2 * _BORDER, 2 * width + 3 * _BORDER, 3), np.uint8)
    for place, video in ((_BORDER, seen), (width + 2 * _BORDER, made)):
        grid[:, _BORDER : height + _BORDER, place : place + width] = video
    return grid


def split(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut a grid in halves: what was seen begins at column 2 of the first, the reconstruction at 1 of the second."""
    left, right = np.split(grid, 2, axis=2)
    return left, right


def hue_cosine(seen: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Cosine of OpenCV's hues, 0 to 179, of pairs of pictures, red and blue exchanged: "Hue-pcc" of published tables.

    Parameters
    ----------
    seen, made : arrays of shape (n, h, w, 3), uint8

    Returns
    -------
    array of shape (n,), in [0, 1]
        .75 for unrelated pictures with all hues alike often; 0 where all hues of a picture are 0.
    """

    def of_pair(a: np.ndarray, b: np.ndarray) -> float:
        x, y = (cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[..., 0].astype(np.float64).ravel() for image in (a, b))
        norms = np.sqrt((x @ x) * (y @ y))
        return float(x @ y / norms) if norms else 0.0

    check_same_shape(seen, made)
    return by_pair(of_pair, seen, made)


def drawn_n_way(seen: np.ndarray, made: np.ndarray, n: int, n_trials: int, rng: np.random.Generator) -> np.ndarray:
    """Draw what `metrics.n_way` gives exactly: the share of trials in which a right class is before n - 1 others.

    Parameters
    ----------
    seen, made : arrays of shape (..., n_classes)
    n, n_trials : int
    rng : Generator

    Returns
    -------
    array of shape (...,)
    """
    is_right = right_classes(seen)
    best = np.where(is_right, made, -np.inf).max(axis=-1)
    found = np.empty(best.shape)
    for place in np.ndindex(best.shape):
        others = made[place][~is_right[place]]
        drawn = [rng.choice(others, n - 1, replace=False).max() for _ in range(n_trials)]
        found[place] = np.mean(best[place] > np.array(drawn))
    return found


def _ssim(seen: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Structural similarity of pairs of pictures, with scikit-image's defaults: (n,)."""
    return by_pair(lambda a, b: structural_similarity(a, b, data_range=255, channel_axis=-1), seen, made)  # type: ignore[arg-type]


def _back(videos: np.ndarray, size: int) -> np.ndarray:
    """Resize halves to the size that films had."""
    frames = [cv2.resize(frame, (size, size)) for frame in videos.reshape(-1, *videos.shape[2:])]
    return np.stack(frames).reshape(*videos.shape[:2], size, size, 3)
