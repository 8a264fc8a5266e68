"""Scores of reconstructions by features of images: how alike those of a pair are, and which stimulus is found by them.

Features are arrays of shape (n, n_dimensions); row `i` is image `i`. Higher is better, but for distances. Two arrays of
pairs of another shape are a ValueError.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from evaluation.metrics.images import check_same_shape
from minddiffuser.correlation import unit_rows
from minddiffuser.pretrained.clip import Clip
from minddiffuser.seeds import torch_generator

GRID, N_PLACES = 4, 256  # parts of an image along each side; numbers that tell what is in them
_TIE = 1e-6  # similarities that differ by less are equal: features of equal pictures differ in float32's last digits


def clip_embeddings(clip: Clip, images: np.ndarray, device: torch.device, batch_size: int) -> np.ndarray:
    """Embed images with CLIP: the whole image, without a crop, resized bicubically with antialiasing.

    Parameters
    ----------
    clip : Clip
        On `device`.
    images : array of shape (n, height, width, 3), uint8
    device : torch.device
    batch_size : int
        Images in one forward pass.

    Returns
    -------
    array of shape (n, n_dimensions), float64
        Not normalised.
    """
    return np.concatenate(list(_embed(clip, images, device, batch_size)))


@torch.no_grad()
def clip_embeddings_and_places(
    clip: Clip, images: np.ndarray, device: torch.device, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Embed images with CLIP as `clip_embeddings` does, and tell in the same pass what is where in them.

    Returns
    -------
    embeddings : array of shape (n, n_dimensions), float64
    places : array of shape (n, N_PLACES), float32
        Of the block in the middle of the network the mean in each of `GRID` x `GRID` parts of the image, projected by
        random numbers, which are the same for all images.
    """
    visual: Any = clip.model.visual
    is_transformer = hasattr(visual, "transformer")  # or else a ResNet, of four layers
    blocks = visual.transformer.resblocks if is_transformer else [visual.layer1, visual.layer2, visual.layer3]
    seen: list[torch.Tensor] = []  # what the block in the middle gave last
    hook = blocks[(len(blocks) - 1) // 2].register_forward_hook(lambda _block, _inputs, output: seen.append(output))
    embeddings, places = [], []
    try:
        for embedding in _embed(clip, images, device, batch_size):
            embeddings.append(embedding)
            maps = seen.pop()
            if is_transformer:  # tokens, (batch, 1 + side^2, width), of which the first is of no place
                side = round((maps.shape[1] - 1) ** 0.5)
                maps = maps[:, 1:].permute(0, 2, 1).unflatten(2, (side, side))
            parts = adaptive_avg_pool2d(maps, GRID).flatten(1)  # (batch, width * GRID^2)
            places.append((parts @ _projection(parts.shape[1]).to(parts)).float().cpu().numpy())
    finally:
        hook.remove()
    return np.concatenate(embeddings), np.concatenate(places)


@torch.no_grad()
def _embed(clip: Clip, images: np.ndarray, device: torch.device, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the embeddings of one batch after the other."""
    visual: Any = clip.model.visual
    size = [visual.image_size] * 2 if isinstance(visual.image_size, int) else list(visual.image_size)
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(images[start : start + batch_size]).to(device)
        pixels = batch.permute(0, 3, 1, 2).float() / 255  # (batch, 3, height, width)
        pixels = interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)
        embedding = clip.model.encode_image(normalise(pixels, clip.mean, clip.std))
        yield embedding.double().cpu().numpy()


@functools.lru_cache(maxsize=1)
def _projection(n_dimensions: int) -> torch.Tensor:
    """Random numbers, (n_dimensions, N_PLACES)."""
    drawn = torch.randn(n_dimensions, N_PLACES, generator=torch_generator(0, "places of CLIP", n_dimensions))
    return drawn / n_dimensions**0.5


def normalise(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Subtract a mean and divide by a deviation for each channel of (n, 3, height, width)."""
    shape = (1, 3, 1, 1)
    return (pixels - pixels.new_tensor(mean).view(shape)) / pixels.new_tensor(std).view(shape)


def clip_similarity(stimulus_embeddings: np.ndarray, reconstruction_embeddings: np.ndarray) -> np.ndarray:
    """Cosine of the angle between the embeddings of each pair.

    Parameters
    ----------
    stimulus_embeddings, reconstruction_embeddings : arrays of shape (n, n_dimensions)

    Returns
    -------
    array of shape (n,)
        In [-1, 1]; unrelated photographs are often well above 0.
    """
    check_same_shape(stimulus_embeddings, reconstruction_embeddings)
    products = (stimulus_embeddings * reconstruction_embeddings).sum(axis=1)
    norms = np.linalg.norm(stimulus_embeddings, axis=1) * np.linalg.norm(reconstruction_embeddings, axis=1)
    return products / norms


def correlation_distance(stimulus_features: np.ndarray, reconstruction_features: np.ndarray) -> np.ndarray:
    """1 - Pearson's r of the features of each pair, as EfficientNet's and SwAV's are compared; lower is better.

    Parameters
    ----------
    stimulus_features, reconstruction_features : arrays of shape (n, n_dimensions)

    Returns
    -------
    array of shape (n,)
        In [0, 2]; 1 where one of a pair is constant.
    """
    check_same_shape(stimulus_features, reconstruction_features)
    a, b = (unit_rows(X.astype(np.float64)) for X in (stimulus_features, reconstruction_features))
    return 1 - (a * b).sum(axis=1)


def identification(similarity: np.ndarray, own: np.ndarray, n_way: int) -> np.ndarray:
    """Find each query's own candidate among `n_way`, of which `n_way - 1` are drawn from the others.

    The score is the exact probability, over all draws, that the own candidate is strictly the most similar: with k
    of the N - 1 others less similar, C(k, n_way - 1) / C(N - 1, n_way - 1). Chance is 1 / n_way. With n_way = 2 it is
    the field's two-way identification, with n_way = N top-1 retrieval from all. A tie is lost, so that candidates
    that are all alike are never found; similarities that differ by less than 1e-6 are a tie, because float32 does not
    tell them apart.

    Which side the queries are on makes two different tasks, whose names the field mixes up (MindEye's "image
    retrieval" finds the brain of an image). So say it: reconstructions as queries and stimuli as candidates is
    identification of the stimulus, stimuli as queries identification of the reconstruction. Transpose for the other.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_candidates)
    own : array of shape (n_queries,), int
        Column of each query's own candidate.
    n_way : int
        From 2 to n_candidates.

    Returns
    -------
    array of shape (n_queries,)
        In [0, 1].

    Raises
    ------
    ValueError
        There are fewer candidates than `n_way`, or `own` has another length.
    """
    n_queries, n_candidates = similarity.shape
    if not 2 <= n_way <= n_candidates or len(own) != n_queries:
        raise ValueError(
            f"{n_way}-way identification among {n_candidates} stimuli, with {len(own)} own rows for {n_queries} queries"
        )
    k = (similarity < similarity[np.arange(n_queries), own][:, None] - _TIE).sum(axis=1)
    # C(k, m) / C(N - 1, m) as a product of m fractions, which does not overflow.
    m = np.arange(n_way - 1)
    return np.prod(np.maximum(k[:, None] - m, 0) / (n_candidates - 1 - m), axis=1)
