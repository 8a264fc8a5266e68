"""Stage 1: the image-to-image pass of Stable Diffusion, differentiable in z and c (paper, figure 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from feature_extraction.latents import decode
from feature_extraction.text import embed_captions
from minddiffuser.config import Config
from minddiffuser.config.method import Precision, Sampler
from minddiffuser.precision import autocast, products
from minddiffuser.pretrained.stable_diffusion import open_scheduler, open_text_encoder, open_unet, open_vae
from minddiffuser.seeds import torch_generator

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel


class ImageToImage:
    """Noise latents to one level of the schedule, denoise them from another, and decode them.

    The two levels are set apart because the original does: it noises to index 37 (timestep 741) and runs the last
    35 of 50 steps (timesteps 681, 661, ..., 1), so that the model takes the latents to be less noisy than they are.
    With `denoise_steps = noise_index + 1` they agree, and the pass is diffusers' own image-to-image pipeline.

    Parameters
    ----------
    unconditional : tensor of shape (1, n_tokens, width)
        Embedding of the empty caption, of the same length as c.
    checkpoint_steps : bool
        Recompute each denoising step, and the parts of the autoencoder, in the backward pass, so that the memory of
        gradients does not grow with the number of steps, for about a third more time.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        scheduler: DDIMScheduler,
        unconditional: torch.Tensor,
        settings: Sampler,
        checkpoint_steps: bool,
    ) -> None:
        self.unet, self.vae, self.scheduler = unet, vae, scheduler
        self.unconditional, self.checkpoint_steps = unconditional, checkpoint_steps
        self.guidance_scale = settings.guidance_scale
        self.precision: Precision = settings.precision
        scheduler.set_timesteps(settings.n_steps)
        self.noise_timestep = scheduler.timesteps[settings.n_steps - 1 - settings.noise_index]
        self.timesteps = scheduler.timesteps[settings.n_steps - settings.denoise_steps :]

    def __call__(self, z: torch.Tensor, c: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Sample pictures.

        Parameters
        ----------
        z : tensor of shape (n, 4, height, width)
            Latents, times the model's scaling factor.
        c : tensor of shape (n, n_tokens, width)
            Text embeddings.
        noise : tensor of the shape of z

        Returns
        -------
        tensor of shape (n, 3, 8 * height, 8 * width)
            In [0, 1].
        """
        return self.draw(self.denoise(z, c, noise))

    def denoise(self, z: torch.Tensor, c: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Noise and denoise latents: from z to the sampler's final latents, of the shape of z."""
        with products(self.precision):
            x: torch.Tensor = self.scheduler.add_noise(z, noise, self.noise_timestep.expand(len(z)))  # type: ignore[arg-type]
            both = torch.cat([self.unconditional.expand_as(c), c])
            for t in self.timesteps:
                if self.checkpoint_steps and torch.is_grad_enabled():
                    x = checkpoint(self._step, x, both, t, use_reentrant=False, preserve_rng_state=False)  # type: ignore[assignment]
                else:
                    x = self._step(x, both, t)
            return x

    def draw(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode final latents to pictures (n, 3, 8 * height, 8 * width) in [0, 1]."""
        with products(self.precision), autocast(self.precision, self.unet.device):
            return decode(self.vae, latents).to(latents.dtype)

    def _step(self, x: torch.Tensor, both: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """One guided DDIM step; x stays float32."""
        return guided_step(self.unet, self.scheduler, x, both, t, self.guidance_scale, self.precision)


def guided_step(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    x: torch.Tensor,
    both: torch.Tensor,
    t: torch.Tensor,
    scale: float,
    precision: Precision,
) -> torch.Tensor:
    """One DDIM step (eta 0) with classifier-free guidance, e_u + scale (e_c - e_u), both passes in one batch.

    Parameters
    ----------
    unet : UNet2DConditionModel
    scheduler : DDIMScheduler
        With its timesteps set.
    x : tensor of shape (n, 4, height, width)
        Keeps its type, whatever the precision.
    both : tensor of shape (2 * n, n_tokens, width)
        Embeddings that guidance leads away from, then those that it leads to.
    t : tensor
        Timestep of x.
    scale : float
    precision : "float32", "tf32" or "float16"
        Of the U-Net.

    Returns
    -------
    tensor of the shape of x
        At the next lower timestep.
    """
    with autocast(precision, x.device):
        e_unconditional, e_text = unet(torch.cat([x, x]), t, both).sample.to(x.dtype).chunk(2)
    e = e_unconditional + scale * (e_text - e_unconditional)
    return scheduler.step(e, t, x, eta=0.0).prev_sample  # type: ignore[arg-type, union-attr]


def open_sampler(
    config: Config, device: torch.device, settings: Sampler | None = None, n_tokens: int | None = None
) -> ImageToImage:
    """Open Stable Diffusion as the configuration says, or for other settings and another number of tokens of c."""
    experiment = config.experiment
    source = (experiment.models.stable_diffusion, experiment.models.stable_diffusion_revision)
    tokenizer, text_encoder = open_text_encoder(*source, device)
    unet, vae = open_unet(*source, device), open_vae(*source, device)
    if config.execution.compile:
        unet.compile()
    if config.execution.checkpoint_steps:
        vae.enable_gradient_checkpointing()
    return ImageToImage(
        unet=unet,
        vae=vae,
        scheduler=open_scheduler(*source),
        unconditional=embed_captions([""], tokenizer, text_encoder, n_tokens or experiment.semantic.max_length),
        settings=settings or experiment.sampler,
        checkpoint_steps=config.execution.checkpoint_steps,
    )


def draw_noise(
    shape: Any, seed: int, stimulus_ids: Any, device: torch.device, kind: str = "fresh", iteration: int = 0
) -> torch.Tensor:
    """Noise of an iteration for some images, each from its own generator.

    Parameters
    ----------
    shape : of one image's latents
    stimulus_ids : sequence of n int
    kind : "fresh" or "fixed"
        New noise in each iteration, or that of iteration 0, which is stage 1's, in all.
    iteration : int

    Returns
    -------
    tensor of shape (n, *shape)
    """
    iteration = iteration if kind == "fresh" else 0
    draws = [torch.randn(shape, generator=torch_generator(seed, int(i), "noise", iteration)) for i in stimulus_ids]
    return torch.stack(draws).to(device)
