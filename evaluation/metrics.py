"""Scores of reconstructions against the stimuli that were seen: pairs of images, whatever made them.

Images are uint8 arrays of shape (n, height, width, 3); pair `i` is image `i` of both. Higher is better for all.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from minddiffuser.pretrained import Clip

METRICS = ("pixcorr", "ssim", "clip_similarity", "clip_two_way")


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resize to `size` x `size` pixels with PIL's bicubic filter; images of that size already are returned as is.

    Parameters
    ----------
    images : array of shape (n, height, width, 3), uint8
    size : int
        Pixels.

    Returns
    -------
    array of shape (n, size, size, 3), uint8
    """
    if images.shape[1:3] == (size, size):
        return images
    resized = np.empty((len(images), size, size, 3), np.uint8)
    for i, image in enumerate(images):
        resized[i] = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    return resized


def pixcorr(stimuli: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """Correlate the pixels of each pair: Pearson's r over the flattened RGB values.

    A constant image correlates with nothing: the score is 0.0, not NaN, so that a method cannot leave images out
    of its mean by failing on them.

    Parameters
    ----------
    stimuli, reconstructions : arrays of shape (n, height, width, 3), uint8

    Returns
    -------
    array of shape (n,)
        In [-1, 1].

    Raises
    ------
    ValueError
        The two arrays differ in shape.
    """
    _check_same_shape(stimuli, reconstructions)
    scores = np.zeros(len(stimuli))
    for i, pair in enumerate(zip(stimuli, reconstructions, strict=True)):
        a, b = (_standardised(image.reshape(1, -1)) for image in pair)
        scores[i] = (a * b).sum()
    return scores


def ssim(stimuli: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004) of the grey images, with a Gaussian window of sigma 1.5 pixels.

    This is the two-dimensional index. The call that older papers share (`multichannel=True` on grey images) makes
    scikit-image up to 0.18 take the image's columns for channels, which averages one-dimensional indices and gives
    values higher by about 0.1: they cannot be compared with these. Flat images score well, constant grey among
    them, so that a value says little without that of the mean image beside it.

    Parameters
    ----------
    stimuli, reconstructions : arrays of shape (n, height, width, 3), uint8
        At least 11 pixels wide and high.

    Returns
    -------
    array of shape (n,)
        In [-1, 1].

    Raises
    ------
    ValueError
        The two arrays differ in shape.
    """
    _check_same_shape(stimuli, reconstructions)
    scores = np.zeros(len(stimuli))
    for i, (stimulus, reconstruction) in enumerate(zip(stimuli, reconstructions, strict=True)):
        index: Any = structural_similarity(
            rgb2gray(stimulus),
            rgb2gray(reconstruction),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        scores[i] = index
    return scores


@torch.no_grad()
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
    visual: Any = clip.model.visual
    size = [visual.image_size] * 2 if isinstance(visual.image_size, int) else list(visual.image_size)
    embeddings = []
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(images[start : start + batch_size]).to(device)
        pixels = batch.permute(0, 3, 1, 2).float() / 255  # (batch, 3, height, width)
        pixels = transforms.resize(pixels, size, InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
        embedding = clip.model.encode_image(transforms.normalize(pixels, list(clip.mean), list(clip.std)))
        embeddings.append(embedding.double().cpu().numpy())
    return np.concatenate(embeddings)


def clip_similarity(stimulus_embeddings: np.ndarray, reconstruction_embeddings: np.ndarray) -> np.ndarray:
    """Cosine of the angle between the embeddings of each pair.

    Parameters
    ----------
    stimulus_embeddings, reconstruction_embeddings : arrays of shape (n, n_dimensions)

    Returns
    -------
    array of shape (n,)
        In [-1, 1]; unrelated photographs are often well above 0.

    Raises
    ------
    ValueError
        The two arrays differ in shape.
    """
    _check_same_shape(stimulus_embeddings, reconstruction_embeddings)
    products = (stimulus_embeddings * reconstruction_embeddings).sum(axis=1)
    norms = np.linalg.norm(stimulus_embeddings, axis=1) * np.linalg.norm(reconstruction_embeddings, axis=1)
    return products / norms


def two_way_identification(
    all_stimulus_embeddings: np.ndarray, reconstruction_embeddings: np.ndarray, own_rows: np.ndarray
) -> np.ndarray:
    """Tell by its reconstruction the stimulus that was seen from each of the others.

    The score of reconstruction `j` is the share of the other stimuli `i` with
    `corr(stimulus_i, reconstruction_j) < corr(stimulus_own, reconstruction_j)`, where `corr` is Pearson's r over
    the dimensions of the embedding. The inequality is strict: a tie is lost, and so a constant embedding scores 0.
    Every test stimulus is a distractor, also when only some were reconstructed, so that systems which
    reconstructed different numbers of images face the same task. Chance is 0.5.

    Parameters
    ----------
    all_stimulus_embeddings : array of shape (n_stimuli, n_dimensions)
        All test stimuli, two at least.
    reconstruction_embeddings : array of shape (n, n_dimensions)
    own_rows : array of shape (n,), int
        Row of `all_stimulus_embeddings` that each reconstruction is of.

    Returns
    -------
    array of shape (n,)
        In [0, 1].
    """
    n_stimuli, n = len(all_stimulus_embeddings), len(reconstruction_embeddings)
    if n_stimuli < 2 or len(own_rows) != n:
        raise ValueError(f"{n_stimuli} stimuli and {len(own_rows)} rows for {n} reconstructions")
    correlations = _standardised(all_stimulus_embeddings) @ _standardised(reconstruction_embeddings).T
    # Rounded, because the order of summation must not decide between stimuli with equal embeddings.
    correlations = correlations.round(12)  # (n_stimuli, n)
    own = correlations[own_rows, np.arange(n)]
    return (correlations < own).sum(axis=0) / (n_stimuli - 1)


def _standardised(X: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and length 1, whose products are correlations; a constant row becomes 0."""
    X = X.astype(np.float64)
    centred = X - X.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    is_constant = length <= 1e-12 * np.linalg.norm(X, axis=1, keepdims=True)
    return np.where(is_constant, 0.0, centred / np.where(is_constant, 1.0, length))


def _check_same_shape(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise ValueError(f"stimuli have shape {a.shape}, but reconstructions {b.shape}")
