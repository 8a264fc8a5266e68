"""Stage 1: the image-to-image pass of Stable Diffusion, differentiable in z and c (paper, figure 2)."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from feature_extraction.latents import decode
from feature_extraction.text import embed_captions
from minddiffuser.config import Config
from minddiffuser.config.method import Precision, Sampler
from minddiffuser.precision import autocast, products
from minddiffuser.pretrained.stable_diffusion import open_scheduler, open_text_encoder, open_unet, open_vae
from minddiffuser.seeds import torch_generator

if TYPE_CHECKING:
    from collections.abc import Callable

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
        self.solver = settings.solver
        if settings.solver_steps:  # as evenly as they can be
            places = torch.arange(settings.solver_steps) * settings.denoise_steps // settings.solver_steps
            self.timesteps = self.timesteps[places]
        self._alphas = scheduler.alphas_cumprod.tolist()

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

    def denoise(
        self, z: torch.Tensor, c: torch.Tensor, noise: torch.Tensor, gradient_steps: int | None = None
    ) -> torch.Tensor:
        """Noise and denoise latents: from z to the sampler's final latents, of the shape of z.

        With `gradient_steps` K, gradients pass the U-Net in the last K steps only, and in those before its estimate e
        is held fixed: of x' = a x + b e only a reaches z. This is truncated backpropagation through the sampler
        (DRaFT-K, Clark et al. 2024, arXiv 2309.17400, section 4), in which z, which is not a weight, keeps a gradient.
        """
        with products(self.precision):
            x, clean = self.noised(z, noise), None
            both = torch.cat([self.unconditional.expand_as(c), c])
            n_held = 0 if gradient_steps is None else len(self.timesteps) - gradient_steps
            for k in range(len(self.timesteps)):
                if self.checkpoint_steps and torch.is_grad_enabled() and k >= n_held:
                    x, clean = _Recomputed.apply(partial(self._step, k), x, both, clean)
                else:
                    x, clean = self._step(k, x, both, clean, held=k < n_held)
            return x

    def draw(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode final latents to pictures (n, 3, 8 * height, 8 * width) in [0, 1]."""
        with products(self.precision), autocast(self.precision, self.unet.device):
            return decode(self.vae, latents).to(latents.dtype)

    def noised(self, z: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Noise latents to the level at which the pass begins."""
        level = self.noise_timestep.expand(len(z)).to(z.device, non_blocking=True)
        return self.scheduler.add_noise(z, noise, level)  # type: ignore[arg-type]

    def noised_again(self, k: int, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Noise what step k made of latents back to where the step began."""
        before, after = self._alpha(k), self._alpha(k + 1)
        return math.sqrt(before / after) * x + math.sqrt(1 - before / after) * noise

    def estimate(self, k: int, x: torch.Tensor, both: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise in x at step k, with classifier-free guidance, and the part of it that is guidance by c."""
        return guided_noise(self.unet, x, both, self.timesteps[k], self.guidance_scale, self.precision)

    def clean(self, k: int, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """Give the clean latents that x at step k amounts to, if e is its noise."""
        a, s, _ = _scales(self._alpha(k))
        return (x - s * e) / a

    def advance(
        self, k: int, x: torch.Tensor, e: torch.Tensor, last: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Take step k, of DDIM (eta 0) or of DPM-Solver++ (2M).

        With a, s the square roots of the schedule's alpha and of 1 - alpha, l = log(a / s), h_k = l_(k+1) - l_k, and
        p_k = (x - s_k e) / a_k the clean latents as predicted at step k, DPM-Solver++ takes

            x' = s_(k+1) / s_k x - a_(k+1) (exp(-h_k) - 1) (p_k + h_k / (2 h_(k-1)) (p_k - p_(k-1)))

        and in the first and the last step p_k alone, which is DDIM's step. The steps end where DDIM's do.

        Reference: Lu et al. 2022 (arXiv 2211.01095), algorithm 2.

        Parameters
        ----------
        x : tensor of shape (n, 4, height, width)
        e : tensor of the shape of x
            The estimate of the noise in it.
        last : tensor of the shape of x, optional
            p_(k-1): what this gave in the step before.

        Returns
        -------
        x' and p_k : tensors of the shape of x
        """
        if self.solver == "ddim":
            step: Any = self.scheduler.step(e, self.timesteps[k], x, eta=0.0)  # type: ignore[arg-type]
            return step.prev_sample, step.pred_original_sample
        (_, s, level), (a_next, s_next, level_next) = (_scales(self._alpha(j)) for j in (k, k + 1))
        clean = self.clean(k, x, e)
        slope = torch.zeros_like(clean)
        if last is not None and k < len(self.timesteps) - 1:
            slope = (clean - last) * ((level_next - level) / (level - _scales(self._alpha(k - 1))[2]) / 2)
        return s_next / s * x - a_next * math.expm1(level - level_next) * (clean + slope), clean

    def _alpha(self, k: int) -> float:
        """Give the schedule's cumulated alpha at step k, and at last where the sampler ends."""
        ends = k == len(self.timesteps)
        return float(self.scheduler.final_alpha_cumprod if ends else self._alphas[int(self.timesteps[k])])

    def _step(
        self, k: int, x: torch.Tensor, both: torch.Tensor, last: torch.Tensor | None, held: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One guided step; x stays float32, and gradients do not pass a U-Net that is held."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not held):
            e, _ = self.estimate(k, x, both)
        return self.advance(k, x, e, last)


class _Recomputed(torch.autograd.Function):
    """Call a function of tensors, keep its inputs alone, and call it again in the backward pass.

    Gradients reach those inputs, and no weight. torch's checkpoints do the same with a call of Python for each tensor
    that the function saves, which takes 6 % of an iteration's time on a CPU (benchmarks/stage2.py). Its reentrant ones,
    which make no such calls, refuse a backward pass to chosen tensors.
    """

    @staticmethod
    def forward(ctx: Any, function: Callable[..., tuple[torch.Tensor, ...]], *inputs: torch.Tensor | None) -> Any:
        ctx.function = function
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        return function(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        needed = ctx.needs_input_grad[1:]
        pairs = zip(ctx.saved_tensors, needed, strict=True)
        inputs = [x.detach().requires_grad_() if is_needed else x for x, is_needed in pairs]
        with torch.enable_grad():
            outputs = ctx.function(*inputs)
        reached = [k for k, gradient in enumerate(gradients) if gradient is not None]
        found = torch.autograd.grad(
            [outputs[k] for k in reached],
            [inputs[k] for k in range(len(inputs)) if needed[k]],
            [gradients[k] for k in reached],
            allow_unused=True,
        )
        in_turn = iter(found)
        return None, *(next(in_turn) if is_needed else None for is_needed in needed)


def _scales(alpha: float) -> tuple[float, float, float]:
    """Of the cumulated alpha: scales of the picture and of the noise, and the log of their ratio."""
    a, s = math.sqrt(alpha), math.sqrt(1 - alpha)
    return a, s, math.log(a / s)


def guided_noise(
    unet: UNet2DConditionModel,
    x: torch.Tensor,
    both: torch.Tensor,
    t: torch.Tensor,
    scale: float,
    precision: Precision,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate noise with classifier-free guidance, e_u + scale (e_c - e_u), both passes in one batch.

    Parameters
    ----------
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
    e, scale (e_c - e_u) : tensors of the shape of x
    """
    with autocast(precision, x.device):
        t = t.to(x.device, non_blocking=True)  # by itself the U-Net would wait for this copy
        e_unconditional, e_text = unet(torch.cat([x, x]), t, both).sample.to(x.dtype).chunk(2)
    by_text = scale * (e_text - e_unconditional)
    return e_unconditional + by_text, by_text


def guided_step(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    x: torch.Tensor,
    both: torch.Tensor,
    t: torch.Tensor,
    scale: float,
    precision: Precision,
) -> torch.Tensor:
    """One DDIM step (eta 0) with classifier-free guidance: from x to latents at the next lower timestep.

    `scheduler` has its timesteps set; the other parameters are those of `guided_noise`.
    """
    e, _ = guided_noise(unet, x, both, t, scale, precision)
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
        unet.compile(dynamic=False)
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
    drawn = torch.stack(draws)
    if device.type == "cuda":  # from such memory a copy is not waited for
        drawn = drawn.pin_memory()
    return drawn.to(device, non_blocking=True)
