"""From decoded latents of frames and tokens of a caption to a film: Mind-Animator's use of Stable Diffusion.

    x_T = invert(z)                            DDIM backwards, with the empty caption
    x_T = sqrt(a_200) x_T + sqrt(1 - a_200) n    noised again; .86815 and .49629 for Stable Diffusion
    z'  = denoise(x_T)                         all DDIM steps, guided from a negative prompt to the decoded tokens

With `start: latents` z itself is noised, to the level of the step that is nearest, and the steps from there on are run:
image to image, as in stage 1.

Reference: Lu et al. 2025 (arXiv 2405.03280), section 3; the authors' video_recons.py and Inflated_SD_pipeline.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from baselines.mind_animator import recipes
from baselines.mind_animator.inflation import inflate
from feature_extraction.latents import decode
from feature_extraction.text import embed_captions
from minddiffuser.config import Config
from minddiffuser.config.mind_animator import Video
from minddiffuser.precision import autocast, products
from minddiffuser.pretrained.stable_diffusion import open_scheduler, open_text_encoder, open_unet, open_vae
from reconstruction.sampler import draw_noise, guided_step

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel


class VideoSampler:
    """Makes films from latents of their frames.

    Parameters
    ----------
    unet : UNet2DConditionModel
        Inflated (`inflation.inflate`).
    empty : tensor of shape (1, n, width)
        Embedding of the empty caption, of any length, for the inversion.
    negative : tensor of shape (1, n_tokens, width)
        Embedding of the negative prompt, of the length of c.
    n_pictures : int
        Frames that the autoencoder decodes at a time.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        scheduler: DDIMScheduler,
        empty: torch.Tensor,
        negative: torch.Tensor,
        settings: Video,
        n_pictures: int,
    ) -> None:
        self.unet, self.vae, self.scheduler = unet, vae, scheduler
        self.empty, self.negative, self.settings, self.n_pictures = empty, negative, settings, n_pictures
        scheduler.set_timesteps(settings.n_steps)

    def __call__(self, z: torch.Tensor, c: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Sample films.

        Parameters
        ----------
        z : tensor of shape (n_clips, n_frames, 4, height, width)
            Latents of frames, times the model's scaling factor.
        c : tensor of shape (n_clips, n_tokens, width)
            Text embeddings, begin of text included.
        noise : tensor of the shape of z
            Of the frames; see `draw_video_noise`.

        Returns
        -------
        tensor of shape (n_clips, n_frames, 3, 8 * height, 8 * width)
            In [0, 1].
        """
        return draw(self.vae, self.denoise(z, c, noise), self.n_pictures, self.settings)

    @torch.no_grad()
    def denoise(self, z: torch.Tensor, c: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Noise latents and denoise them: from z to the sampler's final latents, of the shape of z."""
        own, timesteps, level = self.settings, self.scheduler.timesteps, torch.tensor(self.settings.renoise)
        if own.start == "latents":
            x, level = z, timesteps[(timesteps - own.renoise).abs().argmin()]
            timesteps = timesteps[timesteps <= level]
        else:
            x = self.invert(z)
        x = self.scheduler.add_noise(x, noise, level.expand(len(z))).flatten(0, 1)  # type: ignore[arg-type]
        both = torch.cat([self.negative.expand_as(c), c]).repeat_interleave(z.shape[1], dim=0)
        with products(own.precision):
            for t in timesteps:
                x = guided_step(self.unet, self.scheduler, x, both, t, own.guidance_scale, own.precision)
        return x.reshape(z.shape)

    @torch.no_grad()
    def invert(self, z: torch.Tensor) -> torch.Tensor:
        """Run DDIM backwards, without guidance: from z to latents of the highest timestep, of the shape of z.

        The noise at each timestep is predicted from the latents of the one before, as by diffusers'
        `DDIMInverseScheduler`: so going back does not quite return to z.
        """
        x = z.flatten(0, 1)  # (n_clips * n_frames, 4, height, width)
        empty = self.empty.expand(len(x), -1, -1)
        alphas, alpha = self.scheduler.alphas_cumprod, self.scheduler.final_alpha_cumprod
        with products(self.settings.precision):
            for t in self.scheduler.timesteps.flip(0):
                with autocast(self.settings.precision, x.device):
                    e = self.unet(x, t, empty).sample.to(x.dtype)
                clean = (x - (1 - alpha) ** 0.5 * e) / alpha**0.5
                alpha = alphas[t]
                x = alpha**0.5 * clean + (1 - alpha) ** 0.5 * e
        return x.reshape(z.shape)


@torch.no_grad()
def draw(vae: AutoencoderKL, latents: torch.Tensor, n_pictures: int, settings: Video) -> torch.Tensor:
    """Decode latents (n_clips, n_frames, 4, height, width) to films (n_clips, n_frames, 3, ...) in [0, 1].

    `n_pictures` frames at a time, for memory; frames that are the same are decoded once.
    """
    frames, numbers = latents.flatten(0, 1).unique(dim=0, return_inverse=True)
    with products(settings.precision), autocast(settings.precision, latents.device):
        pictures = [decode(vae, part).to(latents.dtype) for part in frames.split(n_pictures)]
    return torch.cat(pictures)[numbers].unflatten(0, latents.shape[:2])


def draw_video_noise(
    shape: torch.Size, kind: str, seed: int, stimulus_ids: np.ndarray, device: torch.device
) -> torch.Tensor:
    """Noise for some clips, each from its own generator.

    Parameters
    ----------
    shape : (n_frames, 4, height, width)
        Of one clip's latents.
    kind : "shared" or "per_frame"
        One draw for all frames of a clip, or one for each: then frames that do not differ become frames that do.
    seed : int
    stimulus_ids : array of shape (n_clips,)

    Returns
    -------
    tensor of shape (n_clips, *shape)
    """
    if kind == "per_frame":
        return draw_noise(shape, seed, stimulus_ids, device)
    return draw_noise(shape[1:], seed, stimulus_ids, device)[:, None].expand(-1, shape[0], -1, -1, -1)


def clips_at_once(config: Config) -> int:
    """How many clips go through the U-Net at a time: `execution.batch_size.generate` pictures, or one clip."""
    return max(config.execution.batch_size.generate // recipes.settings_of(config).clips.n_frames, 1)


def open_video_sampler(
    config: Config, device: torch.device, settings: Video, n_frames: int, n_tokens: int
) -> VideoSampler:
    """Open Stable Diffusion for films of `n_frames` and a c of `n_tokens`."""
    experiment, execution = config.experiment, config.execution
    source = (experiment.models.stable_diffusion, experiment.models.stable_diffusion_revision)
    tokenizer, text_encoder = open_text_encoder(*source, device)
    n_empty = tokenizer.model_max_length if settings.inversion_length == "encoder" else n_tokens
    unet: Any = open_unet(*source, device)
    inflate(unet, n_frames, settings, experiment.seed)
    if execution.compile:
        unet.compile()
    return VideoSampler(
        unet=unet,
        vae=open_vae(*source, device),
        scheduler=open_scheduler(*source),
        empty=embed_captions([""], tokenizer, text_encoder, n_empty),
        negative=embed_captions([settings.negative_prompt], tokenizer, text_encoder, n_tokens),
        settings=settings,
        n_pictures=execution.batch_size.generate,
    )
