"""What Mind-Animator decodes: latents of a clip's frames, tokens of its caption, and CLIP's embeddings of both.

Reference: Lu et al. 2025 (arXiv 2405.03280), section 3; the authors' Feature_extraction.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional

from baselines.mind_animator.augment import crop, crop_corners, eda
from baselines.semantic_brain_decoding.wordnet import WordNet
from data import cc2017
from feature_extraction.latents import encode_both, to_model_range
from feature_extraction.optical_flow import flows, mean_velocity
from minddiffuser.config.mind_animator import Clips
from minddiffuser.pretrained.clip import Clip
from minddiffuser.seeds import numpy_generator, torch_generator

ROWS_PER_PART = 120  # clips
_FLOW_SIZE = 128  # pixels in which motion is measured


def frames_of(films: Sequence[cc2017.Film], rows: slice, clips: Clips) -> Iterator[np.ndarray]:
    """Read clips of films: those of a range of rows, where all clips are counted, film after film.

    Peak memory: one clip. The clips of a film before the first one of the range are read, and left out.

    Yields
    ------
    array of shape (n_frames, size, size, 3), uint8
    """
    start = 0
    for film in films:
        first, last = max(rows.start - start, 0), min(rows.stop - start, film.n_clips)
        if first < last:
            found = cc2017.read_clips(film, clips.n_frames, clips.frame_step, clips.size)
            for _, frames in islice(found, first, last):
                yield frames
        start += film.n_clips


def latents(vae: Any, frames: np.ndarray, device: torch.device, batch_size: int, noise: torch.Tensor) -> np.ndarray:
    """Encode the frames of a clip, a batch at a time: posterior means, and samples with the noise given.

    Parameters
    ----------
    frames : array of shape (n_frames, size, size, 3), uint8
    noise : tensor of shape (n_frames, 4, size / 8, size / 8)

    Returns
    -------
    array of shape (2, n_frames, 4, size / 8, size / 8), float16
        Means and samples, times the model's factor.
    """
    found = []
    for start in range(0, len(frames), batch_size):
        here = slice(start, start + batch_size)
        pixels = to_model_range(frames[here], frames.shape[1]).to(device)
        with torch.no_grad():
            found.append(encode_both(vae, pixels, noise[here].to(device)).cpu().numpy())
    return np.concatenate(found, axis=1).astype(np.float16)


def velocity_of(frames: np.ndarray) -> np.ndarray:
    """Mean optical flow of a clip (`optical_flow.mean_velocity`), in pixels a frame: (2,) float32.

    Frames wider than 128 pixels are made smaller by a whole factor first, which takes less time, and in which windows
    of Farneback's method see what moves far.
    """
    factor = max(frames.shape[1] // _FLOW_SIZE, 1)
    if factor > 1:
        size = frames.shape[1] // factor
        frames = np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in frames])
    return (mean_velocity(flows(frames)) * factor).astype(np.float32)


def embed_texts(texts: Sequence[str], clip: Clip, tokenizer: Any, device: torch.device) -> np.ndarray:
    """Embed texts by CLIP, cut to its context: (n, d) float32, of any length."""
    ids = tokenizer(
        list(texts), padding="max_length", truncation=True, max_length=clip.model.context_length, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        return clip.model.encode_text(ids.to(device)).float().cpu().numpy()


def embed_images(pixels: torch.Tensor, clip: Clip) -> np.ndarray:
    """Embed pictures (n, 3, height, width) in [0, 1] by CLIP, resized as wholes: (n, d) float32, of any length."""
    device = next(clip.model.parameters()).device
    mean, std = (torch.tensor(values)[:, None, None] for values in (clip.mean, clip.std))
    width = width_of(clip)
    if pixels.shape[-2:] != (width, width):
        pixels = functional.interpolate(pixels, (width, width), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        return clip.model.encode_image(((pixels - mean) / std).to(device)).float().cpu().numpy()


def width_of(clip: Clip) -> int:
    """Width of the pictures that a CLIP sees, in pixels."""
    visual: Any = clip.model.visual
    return int(visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0])


def vary_caption(text: str, clip: int, variation: int, wordnet: WordNet | None, seed: int) -> str:
    """Give a variation of a caption, which depends on (seed, clip, variation) alone."""
    return eda(text, numpy_generator(seed, clip, variation, "eda"), wordnet)


def vary_frames(
    frames: torch.Tensor, ids: np.ndarray, variation: int, kind: str, width: int, seed: int
) -> torch.Tensor:
    """Crop middle frames (n, 3, size, size) for one variation; "per_epoch" takes the same window for all clips."""
    size = frames.shape[-1]
    if kind == "per_epoch":
        corners = crop_corners(len(frames), size, torch_generator(seed, variation, "crop"), per_image=False)
    else:
        drawn = [crop_corners(1, size, torch_generator(seed, int(i), variation, "crop"), per_image=True) for i in ids]
        corners = torch.cat(drawn)
    return crop(frames, corners, width)
