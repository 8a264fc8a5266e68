"""What conditions IC-GAN's generator, and the inversion that finds the vectors it makes a given picture from.

The method regresses three targets on voxels: an instance's features, and the noise and dense vectors from which the
generator makes the picture. How the latter were found was never published: `invert` is this project's own way.
"""

import torch
from torch.nn import functional

from baselines.ozcelik.generator import Generator
from minddiffuser.pretrained.icgan import InstanceEncoder
from minddiffuser.progress import progress

_FEATURE_WEIGHT, _PRIOR_WEIGHT = 0.5, 1e-3


def instance_features(encoder: InstanceEncoder, pictures: torch.Tensor) -> torch.Tensor:
    """Features of pictures, of length 1, differentiable in the pixels.

    Parameters
    ----------
    pictures : tensor of shape (n, 3, height, width)
        In [0, 1].

    Returns
    -------
    tensor of shape (n, n_features)
    """
    mean, std = (pictures.new_tensor(values)[:, None, None] for values in (encoder.mean, encoder.std))
    pixels = (pictures - mean) / std
    if pixels.shape[2:] != (encoder.size, encoder.size):
        pixels = functional.interpolate(pixels, (encoder.size, encoder.size), mode="bicubic", align_corners=True)
    return functional.normalize(encoder.forward(pixels), dim=1)


def invert(
    generator: Generator,
    encoder: InstanceEncoder,
    pictures: torch.Tensor,
    features: torch.Tensor,
    n_steps: int,
    learning_rate: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Find noise and dense vectors from which the generator, with a picture's own features, makes that picture.

    Adam, from the middle of the generator's own distribution of both vectors, lowers for each picture by itself

        mean |G - x| + 0.5 (1 - cos(f(G), f)) + 0.001 (mean u^2 + mean v^2)

    where u are the noise (without its first chunk, which dense stands for) and v the dense vector in units of what
    `Generator.dense` makes of normal noise. The last term keeps both where the generator was trained, and is what makes
    vectors of like pictures alike, so that they can be regressed on voxels.

    Parameters
    ----------
    generator : Generator
    encoder : InstanceEncoder
    pictures : tensor of shape (n, 3, size, size)
        In [0, 1], of the generator's size.
    features : tensor of shape (n, n_features)
        Of the pictures, of length 1.
    n_steps : int
    learning_rate : float
        Falls to 0 by a cosine.

    Returns
    -------
    noise : tensor of shape (n, n_noise)
        Its first chunk is 0.
    dense : tensor of shape (n, n_dense)
    error : tensor of shape (n,)
        Mean absolute difference of the pixels, of [0, 1].
    """
    n = len(pictures)
    middle = generator.dense(pictures.new_zeros(1, generator.n_noise)).detach()
    spread = generator.linear.normalised().detach().norm(dim=1)  # deviation of each number over normal noise
    u = torch.zeros(n, generator.n_noise - generator.n_chunk, device=pictures.device, requires_grad=True)
    v = torch.zeros(n, middle.shape[1], device=pictures.device, requires_grad=True)
    optimizer = torch.optim.Adam([u, v], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    target, error = pictures * 2 - 1, pictures.new_zeros(n)
    for _ in progress(range(n_steps), desc="inversion", leave=False):
        made = generator(_with_first_chunk(u, generator), features, middle + spread * v)
        error = (made - target).abs().mean(dim=(1, 2, 3))
        missed = 1 - (instance_features(encoder, made / 2 + 0.5) * features).sum(dim=1)
        prior = u.square().mean(dim=1) + v.square().mean(dim=1)
        optimizer.zero_grad()
        (error + _FEATURE_WEIGHT * missed + _PRIOR_WEIGHT * prior).sum().backward()
        optimizer.step()
        schedule.step()
    return _with_first_chunk(u, generator).detach(), (middle + spread * v).detach(), error.detach() / 2


def _with_first_chunk(u: torch.Tensor, generator: Generator) -> torch.Tensor:
    return functional.pad(u, (generator.n_chunk, 0))
