"""The detail target z: Stable Diffusion's latents, which the paper calls VQ-VAE's (figure 2); in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


def to_model_range(
    images: np.ndarray, size: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> torch.Tensor:
    """Resize uint8 images (n, height, width, 3) and scale them to [-1, 1]: (n, 3, size, size)."""
    if images.shape[1:3] != (size, size):
        resized = [Image.fromarray(i).resize((size, size), resample) for i in images]
        images = np.stack([np.asarray(i) for i in resized])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def encode(vae: AutoencoderKL, pixels: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
    """Latents of pictures in [-1, 1], scaled by the model's factor (0.18215 for Stable Diffusion v1).

    Parameters
    ----------
    pixels : tensor of shape (n, 3, size, size)
    noise : tensor of shape (n, 4, size / 8, size / 8), optional
        With it the posterior is sampled, mean + deviation * noise, as released; without it the mean is taken.

    Returns
    -------
    tensor of shape (n, 4, size / 8, size / 8)
    """
    encoded: Any = vae.encode(pixels)
    posterior, config = encoded.latent_dist, _config(vae)
    latents = posterior.mean if noise is None else posterior.mean + posterior.std * noise
    return latents * config.scaling_factor


def encode_both(vae: AutoencoderKL, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Latents as `encode` gives them without noise, and with it, in one pass: (2, n, 4, size / 8, size / 8)."""
    encoded: Any = vae.encode(pixels)
    posterior, config = encoded.latent_dist, _config(vae)
    return torch.stack([posterior.mean, posterior.mean + posterior.std * noise]) * config.scaling_factor


def decode(vae: AutoencoderKL, z: torch.Tensor) -> torch.Tensor:
    """Pictures in [0, 1] of latents, differentiable in them: (n, 3, size, size)."""
    decoded: Any = vae.decode(z / _config(vae).scaling_factor)
    return ((decoded.sample + 1) / 2).clamp(0, 1)


def _config(vae: AutoencoderKL) -> Any:
    return vae.config
