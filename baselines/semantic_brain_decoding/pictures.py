"""Stable Diffusion from a label alone, with the sampler of its own release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffusers import PNDMScheduler, StableDiffusionPipeline

from minddiffuser.pretrained.stable_diffusion import (
    open_safety_checker,
    open_scheduler,
    open_text_encoder,
    open_unet,
    open_vae,
)

if TYPE_CHECKING:
    import torch

    from minddiffuser.config.method import Models


def open_text_to_image(models: Models, safety_checker: bool, device: torch.device) -> StableDiffusionPipeline:
    """Put together diffusers' pipeline from Stable Diffusion as this project opens it.

    The sampler is PNDM as Stable Diffusion v1 was released with, which the authors' code takes without naming it.

    Parameters
    ----------
    models : Models
    safety_checker : bool
        With the checker that makes pictures black; `nsfw_content_detected` of what the pipeline returns says which.
    device : torch.device
    """
    source = (models.stable_diffusion, models.stable_diffusion_revision)
    tokenizer, text_encoder = open_text_encoder(*source, device)
    schedule: Any = open_scheduler(*source).config
    checker, extractor = open_safety_checker(models, device) if safety_checker else (None, None)
    pipeline = StableDiffusionPipeline(
        vae=open_vae(*source, device),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=open_unet(*source, device),
        scheduler=PNDMScheduler.from_config(schedule, skip_prk_steps=True),  # type: ignore[arg-type]
        safety_checker=checker,  # type: ignore[arg-type]
        feature_extractor=extractor,  # type: ignore[arg-type]
        requires_safety_checker=safety_checker,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
