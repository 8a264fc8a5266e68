"""From decoded latents to those that the sampler starts from, by way of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from feature_extraction.latents import decode, encode, to_model_range
from reconstruction.folder import to_uint8

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


def encode_again(
    vae: AutoencoderKL,
    z: torch.Tensor,
    size: int,
    encoded_range: str,
    draws: Sequence[torch.Generator] | None = None,
) -> torch.Tensor:
    """Decode latents to pictures, enlarge these, and encode them.

    Parameters
    ----------
    z : tensor of shape (n, 4, height, width)
        Times the model's factor.
    size : int
        Pixels of the enlarged pictures.
    encoded_range : "model" or "unit"
        What the pictures are scaled to before they are encoded: [-1, 1], as the autoencoder was trained, or [0, 1], as
        in the variant bundled with MindDiffuser, which neither rounds nor enlarges: all it encodes looks washed out.
    draws : sequence of n generators, optional
        With them the posterior is sampled, else its mean is taken.

    Returns
    -------
    tensor of shape (n, 4, size / 8, size / 8)
    """
    pictures = decode(vae, z)
    if encoded_range == "model":
        pictures = to_model_range(to_uint8(pictures), size).to(z.device)
    shape = (4, pictures.shape[2] // 8, pictures.shape[3] // 8)
    noise = None
    if draws is not None:
        noise = torch.stack([torch.randn(shape, generator=draw) for draw in draws]).to(z.device)
    return encode(vae, pictures, noise)
