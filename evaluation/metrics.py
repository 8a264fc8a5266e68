"""Scores of reconstructions against the stimuli that were seen: pairs of images, whatever made them.

Images are uint8 arrays of shape (n, height, width, 3); pair `i` is image `i` of both. Higher is better for all.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
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

    This is the two-dimensional index. Flat images score well, constant grey among them, so that a value says
    little without that of the mean image beside it.

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
    return _structural_similarity(stimuli, reconstructions, channel_axis=None)


def ssim_columns(stimuli: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """Mean of one-dimensional structural similarities, one for each column of the grey images.

    This is what the call that older papers share (`multichannel=True` on grey images) gives with scikit-image up to
    0.19, Brain-Diffuser's table among them. It is higher than `ssim` by about 0.1, and neither can be compared with
    the other. Parameters, result and errors are those of `ssim`.
    """
    return _structural_similarity(stimuli, reconstructions, channel_axis=-1)


def _structural_similarity(stimuli: np.ndarray, reconstructions: np.ndarray, channel_axis: int | None) -> np.ndarray:
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
            channel_axis=channel_axis,
        )
        scores[i] = index
    return scores


def psnr(stimuli: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each pair, in dB; infinite for equal images.

    Parameters
    ----------
    stimuli, reconstructions : arrays of shape (n, height, width, 3), uint8

    Returns
    -------
    array of shape (n,)

    Raises
    ------
    ValueError
        The two arrays differ in shape.
    """
    _check_same_shape(stimuli, reconstructions)
    with np.errstate(divide="ignore"):
        return np.array([peak_signal_noise_ratio(*pair) for pair in zip(stimuli, reconstructions, strict=True)])


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
    correlations = correlate(reconstruction_embeddings, all_stimulus_embeddings)  # (n, n_stimuli)
    return identification(correlations, own_rows, n_way=2)


def correlate(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Correlate every row of A with every row of B, over columns: (len(A), len(B)); a constant row has r = 0.

    Rounded to 12 digits, because the order of summation must not decide between rows that are equal.
    """
    return (_standardised(A) @ _standardised(B).T).round(12)


def identification(similarity: np.ndarray, own: np.ndarray, n_way: int) -> np.ndarray:
    """Find each query's own candidate among `n_way`, of which `n_way - 1` are drawn from the others.

    The score is the exact probability, over all draws, that the own candidate is strictly the most similar: with k
    of the N - 1 others less similar, C(k, n_way - 1) / C(N - 1, n_way - 1). Chance is 1 / n_way. With n_way = N it is
    top-1 retrieval from all.

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
    k = (similarity < similarity[np.arange(n_queries), own][:, None]).sum(axis=1)
    # C(k, m) / C(N - 1, m) as a product of m fractions, which does not overflow.
    m = np.arange(n_way - 1)
    return np.prod(np.maximum(k[:, None] - m, 0) / (n_candidates - 1 - m), axis=1)


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
