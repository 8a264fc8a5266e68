"""Scores of reconstructions against the stimuli that were seen: pairs of images, whatever made them.

Images are arrays of shape (n, height, width, 3), uint8 or float in [0, 1]; pair `i` is image `i` of both. Higher is
better, but for distances. Pairs are scored side by side, one thread each.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import correlate1d
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from threadpoolctl import threadpool_limits
from torch.nn.functional import interpolate

from minddiffuser import correlation
from minddiffuser.pretrained.clip import Clip

_TIE = 1e-6  # similarities that differ by less are equal: features of equal pictures differ in float32's last digits
_GAUSSIAN = np.exp(-((np.arange(-5, 6) / 1.5) ** 2) / 2)  # the window of SSIM, sigma 1.5, 11 pixels
_MOST_PSNR = 100.0


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

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(lambda image: resize_one(image, size), images)))


def resize_one(image: np.ndarray, size: int) -> np.ndarray:
    """`resize` of one image."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


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
    return by_pair(pixcorr_of_pair, stimuli, reconstructions)


def pixcorr_of_pair(a: np.ndarray, b: np.ndarray) -> float:
    """`pixcorr` of one pair."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    x -= x.mean()
    y -= y.mean()
    variances = (x @ x) * (y @ y)  # by BLAS, at a sixth of the time that `correlate_pairs` takes for a picture
    # A constant image that was resized in float32 is not quite constant, and its mean not exact.
    is_constant = any(np.ptp(image) <= 1e-5 * np.abs(image).max() for image in (a, b))
    return 0.0 if is_constant else (x @ y) / np.sqrt(variances)


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
    _check_same_shape(stimuli, reconstructions)
    return by_pair(ssim_of_pair, stimuli, reconstructions)


def ssim_of_pair(a: np.ndarray, b: np.ndarray) -> float:
    """`ssim` of one pair."""
    options: Any = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    return structural_similarity(rgb2gray(a), rgb2gray(b), **options)  # type: ignore[return-value]


def ssim_columns(stimuli: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """Mean of one-dimensional structural similarities, one for each column of the grey images.

    This is what the call that older papers share (`multichannel=True` on grey images) gives with scikit-image up to
    0.19, Brain-Diffuser's table among them: `structural_similarity(..., channel_axis=-1)` today, of which this is the
    same number, ten times faster. It is higher than `ssim` by about 0.1, and neither can be compared with the other.
    Parameters, result and errors are those of `ssim`.
    """
    _check_same_shape(stimuli, reconstructions)
    return by_pair(ssim_columns_of_pair, stimuli, reconstructions)


def ssim_columns_of_pair(a: np.ndarray, b: np.ndarray) -> float:
    """`ssim_columns` of one pair."""
    x, y = rgb2gray(a), rgb2gray(b)

    def local_mean(values: np.ndarray) -> np.ndarray:
        """Weighted mean along each column, where the window does not touch the border."""
        return correlate1d(values, _GAUSSIAN / _GAUSSIAN.sum(), axis=0)[5:-5]

    mean_x, mean_y = local_mean(x), local_mean(y)
    variances = local_mean(x * x) - mean_x**2 + local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    return (luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)).mean()


def psnr(stimuli: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each pair, in dB; at most 100, which is what equal images get.

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

    def capped(a: np.ndarray, b: np.ndarray) -> float:
        with np.errstate(divide="ignore"):  # here: threads do not inherit it
            return min(peak_signal_noise_ratio(a, b), _MOST_PSNR)

    _check_same_shape(stimuli, reconstructions)
    return by_pair(capped, stimuli, reconstructions)


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
        pixels = interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)
        embedding = clip.model.encode_image(normalise(pixels, clip.mean, clip.std))
        embeddings.append(embedding.double().cpu().numpy())
    return np.concatenate(embeddings)


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

    Raises
    ------
    ValueError
        The two arrays differ in shape.
    """
    _check_same_shape(stimulus_embeddings, reconstruction_embeddings)
    products = (stimulus_embeddings * reconstruction_embeddings).sum(axis=1)
    norms = np.linalg.norm(stimulus_embeddings, axis=1) * np.linalg.norm(reconstruction_embeddings, axis=1)
    return products / norms


@torch.no_grad()
def lpips(
    network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    stimuli: np.ndarray,
    reconstructions: np.ndarray,
    device: torch.device,
    batch_size: int,
) -> np.ndarray:
    """Learned perceptual distance of each pair (Zhang et al. 2018, arXiv 1801.03924); lower is better.

    Parameters
    ----------
    network : callable
        `minddiffuser.pretrained.scoring.open_lpips`, on `device`.
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
    distances = []
    for start in range(0, len(stimuli), batch_size):
        here = slice(start, start + batch_size)
        pair = (torch.from_numpy(images[here]).to(device).permute(0, 3, 1, 2) for images in (stimuli, reconstructions))
        distances.append(network(*(pixels.float() / 255 for pixels in pair)).double().cpu().numpy())
    return np.concatenate(distances)


def correlation_distance(stimulus_features: np.ndarray, reconstruction_features: np.ndarray) -> np.ndarray:
    """1 - Pearson's r of the features of each pair, as EfficientNet's and SwAV's are compared; lower is better.

    Parameters
    ----------
    stimulus_features, reconstruction_features : arrays of shape (n, n_dimensions)

    Returns
    -------
    array of shape (n,)
        In [0, 2]; 1 where one of a pair is constant.

    Raises
    ------
    ValueError
        The two arrays differ in shape.
    """
    _check_same_shape(stimulus_features, reconstruction_features)
    a, b = (correlation.unit_rows(X.astype(np.float64)) for X in (stimulus_features, reconstruction_features))
    return 1 - (a * b).sum(axis=1)


def correlate(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Correlate every row of A with every row of B, over columns: (len(A), len(B)); a constant row has r = 0.

    Computed in float64, some columns at a time, so that long features in float32 need no copy in float64.
    """
    return correlation.correlate(A, B)


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


def by_pair(function: Callable[..., float | tuple], stimuli: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """Apply a function to each pair of images, in threads: (n,), or (n, k) where it returns k numbers.

    Each thread works alone: those that BLAS and torch would add spin on the same cores, at five times the cost.
    """
    n_threads = torch.get_num_threads()
    try:
        with (
            threadpool_limits(1, "blas"),
            ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ):
            return np.array(list(pool.map(function, stimuli, reconstructions)), dtype=np.float64)
    finally:
        torch.set_num_threads(n_threads)


def _check_same_shape(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise ValueError(f"stimuli have shape {a.shape}, but reconstructions {b.shape}")
