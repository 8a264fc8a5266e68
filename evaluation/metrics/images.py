"""Scores of reconstructions against the stimuli that were seen: pairs of images, whatever made them.

Images are arrays of shape (n, height, width, 3), uint8 or float in [0, 1]; pair `i` is image `i` of both, and scores
have shape (n,). Higher is better, but for distances. Pairs are scored side by side, one thread each. Two arrays of
another shape are a ValueError.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import correlate1d
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from threadpoolctl import threadpool_limits

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
    array of shape (n,), in [-1, 1]
    """
    check_same_shape(stimuli, reconstructions)
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
    array of shape (n,), in [-1, 1]
    """
    check_same_shape(stimuli, reconstructions)
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
    Parameters and result are those of `ssim`.
    """
    check_same_shape(stimuli, reconstructions)
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
    """Peak signal-to-noise ratio of each pair of uint8 images, in dB: (n,); at most 100, which equal images get."""

    def capped(a: np.ndarray, b: np.ndarray) -> float:
        with np.errstate(divide="ignore"):  # here: threads do not inherit it
            return min(peak_signal_noise_ratio(a, b), _MOST_PSNR)

    check_same_shape(stimuli, reconstructions)
    return by_pair(capped, stimuli, reconstructions)


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
        `minddiffuser.pretrained.open_lpips`, on `device`.
    stimuli, reconstructions : arrays of shape (n, height, width, 3), uint8

    Returns
    -------
    array of shape (n,)
    """
    check_same_shape(stimuli, reconstructions)
    distances = []
    for start in range(0, len(stimuli), batch_size):
        here = slice(start, start + batch_size)
        pair = (torch.from_numpy(images[here]).to(device).permute(0, 3, 1, 2) for images in (stimuli, reconstructions))
        distances.append(network(*(pixels.float() / 255 for pixels in pair)).double().cpu().numpy())
    return np.concatenate(distances)


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


def check_same_shape(a: np.ndarray, b: np.ndarray) -> None:
    """Raise a ValueError where the two halves of pairs differ in shape."""
    if a.shape != b.shape:
        raise ValueError(f"stimuli have shape {a.shape}, but reconstructions {b.shape}")
